//! Clients' requests and the browser's answers.

use std::time::Instant;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;

use super::held::Hold;
use super::{Answer, Arriving, Driver, Failure, LAST_ID, Pending, Reply, Request, Then, Upstream};
use super::{Session, session_id};
use crate::cdp::downloads::Wishes;
use crate::cdp::hub::take_downloads;
use crate::cdp::message::{Message, code, empty, error_payload, payload};
use crate::cdp::policy::{self, Refusal, Verdict};
use crate::cdp::{ClientKind, download_dir};
use crate::id::ClientId;

impl Driver {
    /// Checks a client's request, and answers it or passes it on.
    pub(super) fn request(&mut self, request: Request) {
        let Some(request) = self.withhold(request) else {
            return;
        };
        let Request {
            client,
            session,
            method,
            params,
            reply,
            slot,
            room,
        } = request;
        let Some(member) = self.clients.get(&client) else {
            return;
        };
        let session = match session {
            None => member.root.clone(),
            // The root session's id is never told, so naming it is guessing.
            Some(named) if named == member.root || self.owner(&named) != Some(client) => {
                let error = error_payload(code::NO_SESSION, "Session with given id not found.");
                self.answer(Some(client), reply, Err(Failure(error)));
                return;
            }
            Some(named) => named,
        };
        let hub = &self.hub;
        let mut params = params;
        let config = &self.shared.config;
        let mut verdict = policy::check(&method, params.as_deref(), config, &|p| hub.allows(p));
        let capture = verdict == Ok(Verdict::Capture);
        if capture && let Some(message) = self.capture_refused(&method) {
            let code = code::SERVER;
            verdict = Err(Refusal { code, message });
        }
        if let Some(message) = self.behind_dialog(client, &session, &method)
            && verdict.is_ok()
        {
            let code = code::SERVER;
            verdict = Err(Refusal { code, message });
        }
        if method == "Target.createTarget"
            && verdict.is_ok()
            && self.shared.board().pages.entries().len() >= self.shared.config.max_pages
        {
            let message = format!(
                "{} pages are open in this browser (cdp.max_pages): close one first",
                self.shared.config.max_pages
            );
            let code = code::SERVER;
            verdict = Err(Refusal { code, message });
        }
        let Some(member) = self.clients.get(&client) else {
            return;
        };
        let is_own = member.kind.is_own();
        self.recordings.ended_by(&session, &method);
        let then = match verdict {
            Err(refusal) => {
                tracing::debug!(client_id = %client, kind = member.kind.name(), "request refused");
                let error = error_payload(refusal.code, &refusal.message);
                self.answer(Some(client), reply, Err(Failure(error)));
                return;
            }
            Ok(Verdict::Close) => {
                self.answer(Some(client), reply, Ok(empty()));
                self.close(client);
                return;
            }
            Ok(Verdict::Downloads(wish)) => {
                let fallback = download_dir().join(format!("client-{client}"));
                let files = self.shared.files.clone();
                if let Some(member) = self.clients.get_mut(&client) {
                    Wishes::set(&mut member.wishes, wish, &*files, &fallback);
                }
                self.answer(Some(client), reply, Ok(empty()));
                return;
            }
            Ok(Verdict::Activate(target)) => {
                self.hub.set_active_page(&target);
                Then::Nothing
            }
            Ok(Verdict::BringToFront) => {
                if let Some(target) = self.sessions.get(&session).map(|s| s.target.clone()) {
                    self.hub.set_active_page(&target);
                }
                Then::Nothing
            }
            Ok(Verdict::CloseTarget(target)) => {
                self.closing(&target);
                Then::Nothing
            }
            Ok(Verdict::ClosePage) => {
                if let Some(target) = self.sessions.get(&session).map(|s| s.target.clone()) {
                    self.closing(&target);
                }
                Then::Nothing
            }
            Ok(Verdict::Resume) => {
                if self.let_go(&session) {
                    self.answer(Some(client), reply, Ok(empty()));
                    return;
                }
                Then::Nothing
            }
            Ok(Verdict::Forward | Verdict::Capture) => Then::Nothing,
            Ok(Verdict::Record(kind, other)) => {
                // The daemon's own code ends what it begins.
                if !is_own {
                    self.recordings
                        .began(Instant::now(), client, &session, kind);
                }
                if let Some(other) = other {
                    params = Some(Bytes::from(other));
                }
                Then::Nothing
            }
            Ok(Verdict::Instead(other)) => {
                params = Some(Bytes::from(other));
                Then::Nothing
            }
            Ok(Verdict::Attach) => Then::Attach,
            Ok(Verdict::ListTargets) => Then::ListTargets,
            Ok(Verdict::CreateContext) => Then::CreateContext,
            Ok(Verdict::Enumerate) if session == member.root && member.arriving.is_none() => {
                Then::Enumerate
            }
            Ok(Verdict::Enumerate) => Then::Nothing,
        };
        let enumerate = matches!(then, Then::Enumerate);
        let pending = Pending {
            client: Some(client),
            session: Some(session),
            reply,
            then,
            _slot: slot,
        };
        let captured = capture.then(|| method.clone());
        let id = self.forward(method, params, pending, room);
        if let (Some(id), Some(method)) = (id, captured) {
            self.captures.began(Instant::now(), id, method);
        }
        if let Some(id) = id
            && enumerate
            && let Some(member) = self.clients.get_mut(&client)
        {
            member.arriving = Some(Arriving {
                until: id,
                news: Vec::new(),
                bytes: 0,
            });
        }
    }

