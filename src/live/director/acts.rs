//! What people do, as the browser is told of it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{BUSY, Director, Done, MAX_ANSWERS, What};
use crate::cdp;
use crate::live::files::UPLOADS;
use crate::live::message::{Button, FromViewer, Mouse, MouseKind, Tab};
use crate::live::stage::{Command, Reply};
use crate::live::{input, keys};

/// Input that the page has not answered, beyond which movements are left out: it would only fall
/// further behind.
const MAX_MOVES: usize = 8;
/// And beyond which all input is.
const MAX_INPUTS: usize = 256;
const DRAG: &str = "Input.dispatchDragEvent";
/// Frames asked for what is selected in them.
const COPIED_FROM: usize = 16;
/// How long nothing else is done for a copy: a page with a dialog open answers nothing.
const COPY_LIMIT: Duration = Duration::from_secs(2);
/// Answers waited for beyond which everything is: the rest is for what the director asks itself.
const MAX_ACTS: usize = MAX_ANSWERS / 2;

/// The reading of what is selected.
#[derive(Debug)]
pub(super) struct Copying {
    reply: Reply,
    /// Frames that have not answered; none is asked before the page has had all input.
    left: Option<usize>,
    until: Instant,
}

impl Director {
    /// Does what a person does.
    pub(super) async fn act(&mut self, command: Command) -> Result<(), cdp::Error> {
        let Command {
            act,
            reply,
            viewer,
            holder,
        } = command;
        if self.answers.len() >= MAX_ACTS {
            reply.note(BUSY);
            return Ok(());
        }
        self.held.did(viewer, &act);
        self.perform(act, reply).await?;
        // It may have gone, or control have changed, since it did this.
        if !self.stage.is_here(viewer) {
            self.stage.looked.notify_one();
        }
        let is_late = self.holder != holder;
        self.let_go(|held| is_late && held == viewer).await
    }

    async fn perform(&mut self, act: FromViewer, reply: Reply) -> Result<(), cdp::Error> {
        match act {
            FromViewer::Mouse(mouse) => self.mouse(&mouse, &reply).await,
            FromViewer::Touch(touch) => {
                self.input("Input.dispatchTouchEvent", input::touch(&touch), &reply)
                    .await
            }
            FromViewer::Key(key) => {
                self.input("Input.dispatchKeyEvent", keys::event(&key), &reply)
                    .await
            }
            FromViewer::Text { text } => {
                self.input("Input.insertText", json!({ "text": text }), &reply)
                    .await
            }
            FromViewer::Compose { text, start, end } => {
                let params = json!({ "text": text, "selectionStart": start, "selectionEnd": end });
                self.input("Input.imeSetComposition", params, &reply).await
            }
            FromViewer::Navigate { url } => match input::url(&url) {
                Ok(url) => {
                    let params = json!({ "url": url });
                    self.tell_page("Page.navigate", params, What::Told(reply))
                        .await
                }
                Err(why) => {
                    reply.note(&why);
                    Ok(())
                }
            },
            FromViewer::History { by } => {
                let what = What::Step(by.clamp(-1, 1));
                self.tell_page("Page.getNavigationHistory", json!({}), what)
                    .await
            }
            FromViewer::Reload => {
                self.tell_page("Page.reload", json!({}), What::Told(reply))
                    .await
            }
            FromViewer::Stop => {
                self.tell_page("Page.stopLoading", json!({}), What::Told(reply))
                    .await
            }
            FromViewer::Tab(tab) => self.tab(tab, reply).await,
            FromViewer::Dialog { id, accept, text } => {
                self.answer_dialog(id, accept, text, reply);
                Ok(())
            }
            FromViewer::Select { id, values } => self.select(id, values).await,
            FromViewer::Chosen { id, paths } => self.chosen(id, paths, reply).await,
            FromViewer::Resize { width, height } => {
                let size = input::viewport(width, height);
                self.viewport = Some(size);
                self.resize(size).await
            }
            FromViewer::Copy => self.copy(reply).await,
            // Not of the page.
            FromViewer::Hello { .. }
            | FromViewer::Ack { .. }
            | FromViewer::Size(_)
            | FromViewer::Visible { .. }
            | FromViewer::Control { .. } => Ok(()),
        }
    }

    async fn input(
        &mut self,
        method: &'static str,
        params: serde_json::Value,
        reply: &Reply,
    ) -> Result<(), cdp::Error> {
        if self.session().is_none() {
            return Ok(());
        }
        if self.inputs >= MAX_INPUTS {
            reply.note(BUSY);
            return Ok(());
        }
        self.inputs += 1;
        self.tell_page(method, params, What::Input).await
    }

