//! A list of hosts that pages ask for and nobody misses: advertisements, trackers.

use std::collections::HashSet;
use std::sync::Arc;

use super::target::Host;

/// Hosts, each with all below it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BlockList(HashSet<Box<str>>);

impl BlockList {
    /// Reads a hosts file, a list of names, or those rules of an Adblock Plus list that name a host
    /// alone (`||ads.example.com^`). Other lines are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let hosts = text.lines().filter_map(host_of);
        Self(hosts.map(String::into_boxed_str).collect())
    }

    /// How many hosts it names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it names none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry for a host, if there is one.
    pub(super) fn entry(&self, host: &Host) -> Option<&str> {
        let Host::Name(name) = host else { return None };
        let mut names = std::iter::successors(Some(name.as_str()), |name| {
            name.split_once('.').map(|(_, above)| above)
        });
        names.find_map(|name| self.0.get(name).map(AsRef::as_ref))
    }
}

/// A name has a dot: `localhost`, which hosts files begin with, and top-level domains are none.
fn host_of(line: &str) -> Option<String> {
    // A comment stands apart; `example.com##.ad` hides an element.
    let line = match line.split_once('#') {
        Some((before, _)) if before.is_empty() || before.ends_with(char::is_whitespace) => before,
        Some(_) => return None,
        None => line,
    };
    let adblock = line.trim().strip_prefix("||");
    let name = match adblock {
        Some(rule) => rule.strip_suffix('^')?,
        None => {
            let mut words = line.split_whitespace();
            let first = words.next()?;
            match (words.next(), words.next()) {
                (None, _) => first,
                (Some(name), None) if first.parse::<std::net::IpAddr>().is_ok() => name,
                _ => return None,
            }
        }
    };
    match Host::parse(name) {
        Ok(Host::Name(name)) if name.contains('.') => Some(name),
        _ => None,
    }
}

/// What pages of one session may not ask for at the moment.
#[derive(Debug)]
pub(super) struct Blocked {
    pub(super) list: Arc<BlockList>,
    /// Open although it is on the list.
    pub(super) but: Option<Host>,
}

impl Blocked {
    pub(super) fn entry(&self, host: &Host) -> Option<&str> {
        let is_open = self.but.as_ref() == Some(host);
        self.list.entry(host).filter(|_| !is_open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_list_is_read_and_what_is_below_a_host_is_on_it() {
        let list = BlockList::parse(
            "# hosts\n127.0.0.1 localhost\n0.0.0.0 0.0.0.0\n0.0.0.0 ads.hosts.test # why\n\
             ! adblock\n||ads.rules.test^\n||paths.test^*/ads\n||options.test^$third-party\n\
             @@||not.test^\nexample.test##.banner\n/banner/*\n\nAds.Names.Test\ntwo names.test\n",
        );
        assert_eq!(list.len(), 3, "{list:?}");
        let entry = |name: &str| list.entry(&Host::parse(name).unwrap());
        for name in ["ads.hosts.test", "ads.rules.test", "ads.names.test"] {
            assert_eq!(entry(name), Some(name));
            assert_eq!(entry(&format!("a.b.{name}")), Some(name));
            assert_eq!(entry(&format!("more{name}")), None);
        }
        for open in ["hosts.test", "localhost", "not.test", "127.0.0.1"] {
            assert_eq!(entry(open), None, "{open}");
        }
    }

    #[test]
    fn one_host_is_open_all_the_same() {
        let open = Host::parse("ads.test").unwrap();
        let blocked = Blocked {
            list: Arc::new(BlockList::parse("ads.test")),
            but: Some(open.clone()),
        };
        assert_eq!(blocked.entry(&open), None);
        let below = Host::parse("cdn.ads.test").unwrap();
        assert_eq!(blocked.entry(&below), Some("ads.test"));
    }
}
