//! What viewers are told of the session besides pictures: one value, of which each is told what is
//! new to it.

use serde_json::{Value, json};

use crate::cdp::{Dialog, Page};

/// Longest URL and title in the strip of tabs, in bytes.
const MAX_TAB_URL: usize = 2 << 10;
const MAX_TAB_TITLE: usize = 256;
/// Downloads that are shown; the oldest go.
const MAX_DOWNLOADS: usize = 50;

/// A tab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TabShown {
    id: String,
    title: String,
    url: String,
    active: bool,
}

impl TabShown {
    pub(super) fn of(page: &Page, active: &str) -> Self {
        Self {
            active: page.target_id == active,
            id: page.target_id.clone(),
            title: cut(&page.title, MAX_TAB_TITLE),
            url: cut(&page.url, MAX_TAB_URL),
        }
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most)])
}

/// A select list that is open.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SelectShown {
    /// Never used again.
    pub(super) id: u64,
    /// In the page, in CSS pixels: x, y, width, height.
    pub(super) frame: [f64; 4],
    /// As the protocol has them.
    pub(super) options: Value,
}

/// A file chooser that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChooserShown {
    pub(super) id: u64,
    pub(super) multiple: bool,
    /// What the page would take.
    pub(super) accept: String,
}

/// A download.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DownloadShown {
    pub(super) id: String,
    pub(super) name: String,
    /// Where it lies once it is done.
    pub(super) path: Option<String>,
    /// `running`, `done` or `failed`.
    pub(super) state: &'static str,
    pub(super) received: f64,
    pub(super) total: f64,
}

impl DownloadShown {
    /// `old`: it began before whom this is for was there.
    fn message(&self, old: bool) -> Value {
        json!({
            "type": "download", "id": self.id, "name": self.name, "path": self.path,
            "state": self.state, "received": self.received, "total": self.total, "old": old,
        })
    }
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scene {
    pub(super) tabs: Vec<TabShown>,
    /// Of the page shown: pictures are of it.
    pub(super) target: String,
    /// It has crashed.
    pub(super) crashed: bool,
    pub(super) url: String,
    pub(super) title: String,
    pub(super) loading: bool,
    pub(super) back: bool,
    pub(super) forward: bool,
    /// Of the page shown, in CSS pixels.
    pub(super) viewport: (u16, u16),
    pub(super) viewers: usize,
    /// What code asks a person for.
    pub(super) reason: Option<String>,
    pub(super) dialog: Option<Dialog>,
    pub(super) select: Option<SelectShown>,
    pub(super) chooser: Option<ChooserShown>,
    /// A keyword of CSS.
    pub(super) cursor: String,
    /// The oldest first.
    pub(super) downloads: Vec<DownloadShown>,
}

impl Scene {
    /// A download has begun, or gone on.
    pub(super) fn download(&mut self, download: DownloadShown) {
        match self.downloads.iter_mut().find(|d| d.id == download.id) {
            Some(known) => *known = download,
            None => {
                if self.downloads.len() >= MAX_DOWNLOADS {
                    self.downloads.remove(0);
                }
                self.downloads.push(download);
            }
        }
    }

    /// Whether another page is shown than before, which no picture so far is of.
    pub(super) fn turns_from(&self, before: &Self) -> bool {
        self.target != before.target && !before.target.is_empty()
    }

    /// The `state` message; who is in control differs from one viewer to the next. It lacks `left`.
    pub(super) fn state(&self, control: &Value) -> Value {
        let tabs = self.tabs.iter().map(
            |tab| json!({ "id": tab.id, "title": tab.title, "url": tab.url, "active": tab.active }),
        );
        json!({
            "type": "state",
            "tabs": tabs.collect::<Vec<_>>(),
            "url": self.url,
            "title": self.title,
            "loading": self.loading,
            "crashed": self.crashed,
            "back": self.back,
            "forward": self.forward,
            "viewport": { "width": self.viewport.0, "height": self.viewport.1 },
            "control": control,
            "viewers": self.viewers,
        })
    }

