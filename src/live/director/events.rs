//! What the browser says: events, and answers.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Asking, BINDING, Director, Done, MAX_WORLDS, What};
use crate::cdp;
use crate::live::frame::Picture;
use crate::live::scene::{self, ChooserShown, DownloadShown, SelectShown};

/// Longest message of our script that is read, in bytes; a page's lists may have any length.
const MAX_TOLD: usize = 2 << 20;
/// Longest selection that is copied, in bytes.
const MAX_SELECTION: usize = 1 << 20;
/// Longest list of what a chooser takes, and name of a download, in bytes.
const MAX_TEXT: usize = 1024;

/// `Runtime.bindingCalled`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Called {
    name: String,
    payload: String,
    execution_context_id: i64,
}

/// What our script tells: one of these.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    here: bool,
    cursor: Option<String>,
    /// Null when it has closed.
    #[serde(default, deserialize_with = "present")]
    select: Option<Option<SelectTold>>,
}

/// Tells null from nothing.
fn present<'de, D: serde::Deserializer<'de>>(
    value: D,
) -> Result<Option<Option<SelectTold>>, D::Error> {
    Option::deserialize(value).map(Some)
}

#[derive(Deserialize)]
struct SelectTold {
    id: u64,
    /// Where in its frame the mouse was.
    at: Option<Place>,
    /// Where its frame is in the page.
    from: Option<Place>,
    r#box: BoxTold,
    options: Vec<OptionTold>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct Place {
    x: f64,
    y: f64,
}

#[derive(Deserialize)]
struct BoxTold {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

#[derive(Deserialize, serde::Serialize)]
struct OptionTold {
    label: String,
    group: Option<String>,
    selected: bool,
    disabled: bool,
}

/// `Page.fileChooserOpened`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChooserOpened {
    mode: String,
    backend_node_id: Option<i64>,
}

/// `Page.getNavigationHistory`'s answer: up to 50 entries, whose URLs may be of 2 MiB each.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct History<T> {
    current_index: usize,
    entries: Vec<T>,
}

#[derive(Deserialize)]
struct HistoryEntry {
    id: i64,
}

impl Director {
    /// Reads an event.
    pub(super) async fn event(
        &mut self,
        method: &str,
        session: Option<&str>,
        params: &str,
    ) -> Result<(), cdp::Error> {
        let Some(session) = session else {
            self.download(method, params);
            return Ok(());
        };
        if self.session().as_deref() != Some(session) {
            return Ok(());
        }
        match method {
            "Page.screencastFrame" => self.screencast(params).await,
            "Runtime.bindingCalled" => {
                self.told(params);
                Ok(())
            }
            "Page.fileChooserOpened" => self.chooser_opened(params).await,
            "Page.frameStartedLoading" | "Page.frameStoppedLoading" => {
                let event: Value = serde_json::from_str(params).unwrap_or_default();
                // A page's main frame has the id of its target.
                if !self.is_main(&event["frameId"]) {
                    return Ok(());
                }
                let loading = method == "Page.frameStartedLoading";
                self.show(|scene| scene.loading = loading);
                self.look_at_history().await
            }
            "Page.frameNavigated" => {
                let event: Value = serde_json::from_str(params).unwrap_or_default();
                if !self.is_main(&event["frame"]["id"]) {
                    return Ok(());
                }
                self.close_lists();
                self.look_at_history().await
            }
            "Page.navigatedWithinDocument" => {
                let event: Value = serde_json::from_str(params).unwrap_or_default();
                match self.is_main(&event["frameId"]) {
                    true => self.look_at_history().await,
                    false => Ok(()),
                }
            }
            "Input.dragIntercepted" => {
                let mut event: Value = serde_json::from_str(params).unwrap_or_default();
                self.drag = Some((event["data"].take(), false));
                Ok(())
            }
            "Inspector.targetCrashed" => {
                self.show(|scene| scene.crashed = true);
                Ok(())
            }
            "Inspector.targetReloadedAfterCrash" => {
                self.show(|scene| scene.crashed = false);
                self.cast_again().await
            }
            _ => Ok(()),
        }
    }