    async fn mouse(&mut self, mouse: &Mouse, reply: &Reply) -> Result<(), cdp::Error> {
        self.pointer = (mouse.x, mouse.y);
        if mouse.kind == MouseKind::Move && self.inputs >= MAX_MOVES {
            return Ok(());
        }
        let is_left = mouse.button == Button::Left;
        match (mouse.kind, self.drag.take()) {
            // Chromium would hand what is dragged to a desktop that is not there.
            (MouseKind::Down, _) if is_left => {
                self.intercept_drags(true).await?;
            }
            (MouseKind::Move, Some((data, is_known))) => {
                if !is_known {
                    let enter = input::drag("dragEnter", mouse, &data);
                    self.input(DRAG, enter, reply).await?;
                }
                let over = input::drag("dragOver", mouse, &data);
                self.drag = Some((data, true));
                return self.input(DRAG, over, reply).await;
            }
            (MouseKind::Up, drag) if is_left => {
                if let Some((data, _)) = drag {
                    let drop = input::drag("drop", mouse, &data);
                    self.input(DRAG, drop, reply).await?;
                }
                let up = input::mouse(mouse);
                self.input("Input.dispatchMouseEvent", up, reply).await?;
                return self.intercept_drags(false).await;
            }
            (_, drag) => self.drag = drag,
        }
        let event = input::mouse(mouse);
        self.input("Input.dispatchMouseEvent", event, reply).await
    }

    async fn intercept_drags(&mut self, enabled: bool) -> Result<(), cdp::Error> {
        let params = json!({ "enabled": enabled });
        self.tell_page("Input.setInterceptDrags", params, What::Nothing)
            .await
    }

    /// What lets go of all that some viewers hold down; it counts as done.
    pub(super) fn ups(&mut self, whose: impl Fn(u64) -> bool) -> Vec<(&'static str, Value)> {
        let mut ups = Vec::new();
        for viewer in self.held.viewers() {
            if !whose(viewer) {
                continue;
            }
            for act in self.held.let_go(viewer, self.pointer) {
                match act {
                    FromViewer::Mouse(mouse) => {
                        let is_left = mouse.button == Button::Left;
                        let drag = self.drag.take_if(|_| is_left);
                        if let Some((data, true)) = drag {
                            ups.push((DRAG, input::drag("dragCancel", &mouse, &data)));
                        }
                        ups.push(("Input.dispatchMouseEvent", input::mouse(&mouse)));
                        if is_left {
                            ups.push(("Input.setInterceptDrags", json!({ "enabled": false })));
                        }
                    }
                    FromViewer::Touch(touch) => {
                        ups.push(("Input.dispatchTouchEvent", input::touch(&touch)));
                    }
                    FromViewer::Key(key) => ups.push(("Input.dispatchKeyEvent", keys::event(&key))),
                    _ => {}
                }
            }
        }
        ups
    }

    /// Has the page let go of it.
    pub(super) async fn let_go(&mut self, whose: impl Fn(u64) -> bool) -> Result<(), cdp::Error> {
        for (method, params) in self.ups(whose) {
            self.tell_page(method, params, What::Nothing).await?;
        }
        Ok(())
    }

    async fn tab(&mut self, tab: Tab, reply: Reply) -> Result<(), cdp::Error> {
        let (method, params) = match tab {
            Tab::Activate { id } => ("Target.activateTarget", json!({ "targetId": id })),
            Tab::Close { id } => ("Target.closeTarget", json!({ "targetId": id })),
            Tab::New => ("Target.createTarget", json!({ "url": "about:blank" })),
        };
        // Of pages only: the browser has other targets too.
        let pages = self.hub.pages();
        let named = params["targetId"].as_str();
        if named.is_some_and(|named| !pages.iter().any(|page| page.target_id == named)) {
            reply.note("that tab has closed");
            return Ok(());
        }
        if named == Some(&self.active) {
            // Already active, but behind a popup.
            self.popups.clear();
            self.follow().await?;
        }
        self.ask(None, method, params, What::Told(reply)).await
    }

    fn answer_dialog(&mut self, id: u64, accept: bool, text: Option<String>, reply: Reply) {
        let Some(target) = self.shown.as_ref().map(|shown| shown.target.clone()) else {
            return;
        };
        // The next one may be open before the browser has said that this one has closed.
        let is_open = self.hub.dialog(&target).is_some_and(|open| open.id == id);
        if !is_open || self.answered == Some(id) {
            reply.note("that dialog is answered already");
            return;
        }
        self.answered = Some(id);
        let hub = self.hub.clone();
        // By the hub, which was there when it opened.
        let answer = async move {
            let answered = hub.answer_dialog(&target, accept, text.as_deref()).await;
            Done {
                session: None,
                what: What::Told(reply),
                opens: false,
                answer: answered.map(|()| Bytes::new()),
            }
        };
        self.answers.push(answer.boxed());
    }

