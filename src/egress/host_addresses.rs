//! The addresses of the host's own network interfaces.
//!
//! A public address of this very host is not the public internet: services that trust "local"
//! callers answer there. Read again when older than a second, so an address added while the daemon
//! runs is closed a second later.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How old the list may be. Reading it takes about 50 µs, too much for every request of 200 at once.
const FRESH: Duration = Duration::from_secs(1);

/// The list, read when asked for.
#[derive(Debug, Default)]
pub(super) struct HostAddresses {
    read: Mutex<Option<(Instant, Arc<[IpAddr]>)>>,
}

impl HostAddresses {
    /// Every address of every interface, at most a second old.
    ///
    /// # Errors
    /// They could not be read; the caller must then refuse.
    pub(super) fn current(&self) -> io::Result<Arc<[IpAddr]>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, addresses)) = &*read
            && when.elapsed() < FRESH
        {
            return Ok(Arc::clone(addresses));
        }
        let addresses: Arc<[IpAddr]> = if_addrs::get_if_addrs()?
            .into_iter()
            .map(|interface| interface.ip())
            .collect();
        *read = Some((Instant::now(), Arc::clone(&addresses)));
        Ok(addresses)
    }

    /// A list that stays as it is.
    #[cfg(test)]
    pub(super) fn fixed(addresses: &[IpAddr]) -> Self {
        let far = Instant::now() + Duration::from_secs(3600);
        Self {
            read: Mutex::new(Some((far, addresses.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them() {
        let addresses = HostAddresses::default().current().unwrap();
        assert!(addresses.iter().any(IpAddr::is_loopback), "{addresses:?}");
    }
}
