//! The capability for a session's browser: whoever shows its token is a CDP client.
//!
//! It is made with the session, told to its owner only, and opens nothing once the session has ended.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Error;
use super::shared::Shared;
use crate::cdp::{self, ClientKind, Hub};

/// 256 bits: nobody guesses one.
const TOKEN_BYTES: usize = 32;

/// What opens the browser of one session to a CDP client outside. Never logged: its `Debug` is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct CdpToken(Arc<str>);

impl CdpToken {
    pub(crate) fn generate() -> Self {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).expect("the kernel has random bytes once it has booted");
        Self(BASE64_URL_SAFE_NO_PAD.encode(bytes).into())
    }

    /// As it stands in a URL: 43 characters of URL-safe base64.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// In constant time.
    pub(super) fn is(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

impl fmt::Debug for CdpToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A session's browser, opened by its token.
#[derive(Debug)]
pub struct CdpAccess {
    shared: Arc<Shared>,
    hub: Hub,
}

impl CdpAccess {
    /// Waits until the session may be used.
    pub(super) async fn open(shared: Arc<Shared>) -> Result<Self, Error> {
        shared.wait_open().await?;
        match shared.hub() {
            Some(hub) if !hub.is_closed() => Ok(Self { shared, hub }),
            _ => {
                // The session's task has seen it, or is about to.
                shared.wait_ended().await;
                Err(shared.ended_error())
            }
        }
    }

    /// What Chromium's `/json/version` would say, with this URL as the place to connect to.
    #[must_use]
    pub fn version(&self, socket_url: &str) -> serde_json::Value {
        self.hub.version(socket_url)
    }

    /// Serves one client on a connection whose WebSocket handshake is done, until either side or
    /// the session ends. Each command keeps the session from being idle.
    ///
    /// # Errors
    /// When there is no room for another client, or the browser has gone.
    pub async fn serve<S>(self, stream: S) -> Result<(), cdp::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let commanded = || self.shared.touch();
        self.hub
            .serve_socket(stream, ClientKind::External, &commanded)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_only_and_does_not_show() {
        let token = CdpToken::generate();
        assert_eq!(token.as_str().len(), 43);
        assert_ne!(token, CdpToken::generate());
        assert!(token.is(token.as_str()));
        for other in ["", &token.as_str()[1..], CdpToken::generate().as_str()] {
            assert!(!token.is(other));
        }
        assert_eq!(format!("{token:?}"), "***");
    }
}
