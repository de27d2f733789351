//! In-process clients: the daemon's own code on the hub, under the same rules as any other.

use std::borrow::Cow;

use bytes::Bytes;
use chromiumoxide::cdp::browser_protocol::target::AttachToTargetParams;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::driver::{Answer, Command, Reply, Request, Root};
use super::hub::{Connected, Hub, flatten};
use super::{ClientKind, Error};
use crate::id::ClientId;

/// An in-process client: typed commands from `chromiumoxide::cdp`, raw events. Dropping it
/// disconnects it. One that does not read its events is disconnected like any other.
#[derive(Debug)]
pub struct Client(Connected);

/// A command on its way; dropping it gives the answer up.
#[derive(Debug)]
pub struct Sent {
    method: &'static str,
    answer: oneshot::Receiver<Answer>,
}

impl Sent {
    /// Waits for the answer's JSON text, as long as the browser takes.
    pub async fn answer(self) -> Result<Bytes, Error> {
        flatten(self.method, self.answer.await)
    }
}

impl Hub {
    /// A client inside the daemon.
    pub async fn client(&self, kind: ClientKind) -> Result<Client, Error> {
        self.connect(kind, Root::Browser).await.map(Client)
    }
}

impl Client {
    /// Its id on the hub.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.0.id
    }

    /// Runs a typed command; `session` as given by `Target.attachToTarget`, or `None` for the
    /// root. Waits as long as the browser takes; dropping the future gives the answer up.
    pub async fn call<C>(&self, session: Option<&str>, command: C) -> Result<C::Response, Error>
    where
        C: chromiumoxide::types::Command + Serialize,
    {
        let method = command.identifier();
        let params = write(&method, &command)?;
        // Not held across the wait: it need not be `Sync`.
        drop(command);
        let answer = self.request(session, &method, params).await?;
        serde_json::from_slice(&answer).map_err(|source| Error::Response {
            method: method.into_owned(),
            source,
        })
    }

    /// Runs a command by its name; the result's JSON text.
    pub async fn call_raw(
        &self,
        session: Option<&str>,
        method: impl Into<Cow<'static, str>>,
        params: &(impl Serialize + Sync),
    ) -> Result<Bytes, Error> {
        let method = method.into();
        let params = write(&method, params)?;
        self.request(session, &method, params).await
    }

    /// Sends a command by its name; whoever wants the answer waits for it later. Commands reach the
    /// browser in the order they were sent in.
    pub async fn send(
        &self,
        session: Option<&str>,
        method: &'static str,
        params: &(impl Serialize + Sync),
    ) -> Result<Sent, Error> {
        let params = write(method, params)?;
        let answer = self.ask(session, method, params).await?;
        Ok(Sent { method, answer })
    }

    async fn request(
        &self,
        session: Option<&str>,
        method: &str,
        params: Bytes,
    ) -> Result<Bytes, Error> {
        let answer = self.ask(session, method, params).await?;
        flatten(method, answer.await)
    }

    async fn ask(
        &self,
        session: Option<&str>,
        method: &str,
        params: Bytes,
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            client: self.0.id,
            session: session.map(str::to_owned),
            method: method.to_owned(),
            params: Some(params),
            reply: Reply::Call(reply),
            slot: None,
            room: None,
        };
        self.0.hub.send(Command::Request(request)).await?;
        Ok(answer)
    }

    /// The next event: method, session, parameters; `None` when disconnected. Cancel safe.
    pub async fn event(&mut self) -> Option<(String, Option<String>, Box<RawValue>)> {
        loop {
            let entry = tokio::select! {
                biased;
                () = self.0.ended.cancelled() => return None,
                entry = self.0.outbox.next() => entry?,
            };
            let message = &entry.message;
            let (Some(method), Some(params)) = (&message.method, &message.params) else {
                continue;
            };
            // Checked when the message was read.
            if let Ok(params) = serde_json::from_slice::<Box<RawValue>>(params) {
                return Some((method.clone(), message.session.clone(), params));
            }
        }
    }

    /// The next event of one type, from any session; others, and those whose parameters do not
    /// fit the type, are skipped. Cancel safe.
    pub async fn event_of<E>(&mut self) -> Option<(Option<String>, E)>
    where
        E: chromiumoxide::types::MethodType + DeserializeOwned,
    {
        loop {
            let (method, session, params) = self.event().await?;
            if method == E::method_id()
                && let Ok(event) = serde_json::from_str(params.get())
            {
                return Some((session, event));
            }
        }
    }

    /// Attaches to a page and returns the session id.
    pub async fn attach(&self, target_id: &str) -> Result<String, Error> {
        let params = AttachToTargetParams {
            target_id: target_id.to_owned().into(),
            flatten: Some(true),
        };
        Ok(self.call(None, params).await?.session_id.into())
    }
}

fn write(method: &str, params: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(params)
        .map(Bytes::from)
        .map_err(|source| Error::Parameters {
            method: method.to_owned(),
            source,
        })
}