    async fn select(&mut self, id: u64, values: Option<Vec<u32>>) -> Result<(), cdp::Error> {
        let open = self.shown.as_mut().and_then(|shown| {
            let is_open = shown.select.is_some_and(|(open, ..)| open == id);
            is_open.then(|| shown.select.take()).flatten()
        });
        let Some((_, world, inner)) = open else {
            return Ok(());
        };
        self.show(|scene| scene.select = None);
        let index = values.and_then(|values| values.first().copied());
        let params = json!({
            "contextId": world,
            "expression": format!("globalThis.pagebox?.choose({inner}, {})", json!(index)),
            "userGesture": true,
        });
        self.tell_page("Runtime.evaluate", params, What::Nothing)
            .await
    }

    async fn chosen(
        &mut self,
        id: u64,
        paths: Vec<String>,
        reply: Reply,
    ) -> Result<(), cdp::Error> {
        let open = self.shown.as_mut().and_then(|shown| {
            let is_open = shown.chooser.is_some_and(|(open, _)| open == id);
            is_open.then(|| shown.chooser.take()).flatten()
        });
        let Some((_, node)) = open else {
            return Ok(());
        };
        self.show(|scene| scene.chooser = None);
        if paths.is_empty() {
            return Ok(());
        }
        let is_uploaded = |path: &String| {
            let rest = path
                .strip_prefix(UPLOADS)
                .and_then(|rest| rest.strip_prefix('/'));
            rest.is_some_and(|rest| !rest.split('/').any(|part| part == ".."))
        };
        if !paths.iter().all(is_uploaded) {
            reply.note("only files that were uploaded here can be chosen");
            return Ok(());
        }
        let params = json!({ "files": paths, "backendNodeId": node });
        self.tell_page("DOM.setFileInputFiles", params, What::Told(reply))
            .await
    }

    /// Gives the page a viewport of this size, while somebody looks.
    pub(super) async fn resize(&mut self, (width, height): (u32, u32)) -> Result<(), cdp::Error> {
        let params = json!({
            "width": width, "height": height, "deviceScaleFactor": 0, "mobile": false,
        });
        self.tell_page("Emulation.setDeviceMetricsOverride", params, What::Nothing)
            .await?;
        self.shoot_soon();
        Ok(())
    }

    async fn copy(&mut self, reply: Reply) -> Result<(), cdp::Error> {
        self.copying = Some(Copying {
            reply,
            left: None,
            until: Instant::now() + COPY_LIMIT,
        });
        self.copy_after_input().await
    }

    /// Asks what is selected, once the page has had all input.
    pub(super) async fn copy_after_input(&mut self) -> Result<(), cdp::Error> {
        match &self.copying {
            Some(copying) if copying.left.is_none() && self.inputs == 0 => self.read().await,
            _ => Ok(()),
        }
    }

    /// A frame has said what is selected in it.
    pub(super) fn was_read(&mut self) {
        self.copying.take_if(|copying| {
            copying.left = copying.left.map(|left| left.saturating_sub(1));
            copying.left == Some(0)
        });
    }

    /// Waits no longer than [`COPY_LIMIT`].
    pub(super) async fn copy_in_time(&mut self) -> Result<(), cdp::Error> {
        let now = Instant::now();
        match &self.copying {
            Some(copying) if copying.until <= now => {
                if copying.left.is_none() {
                    self.read().await?;
                }
                self.copying = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn read(&mut self) -> Result<(), cdp::Error> {
        let worlds = self.shown.iter().flat_map(|shown| &shown.worlds);
        let worlds: Vec<i64> = worlds.rev().take(COPIED_FROM).copied().collect();
        let Some(copying) = &mut self.copying else {
            return Ok(());
        };
        copying.left = Some(worlds.len());
        let reply = copying.reply.clone();
        if worlds.is_empty() {
            self.copying = None;
        }
        for world in worlds {
            let params = json!({
                "contextId": world, "expression": "globalThis.pagebox?.selected() ?? ''",
                "returnByValue": true,
            });
            let what = What::Selection(reply.clone());
            self.tell_page("Runtime.evaluate", params, what).await?;
        }
        Ok(())
    }
}

/// Whether a page may open because of it: by a press, a key, or a new tab.
pub(super) fn may_open(method: &str, params: &serde_json::Value) -> bool {
    match method {
        "Input.dispatchMouseEvent" => {
            matches!(
                params["type"].as_str(),
                Some("mousePressed" | "mouseReleased")
            )
        }
        "Input.dispatchTouchEvent" | "Input.dispatchKeyEvent" | "Target.createTarget" => true,
        _ => false,
    }
}