    fn is_main(&self, frame: &Value) -> bool {
        let shown = self.shown.as_ref();
        shown.is_some_and(|shown| frame == shown.target.as_str())
    }

    /// A page may change it as often as it likes, and each answer has all of it.
    pub(super) async fn look_at_history(&mut self) -> Result<(), cdp::Error> {
        let Some(shown) = &mut self.shown else {
            return Ok(());
        };
        if shown.history != Asking::No {
            shown.history = Asking::Again;
            return Ok(());
        }
        shown.history = Asking::Yes;
        self.tell_page("Page.getNavigationHistory", json!({}), What::History)
            .await
    }

    /// An answer to it.
    async fn history(&mut self, answer: Result<Bytes, cdp::Error>) -> Result<(), cdp::Error> {
        let answer = answer.map(|answer| serde_json::from_slice::<History<IgnoredAny>>(&answer));
        if let Ok(Ok(history)) = answer {
            self.show(|scene| {
                scene.back = history.current_index > 0;
                scene.forward = history.current_index + 1 < history.entries.len();
            });
        }
        let asking = self.shown.as_mut().map(|shown| &mut shown.history);
        match asking.map(|asking| std::mem::replace(asking, Asking::No)) {
            Some(Asking::Again) => self.look_at_history().await,
            _ => Ok(()),
        }
    }

    fn close_lists(&mut self) {
        if let Some(shown) = &mut self.shown {
            shown.select = None;
            shown.chooser = None;
        }
        self.show(|scene| {
            scene.select = None;
            scene.chooser = None;
        });
    }

    /// What our script tells. It is in the page's process, which is not trusted.
    fn told(&mut self, params: &str) {
        if params.len() > MAX_TOLD {
            return;
        }
        let called = serde_json::from_str::<Called>(params);
        let Ok(called) =
            called.map_err(|error| tracing::debug!(%error, "a call was not understood"))
        else {
            return;
        };
        if called.name != BINDING {
            return;
        }
        let Ok(told) = serde_json::from_str::<Told>(&called.payload) else {
            return;
        };
        let world = called.execution_context_id;
        if told.here
            && let Some(shown) = &mut self.shown
            && !shown.worlds.contains(&world)
        {
            if shown.worlds.len() >= MAX_WORLDS {
                shown.worlds.pop_front();
            }
            shown.worlds.push_back(world);
        }
        if let Some(cursor) = told.cursor.as_deref().and_then(scene::cursor) {
            self.show(|scene| cursor.clone_into(&mut scene.cursor));
        }
        match told.select {
            None => {}
            Some(None) => {
                if let Some(shown) = &mut self.shown
                    && shown.select.is_some_and(|(_, of, _)| of == world)
                {
                    shown.select = None;
                    self.show(|scene| scene.select = None);
                }
            }
            Some(Some(select)) => self.select_opened(world, select),
        }
    }

    fn select_opened(&mut self, world: i64, select: SelectTold) {
        self.last_id += 1;
        let id = self.last_id;
        // The mouse is at one place of the page and of the frame.
        let from = match select.at {
            Some(at) => Place {
                x: self.pointer.0 - at.x,
                y: self.pointer.1 - at.y,
            },
            None => select.from.unwrap_or_default(),
        };
        let BoxTold {
            x,
            y,
            width,
            height,
        } = select.r#box;
        if let Some(shown) = &mut self.shown {
            shown.select = Some((id, world, select.id));
        }
        let list = SelectShown {
            id,
            frame: [x + from.x, y + from.y, width, height],
            options: json!(select.options),
        };
        self.show(|scene| scene.select = Some(list));
    }

    async fn chooser_opened(&mut self, params: &str) -> Result<(), cdp::Error> {
        let Ok(opened) = serde_json::from_str::<ChooserOpened>(params) else {
            return Ok(());
        };
        // Without an input (a script's own picker) there is nothing to put files into.
        let Some(node) = opened.backend_node_id else {
            return Ok(());
        };
        let multiple = opened.mode == "selectMultiple";
        let params = json!({ "backendNodeId": node });
        self.tell_page("DOM.describeNode", params, What::Chooser { node, multiple })
            .await
    }

