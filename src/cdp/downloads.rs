//! Downloads: the browser saves each file once, under its guid in the hub's own directory; every
//! client is told of it as if its own wish had been the browser's.
//!
//! In Chromium `Browser.setDownloadBehavior` is one setting for all: the last client to connect
//! would win, and earlier ones would look for files that are not there. Pure but for [`place`].

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Files;
use super::policy::{Behavior, DownloadBehavior};

/// Downloads under way that are remembered; more lose their suggested name.
const MAX_ACTIVE: usize = 1024;
/// Browser contexts one client may have a wish for.
const MAX_WISHES: usize = 256;
/// Names tried when a suggested one is taken.
const MAX_NAMES: u32 = 1000;
/// Longest file name, in bytes: what Linux takes.
const MAX_NAME: usize = 255;
/// Longest suffix that a name keeps when it is cut, its dot included.
const MAX_SUFFIX: usize = 32;

/// Downloads under way.
#[derive(Debug, Default)]
pub(crate) struct Downloads(HashMap<String, Active>);

/// One download.
#[derive(Clone, Debug, Default)]
pub(crate) struct Active {
    /// The file name the site suggests.
    pub(crate) suggested: String,
    /// The frame it began in; a page's main frame has the id of its target.
    pub(crate) frame: String,
}

impl Downloads {
    /// Remembers a download from its first event.
    pub(crate) fn began(&mut self, guid: &str, params: &Value) -> Active {
        let text = |key: &str| params[key].as_str().unwrap_or_default().to_owned();
        let active = Active {
            suggested: text("suggestedFilename"),
            frame: text("frameId"),
        };
        if self.0.len() < MAX_ACTIVE {
            self.0.insert(guid.to_owned(), active.clone());
        }
        active
    }

    /// What is known of a download.
    pub(crate) fn get(&self, guid: &str) -> Active {
        self.0.get(guid).cloned().unwrap_or_default()
    }

    /// It has ended.
    pub(crate) fn ended(&mut self, guid: &str) {
        self.0.remove(guid);
    }
}

/// What one client asked for, by browser context.
#[derive(Debug, Default)]
pub(crate) struct Wishes(Vec<DownloadBehavior>);

/// Where a file goes for one client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Destination {
    /// The directory.
    pub(crate) directory: PathBuf,
    /// Under its guid, or else under its suggested name.
    pub(crate) by_guid: bool,
}

impl Wishes {
    /// Remembers a wish; paths outside the scratch become `fallback`.
    pub(crate) fn set(&mut self, mut wish: DownloadBehavior, files: &dyn Files, fallback: &Path) {
        let inside = wish.download_path.take().filter(|path| {
            let up = path
                .components()
                .any(|part| part == std::path::Component::ParentDir);
            path.is_absolute() && !up && files.allowed(path)
        });
        wish.download_path = Some(inside.unwrap_or_else(|| fallback.to_owned()));
        self.0
            .retain(|old| old.browser_context_id != wish.browser_context_id);
        if self.0.len() < MAX_WISHES {
            self.0.push(wish);
        }
    }

    /// The wishes that may be about a page of `context`: that context's, or else all.
    fn about<'a>(&'a self, context: Option<&'a str>) -> impl Iterator<Item = &'a DownloadBehavior> {
        let exact = move |wish: &&DownloadBehavior| wish.browser_context_id.as_deref() == context;
        let known = context.is_some() && self.0.iter().any(|wish| exact(&wish));
        self.0.iter().filter(move |wish| !known || exact(wish))
    }

    /// Whether the client has a wish for this very context.
    pub(crate) fn names(&self, context: &str) -> bool {
        self.0
            .iter()
            .any(|wish| wish.browser_context_id.as_deref() == Some(context))
    }

    /// Whether the client wants events at all.
    pub(crate) fn events(&self) -> bool {
        self.0.iter().any(|wish| wish.events_enabled)
    }

    /// Whether the client wants no downloads there.
    pub(crate) fn denied(&self, context: Option<&str>) -> bool {
        let mut wishes = self.about(context).peekable();
        wishes.peek().is_some() && wishes.all(|wish| wish.behavior == Behavior::Deny)
    }

