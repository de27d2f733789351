//! Names a session looked up, and their addresses, for as long as the answer says.
//!
//! The resolver's own cache counts answers, not what is in them, and whoever runs a name's DNS can
//! put thousands of records into one: a session could fill the daemon's memory with them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Names remembered.
const NAMES: usize = 512;
/// Addresses of a name that is remembered. With more it is looked up every time: few have more than
/// a dozen. All names together take at most half a MiB.
const ADDRESSES: usize = 16;

/// What was looked up.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashMap<String, Answer>>);

#[derive(Debug)]
struct Answer {
    addresses: Box<[IpAddr]>,
    valid_until: Instant,
}

impl Names {
    /// The addresses of a name, if they are remembered and still valid.
    pub(super) fn get(&self, name: &str, now: Instant) -> Option<Vec<IpAddr>> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = names.get(name).filter(|answer| now < answer.valid_until)?;
        Some(answer.addresses.to_vec())
    }

    /// Remembers an answer, in the place of what is no longer valid, or else of any other.
    pub(super) fn keep(
        &self,
        name: &str,
        addresses: &[IpAddr],
        valid_until: Instant,
        now: Instant,
    ) {
        if addresses.len() > ADDRESSES || valid_until <= now {
            return;
        }
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES && !names.contains_key(name) {
            names.retain(|_, answer| now < answer.valid_until);
        }
        if names.len() >= NAMES
            && !names.contains_key(name)
            && let Some(other) = names.keys().next().cloned()
        {
            names.remove(&other);
        }
        let answer = Answer {
            addresses: addresses.into(),
            valid_until,
        };
        names.insert(name.to_owned(), answer);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(93, 184, 216, 34));

    #[test]
    fn an_answer_holds_as_long_as_it_says() {
        let (names, now) = (Names::default(), Instant::now());
        let later = now + Duration::from_secs(60);
        names.keep("a.test", &[ADDRESS], later, now);
        names.keep("never.test", &[ADDRESS], now, now);
        assert_eq!(names.get("a.test", now), Some(vec![ADDRESS]));
        assert_eq!(names.get("a.test", later), None);
        assert_eq!(names.get("never.test", now), None);
        assert_eq!(names.get("b.test", now), None);
    }

    #[test]
    fn neither_many_names_nor_long_answers_take_more_memory() {
        let (names, now) = (Names::default(), Instant::now());
        let later = now + Duration::from_secs(60);
        names.keep("long.test", &[ADDRESS; ADDRESSES + 1], later, now);
        assert_eq!(names.get("long.test", now), None);
        for number in 0..2 * NAMES {
            names.keep(&format!("{number}.test"), &[ADDRESS; ADDRESSES], later, now);
        }
        assert_eq!(names.0.lock().unwrap().len(), NAMES);
        let newest = format!("{}.test", 2 * NAMES - 1);
        assert_eq!(names.get(&newest, now), Some(vec![ADDRESS; ADDRESSES]));
        // What is no longer valid goes first.
        names.keep(
            "new.test",
            &[ADDRESS],
            later + Duration::from_secs(60),
            later,
        );
        assert_eq!(names.0.lock().unwrap().len(), 1);
    }
}