    /// An event of downloads, which the hub tells.
    fn download(&mut self, method: &str, params: &str) {
        let is_begin = method == "Browser.downloadWillBegin";
        if !is_begin && method != "Browser.downloadProgress" {
            return;
        }
        let event: Value = serde_json::from_str(params).unwrap_or_default();
        let text = |key: &str| cut(event[key].as_str().unwrap_or_default());
        let id = text("guid");
        let known = {
            let scene = self.stage.scene.borrow();
            scene.downloads.iter().find(|d| d.id == id).cloned()
        };
        let download = match known {
            _ if is_begin => DownloadShown {
                id,
                name: text("suggestedFilename"),
                path: None,
                state: "running",
                received: 0.0,
                total: 0.0,
            },
            // Begun before anybody looked.
            None => return,
            Some(known) => DownloadShown {
                path: event["filePath"].as_str().map(cut).or(known.path),
                state: match event["state"].as_str() {
                    Some("completed") => "done",
                    Some("canceled") => "failed",
                    _ => "running",
                },
                received: event["receivedBytes"].as_f64().unwrap_or_default(),
                total: event["totalBytes"].as_f64().unwrap_or_default(),
                ..known
            },
        };
        self.show(|scene| scene.download(download));
    }

    /// Reads an answer.
    pub(super) async fn done(&mut self, done: Done) -> Result<(), cdp::Error> {
        let Done {
            session,
            what,
            opens,
            answer,
        } = done;
        if opens {
            self.acting -= 1;
            self.acted = Some(Instant::now());
        }
        if matches!(what, What::Scale | What::Screenshot) {
            self.is_shooting = false;
        }
        if matches!(what, What::Selection(_)) {
            self.was_read();
        }
        match what {
            What::Input => {
                self.inputs = self.inputs.saturating_sub(1);
                return self.copy_after_input().await;
            }
            What::Attach(target) => return self.attached(&target, answer).await,
            What::Told(reply) => {
                if let Some(why) = failure(answer) {
                    reply.note(&why);
                }
                return Ok(());
            }
            // Of a page that is not shown any more.
            _ if self.session() != session => return Ok(()),
            What::Screenshot => {
                self.screenshot(answer);
                return Ok(());
            }
            What::History => return self.history(answer).await,
            What::Step(by) => return self.step(by, answer).await,
            What::Scale if answer.is_err() => {
                self.shoot_later();
                return Ok(());
            }
            _ => {}
        }
        let Ok(Ok(answer)) = answer.map(|answer| serde_json::from_slice::<Value>(&answer)) else {
            return Ok(());
        };
        match what {
            What::Scale => {
                let [device, css] = ["layoutViewport", "cssLayoutViewport"]
                    .map(|key| answer[key]["clientWidth"].as_f64().unwrap_or(1.0));
                if let Some(shown) = &mut self.shown {
                    shown.scale = (device / css.max(1.0)).clamp(0.1, 16.0);
                }
                return self.shoot().await;
            }
            What::Chooser { node, multiple } => {
                let attributes = answer["node"]["attributes"].as_array();
                let attributes = attributes.map(Vec::as_slice).unwrap_or_default();
                // Names and values in turn.
                let accept = attributes.chunks(2).find(|pair| pair[0] == "accept");
                let accept = accept.and_then(|pair| pair.get(1)?.as_str());
                self.last_id += 1;
                let id = self.last_id;
                if let Some(shown) = &mut self.shown {
                    shown.chooser = Some((id, node));
                }
                let chooser = ChooserShown {
                    id,
                    multiple,
                    accept: cut(accept.unwrap_or_default()),
                };
                self.show(|scene| scene.chooser = Some(chooser));
            }
            What::Selection(reply) => {
                let text = answer["result"]["value"].as_str().unwrap_or_default();
                let text = &text[..text.floor_char_boundary(MAX_SELECTION)];
                if !text.is_empty() {
                    reply.send(json!({ "type": "clipboard", "text": text }));
                }
            }
            // Read above.
            What::Nothing
            | What::Input
            | What::Attach(_)
            | What::Screenshot
            | What::History
            | What::Step(_)
            | What::Told(_) => {}
        }
        Ok(())
    }