    /// The other messages of this scene for one that knew `before`; none: it knew nothing.
    pub(super) fn news(&self, before: Option<&Self>) -> Vec<Value> {
        let mut news = Vec::new();
        let (old, nothing) = (before.is_none(), Self::default());
        let before = before.unwrap_or(&nothing);
        if self.dialog != before.dialog {
            news.push(match &self.dialog {
                None => json!({ "type": "dialog", "kind": null }),
                Some(dialog) => json!({
                    "type": "dialog", "id": dialog.id, "kind": dialog.kind,
                    "message": dialog.message, "value": dialog.value,
                }),
            });
        }
        if self.select != before.select {
            news.push(match &self.select {
                None => json!({ "type": "select", "id": null }),
                Some(select) => {
                    let [x, y, width, height] = select.frame;
                    json!({
                        "type": "select", "id": select.id, "multiple": false,
                        "box": { "x": x, "y": y, "width": width, "height": height },
                        "options": select.options,
                    })
                }
            });
        }
        if self.chooser != before.chooser {
            news.push(match &self.chooser {
                None => json!({ "type": "chooser", "id": null }),
                Some(chooser) => json!({
                    "type": "chooser", "id": chooser.id, "multiple": chooser.multiple,
                    "accept": chooser.accept,
                }),
            });
        }
        if self.cursor != before.cursor {
            news.push(json!({ "type": "cursor", "css": self.cursor }));
        }
        let downloads = self.downloads.iter();
        let changed = downloads.filter(|download| !before.downloads.contains(download));
        news.extend(changed.map(|download| download.message(old)));
        news
    }
}

/// A page's word for the cursor, if it is one of CSS's.
pub(super) fn cursor(text: &str) -> Option<&str> {
    let is_word =
        (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    is_word.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn download(id: &str, received: f64) -> DownloadShown {
        DownloadShown {
            id: id.to_owned(),
            name: "a".to_owned(),
            path: None,
            state: "running",
            received,
            total: 9.0,
        }
    }

    #[test]
    fn a_viewer_is_told_what_is_new_to_it() {
        let empty = Scene::default();
        assert_eq!(empty.news(None), Vec::<Value>::new());
        assert_eq!(empty.news(Some(&empty)), Vec::<Value>::new());
        let mut scene = Scene {
            dialog: Some(Dialog {
                id: 1,
                kind: "prompt".into(),
                message: "Name?".into(),
                value: "x".into(),
            }),
            cursor: "pointer".into(),
            ..Scene::default()
        };
        scene.download(download("1", 0.0));
        let kinds = |news: Vec<Value>| -> Vec<String> {
            let kinds = news.iter();
            kinds
                .map(|m| m["type"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(
            kinds(scene.news(Some(&empty))),
            ["dialog", "cursor", "download"]
        );
        let before = scene.clone();
        scene.download(download("1", 5.0));
        scene.download(download("2", 0.0));
        scene.dialog = None;
        let news = scene.news(Some(&before));
        assert_eq!(news[0], json!({ "type": "dialog", "kind": null }));
        assert_eq!(kinds(news), ["dialog", "download", "download"]);
    }

    #[test]
    fn a_download_that_was_over_at_once_is_not_an_old_one() {
        let mut scene = Scene::default();
        scene.download(DownloadShown {
            state: "done",
            ..download("1", 9.0)
        });
        let (late, there) = (scene.news(None), scene.news(Some(&Scene::default())));
        assert_eq!(
            (&late[0]["old"], &there[0]["old"]),
            (&json!(true), &json!(false))
        );
    }

    #[test]
    fn another_page_blanks_the_picture() {
        let of = |target: &str| Scene {
            target: target.into(),
            ..Scene::default()
        };
        assert!(!of("a").turns_from(&of("")));
        assert!(!of("a").turns_from(&of("a")));
        assert!(of("b").turns_from(&of("a")));
    }

    #[test]
    fn a_second_dialog_of_the_same_words_is_another_one() {
        let asks = |id| Scene {
            dialog: Some(Dialog {
                id,
                message: "Sure?".into(),
                ..Dialog::default()
            }),
            ..Scene::default()
        };
        let news = asks(2).news(Some(&asks(1)));
        assert_eq!((news.len(), &news[0]["id"]), (1, &json!(2)));
    }

    #[test]
    fn what_pages_say_is_bounded() {
        let mut scene = Scene::default();
        for number in 0..2 * MAX_DOWNLOADS {
            scene.download(download(&number.to_string(), 0.0));
        }
        assert_eq!(scene.downloads.len(), MAX_DOWNLOADS);
        let page = Page {
            target_id: "a".into(),
            url: "ü".repeat(MAX_TAB_URL),
            title: "é".repeat(MAX_TAB_TITLE),
        };
        let tab = TabShown::of(&page, "a");
        assert!(tab.active && tab.title.ends_with('…') && tab.url.len() <= MAX_TAB_URL + 3);
        for (text, good) in [("pointer", true), ("", false), ("url(x)", false)] {
            assert_eq!(cursor(text).is_some(), good);
        }
    }
}
