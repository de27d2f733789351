//! The pages that are open and which one is active: pure.
//!
//! The active page moves only when it is told to (a client brings a tab to front, or code made
//! another page its `page`), and when it closes: then to the newest open one of the default
//! browser context, or else the newest of any. A popup does not move it. Knows no message.

use super::{Dialog, HubEvent, Page};

/// A page and what the hub knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As shown outside.
    pub(crate) page: Page,
    /// Its browser context.
    pub(crate) context: Option<String>,
    /// The page that opened it.
    pub(crate) opener: Option<String>,
    /// The hub's own session on it, once attached.
    pub(crate) session: Option<String>,
    /// A dialog is open: the page answers nothing until it is closed.
    pub(crate) dialog: bool,
    /// What it asks.
    pub(crate) asks: Option<Dialog>,
    /// It need not wait at its start any more.
    pub(crate) going: bool,
    /// It is being closed.
    pub(crate) closing: bool,
    /// Its renderer is gone.
    pub(crate) crashed: bool,
}

/// All pages, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    entries: Vec<Entry>,
    active: Option<String>,
    /// The context pages without a context of their own are in.
    default_context: Option<String>,
    /// How many there have been.
    opened: u64,
}

impl Pages {
    /// All of them, oldest first.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many have been opened so far.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// A page by its target.
    pub(crate) fn get(&self, target: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.page.target_id == target)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, target: &str) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .find(|entry| entry.page.target_id == target)
    }

    /// The active page.
    pub(crate) fn active(&self) -> Option<&Entry> {
        self.get(self.active.as_deref()?)
    }

    /// Which context is the default one.
    pub(crate) fn set_default_context(&mut self, context: Option<String>) {
        self.default_context = context;
    }

    /// A page has opened, or says something new of itself.
    pub(crate) fn seen(&mut self, page: Page, context: Option<String>) -> Vec<HubEvent> {
        if let Some(entry) = self.get_mut(&page.target_id) {
            entry.context = context.or(entry.context.take());
            if entry.page == page {
                return Vec::new();
            }
            entry.page = page.clone();
            return vec![HubEvent::PageChanged(page)];
        }
        let entry = Entry {
            page: page.clone(),
            context,
            ..Entry::default()
        };
        self.entries.push(entry);
        self.opened += 1;
        let mut events = vec![HubEvent::PageOpened(page.clone())];
        if self.active.is_none() {
            events.extend(self.activate(&page.target_id));
        }
        events
    }

    /// A page has closed.
    pub(crate) fn closed(&mut self, target: &str) -> Vec<HubEvent> {
        let Some(at) = self
            .entries
            .iter()
            .position(|entry| entry.page.target_id == target)
        else {
            return Vec::new();
        };
        let mut events = vec![HubEvent::PageClosed(self.entries.remove(at).page)];
        if self.active.as_deref() == Some(target) {
            self.active = None;
            if let Some(next) = self.newest() {
                events.extend(self.activate(&next));
            }
        }
        events
    }

    fn newest(&self) -> Option<String> {
        let default = |entry: &&Entry| entry.context == self.default_context;
        let newest = self
            .entries
            .iter()
            .rev()
            .find(default)
            .or(self.entries.last())?;
        Some(newest.page.target_id.clone())
    }

    /// Makes a page the active one; an unknown one is ignored.
    pub(crate) fn activate(&mut self, target: &str) -> Option<HubEvent> {
        let page = self.get(target)?.page.clone();
        if self.active.as_deref() == Some(target) {
            return None;
        }
        self.active = Some(target.to_owned());
        Some(HubEvent::PageActivated(page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdp::MAX_PAGE_TEXT;

    fn page(id: &str) -> Page {
        Page {
            target_id: id.into(),
            url: "about:blank".into(),
            title: String::new(),
        }
    }

    fn pages(list: &[(&str, &str)]) -> Pages {
        let mut pages = Pages::default();
        pages.set_default_context(Some("default".into()));
        for (id, context) in list {
            pages.seen(page(id), Some((*context).into()));
        }
        pages
    }

    fn active(pages: &Pages) -> Option<&str> {
        pages.active().map(|entry| entry.page.target_id.as_str())
    }

    #[test]
    fn a_popup_does_not_move_the_active_page() {
        let pages = pages(&[("a", "default"), ("b", "default")]);
        assert_eq!(active(&pages), Some("a"));
    }

    #[test]
    fn a_closed_active_page_falls_to_the_newest_of_the_default_context() {
        let mut pages = pages(&[("a", "default"), ("b", "default"), ("c", "other")]);
        let events = pages.closed("a");
        assert!(
            matches!(&events[..], [HubEvent::PageClosed(a), HubEvent::PageActivated(b)]
            if a.target_id == "a" && b.target_id == "b")
        );
        pages.closed("b");
        assert_eq!(active(&pages), Some("c"));
        pages.closed("c");
        assert_eq!(active(&pages), None);
        pages.seen(page("d"), None);
        assert_eq!(active(&pages), Some("d"));
    }

    #[test]
    fn another_closing_page_changes_nothing() {
        let mut pages = pages(&[("a", "default"), ("b", "default")]);
        assert_eq!(pages.closed("b").len(), 1);
        assert!(pages.closed("b").is_empty());
        assert_eq!(active(&pages), Some("a"));
    }

    #[test]
    fn unknown_pages_do_not_become_active() {
        let mut pages = pages(&[("a", "default"), ("b", "default")]);
        assert!(pages.activate("zzz").is_none());
        assert!(pages.activate("b").is_some());
        assert!(pages.activate("b").is_none());
        assert_eq!(active(&pages), Some("b"));
    }

    #[test]
    fn long_texts_of_a_page_are_cut_between_characters_and_say_so() {
        let long = "\u{1f600}".repeat(MAX_PAGE_TEXT);
        let page = Page::new("a".into(), format!("x{long}"), long);
        for text in [&page.url, &page.title] {
            assert!(text.len() <= MAX_PAGE_TEXT && text.len() > MAX_PAGE_TEXT - 4);
            assert!(text.ends_with("\u{1f600}…"));
        }
        let fits = "u".repeat(MAX_PAGE_TEXT);
        assert_eq!(Page::new("a".into(), fits.clone(), String::new()).url, fits);
    }

    #[test]
    fn news_of_a_page_is_told_once() {
        let mut pages = pages(&[("a", "default")]);
        let renamed = Page {
            title: "new".into(),
            ..page("a")
        };
        assert_eq!(pages.seen(renamed.clone(), None).len(), 1);
        assert!(pages.seen(renamed, None).is_empty());
        assert_eq!(pages.get("a").unwrap().context.as_deref(), Some("default"));
    }
}