    /// Goes back or forward.
    async fn step(&mut self, by: i32, answer: Result<Bytes, cdp::Error>) -> Result<(), cdp::Error> {
        let answer = answer.map(|answer| serde_json::from_slice::<History<HistoryEntry>>(&answer));
        let Ok(Ok(history)) = answer else {
            return Ok(());
        };
        let to = i64::try_from(history.current_index).map_or(-1, |at| at + i64::from(by));
        let Some(entry) = usize::try_from(to)
            .ok()
            .and_then(|to| history.entries.get(to))
        else {
            return Ok(());
        };
        let params = json!({ "entryId": entry.id });
        self.tell_page("Page.navigateToHistoryEntry", params, What::Nothing)
            .await
    }

    /// A picture, unless the screencast has had one meanwhile.
    fn screenshot(&mut self, answer: Result<Bytes, cdp::Error>) {
        let Some(shown) = self.shown.as_ref().filter(|shown| shown.cast.is_some()) else {
            return;
        };
        let is_newer = shown.cast.as_ref().is_some_and(|cast| cast.has_pictures());
        match answer {
            Ok(_) if is_newer => {}
            Ok(answer) => {
                let picture = Picture::of_screenshot(&answer, shown.scale);
                match picture {
                    Some(picture) => self.publish(picture),
                    None => tracing::debug!("a screenshot was not understood"),
                }
            }
            Err(error) => tracing::debug!(%error, "no screenshot"),
        }
    }
}

/// Why something was not done; Chromium says some of it in answers that are none.
fn failure(answer: Result<Bytes, cdp::Error>) -> Option<String> {
    match answer {
        // The page has closed meanwhile.
        Err(cdp::Error::Closed) => None,
        Err(cdp::Error::Refused { message, .. }) => Some(message),
        Err(error) => Some(error.to_string()),
        Ok(answer) => {
            let answer: Value = serde_json::from_slice(&answer).ok()?;
            let text = answer["errorText"].as_str()?;
            // A download, or another navigation.
            let is_failure = !text.is_empty() && text != "net::ERR_ABORTED";
            is_failure.then(|| format!("the page could not be loaded: {}", cut(text)))
        }
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_tells_is_read() {
        let told = |text| serde_json::from_str::<Told>(text).unwrap();
        assert!(told(r#"{"here":true,"top":true}"#).here);
        assert!(told(r#"{"cursor":"text"}"#).select.is_none());
        assert!(matches!(told(r#"{"select":null}"#).select, Some(None)));
        let list = told(
            r#"{"select":{"id":1,"at":{"x":1,"y":2},"from":null,"multiple":false,"options":
            [{"label":"a","group":null,"selected":true,"disabled":false}],
            "box":{"x":1,"y":2,"width":3,"height":4}}}"#,
        );
        let Some(Some(list)) = list.select else {
            panic!("no list");
        };
        assert_eq!((list.id, list.options.len()), (1, 1));
    }

    #[test]
    fn of_a_history_only_its_length_is_read() {
        let answer = r#"{"currentIndex":1,"entries":[{"id":5,"url":"a"},{"id":7,"url":"b"}]}"#;
        let told: History<IgnoredAny> = serde_json::from_str(answer).unwrap();
        assert_eq!((told.current_index, told.entries.len()), (1, 2));
        assert_eq!(std::mem::size_of_val(&told.entries[..]), 0);
        let told: History<HistoryEntry> = serde_json::from_str(answer).unwrap();
        assert_eq!(told.entries[1].id, 7);
    }

    #[test]
    fn failures_are_told_in_chromiums_words() {
        let answer = |text: &str| Ok(Bytes::from(json!({ "errorText": text }).to_string()));
        assert_eq!(failure(Ok(Bytes::from_static(b"{}"))), None);
        assert_eq!(failure(answer("net::ERR_ABORTED")), None);
        let why = failure(answer("net::ERR_NAME_NOT_RESOLVED")).unwrap();
        assert!(why.ends_with("net::ERR_NAME_NOT_RESOLVED"), "{why}");
        assert_eq!(failure(Err(cdp::Error::Closed)), None);
    }
}
