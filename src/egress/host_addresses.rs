//! The addresses that are this very host.
//!
//! A public address of this very host is not the public internet: services that trust "local"
//! callers answer there. They are those of its network interfaces, and those the kernel's routing
//! table `local` leads to itself, such as a whole network (`ip -6 route add local …/64 dev lo`).
//! Read again when older than a second, so an address added while the daemon runs is closed a second
//! later.

mod routes;

use std::io;
#[cfg(any(test, fuzzing))]
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;

/// How old the list may be. Reading it takes about 100 µs, too much for every request of 200 at
/// once.
const FRESH: Duration = Duration::from_secs(1);

/// The list, read when asked for.
#[derive(Debug, Default)]
pub(super) struct HostAddresses {
    read: Mutex<Option<(Instant, Arc<[IpNet]>)>>,
}

impl HostAddresses {
    /// Every address of every interface and every local route, at most a second old.
    ///
    /// # Errors
    /// They could not be read; the caller must then refuse.
    pub(super) fn current(&self) -> io::Result<Arc<[IpNet]>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, addresses)) = &*read
            && when.elapsed() < FRESH
        {
            return Ok(Arc::clone(addresses));
        }
        let interfaces = if_addrs::get_if_addrs()?;
        let mut addresses: Vec<IpNet> = interfaces.iter().map(|one| one.ip().into()).collect();
        addresses.extend(routes::local()?);
        addresses.sort_unstable();
        addresses.dedup();
        let addresses: Arc<[IpNet]> = addresses.into();
        *read = Some((Instant::now(), Arc::clone(&addresses)));
        Ok(addresses)
    }

    /// A list that stays as it is.
    #[cfg(any(test, fuzzing))]
    pub(super) fn fixed(addresses: &[IpAddr]) -> Self {
        let far = Instant::now() + Duration::from_secs(3600);
        Self {
            read: Mutex::new(Some((
                far,
                addresses.iter().map(|&one| one.into()).collect(),
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them() {
        let addresses = HostAddresses::default().current().unwrap();
        let has = |text: &str| {
            let address: IpAddr = text.parse().unwrap();
            addresses.iter().any(|net| net.contains(&address))
        };
        // The second is no interface's: only the routing table knows it.
        assert!(has("127.0.0.1") && has("127.8.7.6"), "{addresses:?}");
        assert!(!has("93.184.216.34"), "{addresses:?}");
    }
}
