//! The browser's events: to their owner, and what the hub itself reads out of them.

use std::time::Instant;

use serde::Deserialize;

use super::held::Hold;
use super::{Driver, Session, Then, session_id};
use crate::cdp::message::Message;
use crate::cdp::{Dialog, HubEvent, MAX_DIALOG_TEXT, Page};
use crate::id::ClientId;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    session_id: String,
    target_info: TargetInfo,
    #[serde(default)]
    waiting_for_debugger: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    target_info: TargetInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetInfo {
    target_id: String,
    r#type: String,
    title: String,
    url: String,
    browser_context_id: Option<String>,
    opener_id: Option<String>,
    /// Set for pages nobody looks at yet (prerendering).
    #[serde(default)]
    subtype: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opening {
    message: String,
    r#type: String,
    #[serde(default)]
    default_prompt: Option<String>,
}

impl From<Opening> for Dialog {
    fn from(opening: Opening) -> Self {
        let cut = |mut text: String| {
            text.truncate(text.floor_char_boundary(MAX_DIALOG_TEXT));
            text
        };
        Self {
            id: 0,
            kind: cut(opening.r#type),
            message: cut(opening.message),
            value: cut(opening.default_prompt.unwrap_or_default()),
        }
    }
}

#[derive(Deserialize)]
struct FrameNavigated {
    frame: Frame,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame {
    url: String,
    parent_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WithinDocument {
    frame_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetId {
    target_id: String,
}

pub(super) fn read<'a, T: Deserialize<'a>>(message: &'a Message) -> Option<T> {
    let params = message.params.as_deref()?;
    match serde_json::from_slice(params) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(%error, method = message.method, "an event was not understood");
            None
        }
    }
}

impl Driver {
    pub(super) fn event(&mut self, message: Message) {
        let Some(session) = &message.session else {
            return self.own_event(&message);
        };
        // Unknown: of a client that has gone.
        let Some(known) = self.sessions.get(session) else {
            return;
        };
        match known.owner {
            Some(client) => self.client_event(client, message),
            None => {
                let target = known.target.clone();
                self.page_event(&target, &message);
            }
        }
    }

    fn client_event(&mut self, client: ClientId, mut message: Message) {
        let Some(session) = message.session.take() else {
            return;
        };
        match message.method.as_deref().unwrap_or_default() {
            "Target.attachedToTarget" => {
                let Some(attached) = read::<Attached>(&message) else {
                    return;
                };
                self.attached(client, &session, attached);
                if self.kept(client, &session, &message) {
                    return;
                }
            }
            "Target.targetCreated" if self.kept(client, &session, &message) => return,
            "Target.detachedFromTarget" => {
                if let Some(id) = message.params.as_deref().and_then(session_id) {
                    self.forget_session(&id);
                }
            }
            "Page.javascriptDialogOpening" if !self.sees_dialogs(client) => {
                return self.dialogs.hold_dialog(&session, message);
            }
            "Page.javascriptDialogClosed" if !self.dialogs.closed_for(&session) => return,
            "Page.fileChooserOpened" if !self.sees_dialogs(client) => {
                return self.dialogs.hold_chooser(&session, message, Instant::now());
            }
            // The hub tells of downloads itself.
            "Browser.downloadWillBegin" | "Browser.downloadProgress" => return,
            _ => {}
        }
        self.deliver_event(client, &session, message);
    }

    /// Queues an event, its session as the client knows it.
    pub(super) fn deliver_event(&mut self, client: ClientId, session: &str, mut message: Message) {
        let Some(member) = self.clients.get(&client) else {
            return;
        };
        message.session = (session != member.root).then(|| session.to_owned());
        self.deliver(client, message);
    }

    fn sees_dialogs(&self, client: ClientId) -> bool {
        let member = self.clients.get(&client);
        member.is_some_and(|member| self.shared.board().sees_dialogs(&member.kind))
    }

    /// Keeps news of targets while the client's first look at them is being answered.
    fn kept(&mut self, client: ClientId, session: &str, message: &Message) -> bool {
        let Some(member) = self.clients.get_mut(&client) else {
            return false;
        };
        let Some(arriving) = member.arriving.as_mut().filter(|_| session == member.root) else {
            return false;
        };
        arriving.bytes += message.size();
        if arriving.bytes > self.shared.config.client_queue.as_usize() {
            tracing::warn!(client_id = %client, "client disconnected: too much news of targets");
            self.disconnect(client);
        } else {
            arriving.news.push(message.clone());
        }
        true
    }

    fn attached(&mut self, client: ClientId, parent: &str, attached: Attached) {
        let hold = match attached.waiting_for_debugger {
            true => Hold::Held,
            false => Hold::No,
        };
        if hold == Hold::Held {
            self.paused
                .push_back((Instant::now(), attached.session_id.clone()));
        }
        let session = Session {
            owner: Some(client),
            target: attached.target_info.target_id,
            parent: Some(parent.to_owned()),
            hold,
        };
        self.add_session(client, attached.session_id, session);
    }

    /// A session has ended, and those below it.
    fn forget_session(&mut self, id: &str) {
        let mut ended = vec![id.to_owned()];
        while let Some(id) = ended.pop() {
            let below = self.sessions.iter();
            let below = below.filter(|(_, session)| session.parent.as_deref() == Some(&id));
            ended.extend(below.map(|(id, _)| id.clone()));
            let Some(session) = self.sessions.remove(&id) else {
                continue;
            };
            self.dialogs.forget(&id);
            self.recordings.forget(&id);
            self.pending
                .retain(|_, pending| pending.session.as_deref() != Some(&id));
            let member = session
                .owner
                .and_then(|client| self.clients.get_mut(&client));
            if let Some(member) = member {
                member.sessions = member.sessions.saturating_sub(1);
            }
            if session.hold != Hold::No {
                self.settle(&session.target);
            }
        }
    }

    /// An event of the hub's own connection.
    fn own_event(&mut self, message: &Message) {
        match message.method.as_deref().unwrap_or_default() {
            "Target.targetCreated" | "Target.targetInfoChanged" => {
                if let Some(told) = read::<Told>(message) {
                    self.seen(told.target_info);
                }
            }
            "Target.targetDestroyed" => {
                if let Some(gone) = read::<TargetId>(message) {
                    self.page_closed(&gone.target_id);
                }
            }
            "Target.targetCrashed" => {
                if let Some(gone) = read::<TargetId>(message)
                    && let Some(entry) = self.shared.board().pages.get_mut(&gone.target_id)
                {
                    entry.crashed = true;
                }
            }
            "Target.attachedToTarget" => {
                if let Some(attached) = read::<Attached>(message) {
                    self.hub_attached(attached);
                }
            }
            "Target.detachedFromTarget" => {
                if let Some(id) = message.params.as_deref().and_then(session_id) {
                    self.hub_detached(&id);
                }
            }
            "Browser.downloadWillBegin" => self.download_began(message),
            "Browser.downloadProgress" => self.download_progress(message),
            _ => {}
        }
    }

    fn seen(&mut self, info: TargetInfo) {
        if info.r#type != "page" || info.subtype.is_some_and(|subtype| !subtype.is_empty()) {
            return;
        }
        // A page that has loaded nothing yet is blank.
        let url = match info.url.as_str() {
            "" => "about:blank".to_owned(),
            _ => info.url,
        };
        let page = Page::new(info.target_id, url, info.title);
        let target = page.target_id.clone();
        let mut board = self.shared.board();
        board.shown(&page.url);
        let known = board.pages.get(&target).is_some();
        let events = board.pages.seen(page, info.browser_context_id);
        if !known && let Some(entry) = board.pages.get_mut(&target) {
            entry.opener = info.opener_id;
        }
        let too_many = !known && board.pages.entries().len() > self.shared.config.max_pages;
        if too_many && let Some(entry) = board.pages.get_mut(&target) {
            tracing::debug!("a page too many: closed");
            entry.closing = true;
        }
        drop(board);
        if !events.is_empty() {
            self.shared.tell(events);
        }
    }

    /// An answer of `Target.getTargetInfo`.
    pub(super) fn described(&mut self, result: &[u8]) {
        if let Ok(told) = serde_json::from_slice::<Told>(result) {
            // Closed meanwhile: must not come back.
            let known = self
                .shared
                .board()
                .pages
                .get(&told.target_info.target_id)
                .is_some();
            if known {
                self.seen(told.target_info);
            }
        }
    }

    fn page_closed(&mut self, target: &str) {
        let mut board = self.shared.board();
        let events = board.pages.closed(target);
        let none_left = board.pages.active().is_none();
        drop(board);
        if events.is_empty() {
            return;
        }
        self.dialogs.closed(target);
        self.shared.tell(events);
        if none_left {
            let hub = self.hub.clone();
            self.shared
                .tasks
                .spawn(async move { hub.replace_last_page().await });
        }
    }

    /// The hub's session on a page, by auto-attach; or a page client's root session, whose owner
    /// is known when its request is answered.
    fn hub_attached(&mut self, attached: Attached) {
        let target = attached.target_info.target_id.clone();
        let id = attached.session_id.clone();
        self.seen(attached.target_info);
        let session = Session {
            owner: None,
            target: target.clone(),
            parent: None,
            hold: Hold::No,
        };
        self.sessions.insert(id.clone(), session);
        let mut board = self.shared.board();
        match board.pages.get_mut(&target) {
            Some(entry) if entry.session.is_none() => entry.session = Some(id.clone()),
            _ => return,
        }
        let closing = board.pages.get(&target).is_some_and(|entry| entry.closing);
        drop(board);
        if closing {
            self.close_page(&target);
        } else {
            self.look_who_holds(&target);
        }
        // To be told of dialogs. A page without any such session closes its dialogs at once.
        self.ask(Some(id), "Page.enable", None, Then::Watch(target));
        self.shared.tell(None::<HubEvent>);
    }

    fn hub_detached(&mut self, id: &str) {
        let root_of = self
            .clients
            .iter()
            .find(|(_, member)| member.root == id)
            .map(|(id, _)| *id);
        if let Some(client) = root_of {
            // Its page has closed.
            self.disconnect(client);
        }
        let target = self.sessions.get(id).map(|session| session.target.clone());
        self.forget_session(id);
        if let Some(target) = target
            && let Some(entry) = self.shared.board().pages.get_mut(&target)
            && entry.session.as_deref() == Some(id)
        {
            entry.session = None;
        }
    }

    /// An event of the hub's session on a page.
    fn page_event(&mut self, target: &str, message: &Message) {
        let open = match message.method.as_deref().unwrap_or_default() {
            "Page.javascriptDialogOpening" => {
                let opening = read::<Opening>(message);
                let id = self.dialogs.opened(target, Instant::now());
                let dialog = opening.map(Dialog::from).unwrap_or_default();
                Some(Dialog { id, ..dialog })
            }
            "Page.javascriptDialogClosed" => {
                self.dialogs.closed(target);
                None
            }
            "Page.loadEventFired" => return self.look(target),
            "Page.frameNavigated" => {
                if let Some(FrameNavigated { frame }) = read(message) {
                    let mut board = self.shared.board();
                    board.shown(&frame.url);
                    board.navigations += u64::from(frame.parent_id.is_none());
                }
                return;
            }
            "Page.navigatedWithinDocument" => {
                // A page's own frame has the page's id.
                if read(message).is_some_and(|told: WithinDocument| told.frame_id == target) {
                    self.shared.board().navigations += 1;
                }
                return;
            }
            _ => return,
        };
        if let Some(entry) = self.shared.board().pages.get_mut(target) {
            entry.dialog = open.is_some();
            entry.asks = open;
        }
        self.shared.tell(None::<HubEvent>);
    }
}