    /// Where the client looks for a file.
    pub(crate) fn destinations(&self, context: Option<&str>) -> Vec<Destination> {
        let mut all: Vec<_> = self
            .about(context)
            .filter(|wish| matches!(wish.behavior, Behavior::Allow | Behavior::AllowAndName))
            .filter_map(|wish| {
                Some(Destination {
                    directory: wish.download_path.clone()?,
                    by_guid: wish.behavior == Behavior::AllowAndName,
                })
            })
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

/// Puts a finished file where each destination has it; the path of each, in order. Blocks.
pub(crate) fn place(
    files: &dyn Files,
    from: &Path,
    guid: &str,
    suggested: &str,
    destinations: &[Destination],
) -> io::Result<Vec<PathBuf>> {
    let mut placed = Vec::with_capacity(destinations.len());
    for destination in destinations {
        files.create_dir_all(&destination.directory)?;
        let path = if destination.by_guid {
            let to = destination.directory.join(guid);
            match files.link(from, &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                outcome => outcome?,
            }
            to
        } else {
            link_named(files, from, &destination.directory, suggested)?
        };
        placed.push(path);
    }
    if !placed.is_empty() {
        files.remove(from)?;
    }
    Ok(placed)
}

fn link_named(
    files: &dyn Files,
    from: &Path,
    directory: &Path,
    suggested: &str,
) -> io::Result<PathBuf> {
    let name = plain_name(suggested);
    for attempt in 0..MAX_NAMES {
        // As Chromium names a second one.
        let mark = match attempt {
            0 => String::new(),
            attempt => format!(" ({attempt})"),
        };
        let to = directory.join(marked(&name, &mark));
        match files.link(from, &to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome.map(|()| to),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A site's suggestion as one path component, of any length.
fn plain_name(suggested: &str) -> String {
    let name: String = suggested
        .chars()
        .map(|c| if c == '/' || c.is_control() { '_' } else { c })
        .collect();
    match name.as_str() {
        "" | "." | ".." => "download".to_owned(),
        _ => name,
    }
}

/// A name with a mark before its suffix, cut before the mark to what a file name may have.
fn marked(name: &str, mark: &str) -> String {
    let (stem, suffix) = match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_SUFFIX => name.split_at(dot),
        _ => (name, ""),
    };
    let stem = &stem[..stem.floor_char_boundary(MAX_NAME - mark.len() - suffix.len())];
    format!("{stem}{mark}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdp::tests::LocalFiles;

    fn wish(behavior: Behavior, context: Option<&str>, path: &str) -> DownloadBehavior {
        DownloadBehavior {
            behavior,
            browser_context_id: context.map(Into::into),
            download_path: Some(path.into()),
            events_enabled: true,
        }
    }

    #[test]
    fn paths_outside_the_scratch_are_rewritten() {
        let root = tempfile::tempdir().unwrap();
        let files = LocalFiles::new(root.path());
        let mut wishes = Wishes::default();
        for path in ["/etc", "relative", "", "/tmp/../etc"] {
            wishes.set(
                wish(Behavior::AllowAndName, None, path),
                &files,
                Path::new("/tmp/f"),
            );
            let expected = Destination {
                directory: "/tmp/f".into(),
                by_guid: true,
            };
            assert_eq!(wishes.destinations(None), vec![expected], "{path}");
        }
    }

    #[test]
    fn a_context_with_a_wish_of_its_own_follows_that_one() {
        let root = tempfile::tempdir().unwrap();
        let files = LocalFiles::new(root.path());
        let inside = root.path().join("a");
        let inside = inside.to_str().unwrap();
        let mut wishes = Wishes::default();
        wishes.set(
            wish(Behavior::AllowAndName, None, inside),
            &files,
            Path::new("/tmp/f"),
        );
        wishes.set(
            wish(Behavior::Deny, Some("C"), inside),
            &files,
            Path::new("/tmp/f"),
        );
        assert!(wishes.denied(Some("C")));
        assert!(!wishes.denied(Some("other")));
        assert!(!wishes.denied(None));
        assert!(wishes.destinations(Some("C")).is_empty());
        assert_eq!(wishes.destinations(None).len(), 1);
    }

    #[test]
    fn long_names_are_cut_between_characters_and_keep_their_suffix() {
        let long = |ends: &str| format!("{}{ends}", "\u{1f600}".repeat(100));
        let cut = marked(&plain_name(&long(".tar.gz")), "");
        // 252 bytes have room for 62 characters and ".tar"; a character is never halved.
        assert!(
            cut.len() <= MAX_NAME && cut.ends_with("\u{1f600}.gz"),
            "{cut}"
        );
        let second = marked(&plain_name(&long(".tar.gz")), " (999)");
        assert!(second.len() <= MAX_NAME && second.ends_with("\u{1f600} (999).gz"));
        assert_eq!(marked(&long(""), "").len(), 252);
        let no_suffix = marked(&format!("a.{}", "b".repeat(300)), " (1)");
        assert_eq!(no_suffix, format!("a.{} (1)", "b".repeat(249)));
        for (name, marked_name) in [
            ("report.txt", "report (1).txt"),
            (".hidden", ".hidden (1)"),
            ("plain", "plain (1)"),
            ("dot.", "dot (1)."),
        ] {
            assert_eq!(marked(name, " (1)"), marked_name);
            assert_eq!(marked(name, ""), name);
        }
        for (suggested, name) in [("", "download"), ("..", "download"), ("../a\0b", ".._a_b")] {
            assert_eq!(plain_name(suggested), name);
        }
        // The file system takes them.
        let root = tempfile::tempdir().unwrap();
        let files = LocalFiles::new(root.path());
        for _ in 0..2 {
            let from = root.path().join("guid-1");
            std::fs::write(&from, "content").unwrap();
            let to = Destination {
                directory: root.path().join("a"),
                by_guid: false,
            };
            place(&files, &from, "guid-1", &long(".txt"), &[to]).unwrap();
        }
        assert_eq!(std::fs::read_dir(root.path().join("a")).unwrap().count(), 2);
    }

    #[test]
    fn every_destination_gets_the_file_and_the_original_goes() {
        let root = tempfile::tempdir().unwrap();
        let files = LocalFiles::new(root.path());
        let from = root.path().join("guid-1");
        let at = |name: &str, by_guid| Destination {
            directory: root.path().join(name),
            by_guid,
        };
        for round in 0..2 {
            std::fs::write(&from, "content").unwrap();
            let to = [at("a", true), at("b", true), at("c", false)];
            let placed = place(&files, &from, "guid-1", "../re/port.txt", &to).unwrap();
            for path in &placed {
                assert_eq!(std::fs::read_to_string(path).unwrap(), "content");
            }
            let name = ["c/.._re_port.txt", "c/.._re_port (1).txt"][round];
            assert_eq!(placed[2], root.path().join(name));
            assert!(!from.exists());
        }
    }
}
