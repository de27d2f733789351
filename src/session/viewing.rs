//! A session as the bearer of a live view's token has it: its browser and its files while it lives,
//! and the control of it.

use std::sync::Arc;

use tokio::sync::watch;

use super::shared::{Shared, Watched};
use super::takeover::{Asked, Control, PersonId};
use super::{Error, LiveTokens, May, SessionView};
use crate::cdp::Hub;
use crate::id::SessionId;
use crate::sandbox::Scratch;

/// A session, opened by a token of its live view.
#[derive(Clone, Debug)]
pub struct Viewing {
    shared: Arc<Shared>,
    may: May,
    tokens: watch::Receiver<LiveTokens>,
    /// Held, when it counts, as long as somebody looks.
    watched: Option<Arc<Watched>>,
}

impl Viewing {
    /// Waits until the session may be used.
    pub(super) async fn open(shared: Arc<Shared>, token: &str) -> Result<Self, Error> {
        let refused = Error::CdpRefused(shared.id);
        // Before the look at them, so that no change falls between.
        let tokens = shared.live_tokens.subscribe();
        let may = tokens.borrow().opened_by(token);
        let may = may.filter(|_| shared.options.live_view).ok_or(refused)?;
        shared.wait_open().await?;
        Ok(Self {
            shared,
            may,
            tokens,
            watched: None,
        })
    }

    /// The same for the owner, who needs no token.
    pub(super) async fn of_owner(shared: Arc<Shared>) -> Result<Self, Error> {
        let tokens = shared.live_tokens.subscribe();
        shared.wait_open().await?;
        Ok(Self {
            shared,
            may: May::View,
            tokens,
            watched: None,
        })
    }

    /// Until it and all its clones are dropped, the session is not idle.
    pub(super) fn counted_as_activity(mut self) -> Self {
        self.watched = Some(Arc::new(self.shared.watched()));
        self
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.shared.id
    }

    /// What the token lets do.
    #[must_use]
    pub fn may(&self) -> May {
        self.may
    }

    /// The session as it is now.
    #[must_use]
    pub fn session(&self) -> SessionView {
        self.shared.view()
    }

    /// Its browser; none once it has ended.
    #[must_use]
    pub fn hub(&self) -> Option<Hub> {
        self.shared.hub()
    }

    /// Its files.
    #[must_use]
    pub fn files(&self) -> Option<&Scratch> {
        self.shared.files.get()
    }

    /// A person did something: the session is not idle.
    pub fn touch(&self) {
        self.shared.touch();
    }

    /// Waits until the session is asked to end, and says why.
    pub async fn ends(&self) -> Error {
        self.shared.end_requested().await;
        self.shared.ended_error()
    }

    /// Waits until the token opens nothing any more. Cancel safe.
    pub async fn revoked(&mut self) {
        // The sender lives as long as the session is held here.
        let _ = self.tokens.changed().await;
    }

    /// Waits until the session is asked to end, or the token opens nothing any more; which it is.
    pub async fn over(&mut self) -> Error {
        let withdrawn = Error::CdpRefused(self.shared.id);
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            _ = shared.end_requested() => shared.ended_error(),
            () = self.revoked() => withdrawn,
        }
    }

    /// Somebody who may be in control of the session.
    #[must_use]
    pub fn person(&self) -> Person {
        Person {
            id: self.shared.takeover.person(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Who is in control, as it changes.
    #[must_use]
    pub fn control(&self) -> watch::Receiver<Control> {
        self.shared.takeover.subscribe()
    }
}

/// Somebody who may be in control. Dropping it gives control back.
#[derive(Debug)]
pub struct Person {
    id: PersonId,
    shared: Arc<Shared>,
}

impl Person {
    /// Which one.
    #[must_use]
    pub fn id(&self) -> PersonId {
        self.id
    }

    /// Asks for control.
    pub fn request(&self) -> Asked {
        self.shared.take_control(self.id)
    }

    /// Is done: gives it back, or waits for it no longer, and code that waits for a person goes on.
    pub fn release(&self) {
        self.shared.done(self.id);
    }

    /// Gives it back without having said so.
    pub fn let_go(&self) {
        self.shared.give_control_back(self.id);
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.let_go();
    }
}