    fn owner(&self, session: &str) -> Option<ClientId> {
        self.sessions.get(session)?.owner
    }

    /// Lets a client go after what is queued for it.
    fn close(&mut self, client: ClientId) {
        if let Some(member) = self.clients.get_mut(&client) {
            // Not cancelled: its task writes what is queued, and ends by itself.
            member.ended = tokio_util::sync::CancellationToken::new();
        }
        self.disconnect(client);
    }

    /// Sends a request to the browser under an id of the hub's; answers it when that fails.
    pub(super) fn forward(
        &mut self,
        method: String,
        params: Option<Bytes>,
        pending: Pending,
        room: Option<OwnedSemaphorePermit>,
    ) -> Option<i64> {
        let id = self.allocate();
        let message = Message::request(id, pending.session.clone(), method, params);
        match self.to_browser.try_send(Upstream {
            message,
            _room: room,
        }) {
            Ok(()) => {
                self.pending.insert(id, pending);
                Some(id)
            }
            Err(_) => {
                let error = error_payload(code::SERVER, "the browser is not taking requests");
                self.finish(pending, Err(Failure(error)));
                None
            }
        }
    }

    fn allocate(&mut self) -> i64 {
        loop {
            self.last_id = if self.last_id >= LAST_ID {
                1
            } else {
                self.last_id + 1
            };
            if !self.pending.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// The browser has answered.
    pub(super) fn answered(&mut self, id: i64, message: Message) {
        // Unknown: of a client that has gone.
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        let outcome = match message.error {
            Some(error) => Err(Failure(error)),
            None => Ok(message.result.unwrap_or_else(empty)),
        };
        if let (Some(client), Then::Enumerate) = (pending.client, &pending.then) {
            // Before the answer, as Chromium does: that is how Puppeteer knows it has seen all.
            self.arrive(client, id);
        }
        self.finish(pending, outcome);
    }

    pub(super) fn finish(&mut self, pending: Pending, mut outcome: Answer) {
        let Pending {
            client,
            session,
            reply,
            then,
            _slot,
        } = pending;
        match then {
            Then::Nothing | Then::Enumerate => {}
            Then::Look => {
                if let Ok(result) = &outcome {
                    self.described(result);
                }
            }
            // It may have loaded before, which no event has told then.
            Then::Watch(target) => self.look(&target),
            Then::Settle(target) => self.settle(&target),
            Then::Connect(connecting) => return self.connected(*connecting, &outcome),
            Then::Attach => {
                if let (Some(client), Ok(result)) = (client, &outcome)
                    && let Some(id) = session_id(result)
                {
                    // `attachToTarget` was told of by an event before, with its target.
                    if !self.sessions.contains_key(&id) {
                        let owner = Some(client);
                        let new = Session {
                            owner,
                            target: String::new(),
                            parent: session,
                            hold: Hold::No,
                        };
                        self.add_session(client, id, new);
                    }
                }
            }
            Then::ListTargets => {
                if let Ok(result) = &mut outcome
                    && let Some(sorted) = self.active_first(result)
                {
                    *result = sorted;
                }
            }
            Then::CreateContext => {
                if let Ok(result) = &outcome
                    && let Ok(new) = serde_json::from_slice::<NewContext>(result)
                {
                    let params = take_downloads(Some(&new.browser_context_id));
                    self.own(None, "Browser.setDownloadBehavior", Some(payload(&params)));
                }
            }
        }
        self.answer(client, reply, outcome);
    }

    /// Gives an answer to whoever asked.
    pub(super) fn answer(&mut self, client: Option<ClientId>, reply: Reply, outcome: Answer) {
        match reply {
            Reply::Queue { id, session } => {
                let outcome = outcome.map_err(|failure| failure.0);
                if let Some(client) = client {
                    self.deliver(client, Message::response(id, session, outcome));
                }
            }
            // The caller may have given up.
            Reply::Call(reply) => drop(reply.send(outcome)),
            Reply::Nobody => {}
        }
    }

    /// Puts the active page first in a list of targets.
    fn active_first(&self, result: &Bytes) -> Option<Bytes> {
        let list: TargetList<'_> = serde_json::from_slice(result).ok()?;
        let active = self.hub.active_page().target_id;
        let mut targets: Vec<(&RawValue, bool)> = list
            .target_infos
            .into_iter()
            .map(|raw| (raw, target_id(raw).is_none_or(|id| id != active)))
            .collect();
        targets.sort_by_key(|(_, later)| *later);
        let texts: Vec<&str> = targets.iter().map(|(raw, _)| raw.get()).collect();
        Some(Bytes::from(format!(
            "{{\"targetInfos\":[{}]}}",
            texts.join(",")
        )))
    }

    /// Delivers the news of targets kept since the request `id`, which has been answered.
    fn arrive(&mut self, client: ClientId, id: i64) {
        let active = self.hub.active_page().target_id;
        let Some(member) = self.clients.get_mut(&client) else {
            return;
        };
        match member.arriving.take() {
            Some(Arriving {
                until, mut news, ..
            }) if until == id => {
                // Stable: otherwise in the browser's order.
                news.sort_by_key(|event| {
                    let target = event.params.as_ref().and_then(|params| {
                        let told: Told<'_> = serde_json::from_slice(params).ok()?;
                        target_id(told.target_info)
                    });
                    target.is_none_or(|target| target != active)
                });
                for event in news {
                    self.deliver(client, event);
                }
            }
            other => member.arriving = other,
        }
    }

    /// Makes a session a client's.
    pub(super) fn add_session(&mut self, client: ClientId, id: String, session: Session) {
        let Some(member) = self.clients.get_mut(&client) else {
            return;
        };
        member.sessions += 1;
        let too_many = member.sessions > super::MAX_SESSIONS;
        self.sessions.insert(id, session);
        if too_many {
            tracing::warn!(client_id = %client, "client disconnected: it has too many sessions");
            self.disconnect(client);
        }
    }

    /// Delivers what was held from clients that may see it now.
    pub(super) fn release_held(&mut self) {
        let board = self.shared.board();
        let sees = |kind: &ClientKind| board.sees_dialogs(kind);
        let (sessions, clients) = (&self.sessions, &self.clients);
        let owner = |session: &str| sessions.get(session).and_then(|session| session.owner);
        let visible = |session: &str| {
            owner(session)
                .and_then(|id| clients.get(&id))
                .is_some_and(|m| sees(&m.kind))
        };
        let hold = self.shared.config.dialog_hold;
        let released = self.dialogs.release(Instant::now(), hold, visible);
        drop(board);
        for (session, event) in released {
            if let Some(client) = self.owner(&session) {
                self.deliver_event(client, &session, event);
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewContext {
    browser_context_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetList<'a> {
    #[serde(borrow)]
    target_infos: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    #[serde(borrow)]
    target_info: &'a RawValue,
}

fn target_id(info: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        target_id: String,
    }
    serde_json::from_str::<Info>(info.get())
        .ok()
        .map(|info| info.target_id)
}
