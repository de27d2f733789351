//! The capabilities of a session: whoever shows a token is let in. One makes its bearer a CDP client,
//! one lets see the live view, one lets act there too.
//!
//! They are made with the session, told to its owner only, and open nothing once the session has ended.

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

/// What lets its bearer do one thing in one session. Never logged: its `Debug` is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
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

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a token of a live view lets its bearer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// See the page.
    View,
    /// Act on it too.
    Control,
}

/// What opens a session's live view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTokens {
    /// To see it.
    pub view: Token,
    /// To act too.
    pub control: Token,
}

impl LiveTokens {
    pub(super) fn generate() -> Self {
        Self {
            view: Token::generate(),
            control: Token::generate(),
        }
    }

    /// What a token shown lets do. Both are looked at, whichever fits.
    pub(super) fn opened_by(&self, shown: &str) -> Option<May> {
        match (self.control.is(shown), self.view.is(shown)) {
            (true, _) => Some(May::Control),
            (false, true) => Some(May::View),
            (false, false) => None,
        }
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
        let token = Token::generate();
        assert_eq!(token.as_str().len(), 43);
        assert_ne!(token, Token::generate());
        assert!(token.is(token.as_str()));
        for other in ["", &token.as_str()[1..], Token::generate().as_str()] {
            assert!(!token.is(other));
        }
        assert_eq!(format!("{token:?}"), "***");
    }

    #[test]
    fn each_token_of_the_live_view_opens_what_it_is_for() {
        let tokens = LiveTokens::generate();
        assert_eq!(tokens.opened_by(tokens.view.as_str()), Some(May::View));
        assert_eq!(
            tokens.opened_by(tokens.control.as_str()),
            Some(May::Control)
        );
        for other in ["", LiveTokens::generate().view.as_str()] {
            assert_eq!(tokens.opened_by(other), None);
        }
    }
}
