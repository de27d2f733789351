//! Who may watch a session, and who controls its browser.

use super::Registry;
use crate::id::SessionId;
use crate::session::takeover::PersonId;
use crate::session::{Error, LiveTokens, SessionView, Viewing};
use crate::tenant::Owner;

impl Registry {
    /// Opens a session's live view to whoever shows one of its tokens; waits until it may be used.
    ///
    /// # Errors
    /// When there is no such session, or the token is not its, or it has no live view; when it has ended.
    pub async fn viewing(&self, id: SessionId, token: &str) -> Result<Viewing, Error> {
        let known = self.sessions().get(id).cloned();
        let shared = known.ok_or(Error::CdpRefused(id))?;
        let viewing = Viewing::open(shared, token).await?;
        Ok(self.counted(viewing))
    }

    /// Opens a session's live view to its owner, to look only.
    ///
    /// # Errors
    /// When it is not known, or has ended.
    pub async fn watching(&self, owner: &Owner, id: SessionId) -> Result<Viewing, Error> {
        let viewing = Viewing::of_owner(self.find(owner, id).await?).await?;
        Ok(self.counted(viewing))
    }

    fn counted(&self, viewing: Viewing) -> Viewing {
        match self.inner.deps.configs.session.watching_is_activity {
            true => viewing.counted_as_activity(),
            false => viewing,
        }
    }

    /// Makes other tokens for a session's live view; whoever came with the old ones is let out.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn revoke_live_view(
        &self,
        owner: &Owner,
        id: SessionId,
    ) -> Result<SessionView, Error> {
        let shared = self.find(owner, id).await?;
        shared.live_tokens.send_replace(LiveTokens::generate());
        Ok(shared.view())
    }

    /// Takes control of a session's browser for its owner, or keeps it for as long again; it is given
    /// back by [`Registry::give_control_back`], or when `session.human_control` is over.
    ///
    /// # Errors
    /// When it is not known, or has ended; when a person is in control by the live view.
    pub async fn take_control(&self, owner: &Owner, id: SessionId) -> Result<SessionView, Error> {
        let shared = self.find(owner, id).await?;
        shared.wait_open().await?;
        if !shared.take_control_for_caller() {
            return Err(Error::HumanInControl(id));
        }
        shared.caller_holds_for(self.inner.deps.configs.session.human_control);
        Ok(shared.view())
    }

    /// Gives control of a session's browser back that its owner took; no error when it did not. Code that
    /// waits for a person goes on.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn give_control_back(
        &self,
        owner: &Owner,
        id: SessionId,
    ) -> Result<SessionView, Error> {
        let shared = self.find(owner, id).await?;
        shared.done(PersonId::CALLER);
        Ok(shared.view())
    }

    /// How long a person may be in control without doing anything.
    #[must_use]
    pub fn human_control(&self) -> std::time::Duration {
        self.inner.deps.configs.session.human_control
    }
}
