//! How clients come and go, and what is queued for them.

use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::held::Hold;
use super::{Answer, Connecting, Driver, Member, Pending, Reply, Root, Session, Then, session_id};
use crate::cdp::downloads::Wishes;
use crate::cdp::message::{Message, payload};
use crate::cdp::queue::Queue;
use crate::cdp::{ClientKind, Error};
use crate::id::ClientId;

/// Bytes queued for all clients together, as a multiple of one client's bound.
const TOTAL_QUEUES: usize = 2;
/// Clients of the daemon's own, for which those of others leave room: a live view and what else is under
/// way, with some to spare.
pub(crate) const OWN_CLIENTS: usize = 16;

impl Driver {
    pub(super) fn connect(
        &mut self,
        kind: ClientKind,
        root: Root,
        queue: Queue,
        ended: CancellationToken,
        reply: oneshot::Sender<Result<ClientId, Error>>,
    ) {
        let is_own = kind.is_own();
        let limit = match is_own {
            true => OWN_CLIENTS,
            false => self.shared.config.max_clients,
        };
        let connecting = self
            .pending
            .values()
            .filter_map(|pending| match &pending.then {
                Then::Connect(connecting) => Some(&connecting.kind),
                _ => None,
            });
        let members = self.clients.values().map(|member| &member.kind);
        let alike = (members.chain(connecting)).filter(|kind| kind.is_own() == is_own);
        if alike.count() >= limit {
            // The caller may have given up; it then needs no answer.
            let _ = reply.send(Err(Error::TooManyClients { limit }));
            return;
        }
        let (method, params, target) = match root {
            Root::Browser => ("Target.attachToBrowserTarget", None, None),
            Root::Page(target) => {
                if self.shared.board().pages.get(&target).is_none() {
                    let _ = reply.send(Err(Error::NoPage { target_id: target }));
                    return;
                }
                let params = payload(&json!({ "targetId": target, "flatten": true }));
                ("Target.attachToTarget", Some(params), Some(target))
            }
        };
        let connecting = Box::new(Connecting {
            kind,
            target,
            queue,
            ended,
            reply,
        });
        let pending = Pending {
            client: None,
            session: None,
            reply: Reply::Nobody,
            then: Then::Connect(connecting),
            _slot: None,
        };
        self.forward(method.to_owned(), params, pending, None);
    }

    /// The browser has made a root session for a client.
    pub(super) fn connected(&mut self, connecting: Connecting, outcome: &Answer) {
        let Some(root) = outcome.as_ref().ok().and_then(|result| session_id(result)) else {
            let answer = match connecting.target {
                Some(target_id) => Err(Error::NoPage { target_id }),
                None => Err(Error::Closed),
            };
            let _ = connecting.reply.send(answer);
            return;
        };
        self.last_client += 1;
        let id = ClientId(self.last_client);
        if connecting.reply.send(Ok(id)).is_err() {
            // Given up meanwhile.
            self.detach(root);
            return;
        }
        tracing::debug!(client_id = %id, kind = connecting.kind.name(), "client connected");
        let target = connecting.target.unwrap_or_default();
        let session = Session {
            owner: Some(id),
            target,
            parent: None,
            hold: Hold::No,
        };
        self.sessions.insert(root.clone(), session);
        let member = Member {
            kind: connecting.kind,
            root,
            queue: connecting.queue,
            ended: connecting.ended,
            wishes: Wishes::default(),
            sessions: 0,
            arriving: None,
        };
        self.clients.insert(id, member);
    }

    /// Ends a client: Chromium drops what its sessions held (pauses, interception, emulation,
    /// traces, contexts to be disposed of) when its root session is detached.
    pub(super) fn disconnect(&mut self, client: ClientId) {
        let Some(member) = self.clients.remove(&client) else {
            return;
        };
        tracing::debug!(client_id = %client, "client disconnected");
        member.ended.cancel();
        if member.kind != ClientKind::Live {
            self.captures_abandoned(client);
        }
        self.withheld.retain(|request| request.client != client);
        self.pending
            .retain(|_, pending| pending.client != Some(client));
        let (dialogs, recordings) = (&mut self.dialogs, &mut self.recordings);
        let mut held = Vec::new();
        self.sessions.retain(|id, session| {
            let stays = session.owner != Some(client);
            if !stays {
                dialogs.forget(id);
                recordings.forget(id);
                if session.hold != Hold::No {
                    held.push(std::mem::take(&mut session.target));
                }
            }
            stays
        });
        self.detach(member.root);
        for target in held {
            self.settle(&target);
        }
    }

    pub(super) fn detach(&mut self, session: String) {
        let params = payload(&json!({ "sessionId": session }));
        self.own(None, "Target.detachFromTarget", Some(params));
    }

    /// Queues a message for a client; disconnects it, or the client furthest behind, when there
    /// is no room.
    pub(super) fn deliver(&mut self, client: ClientId, message: Message) {
        let Some(member) = self.clients.get(&client) else {
            return;
        };
        let large = message.size() > 1 << 20;
        if member.queue.push(message).is_err() {
            tracing::warn!(
                client_id = %client, queued_bytes = member.queue.bytes(),
                "client disconnected: it does not read what it is sent"
            );
            self.disconnect(client);
            return;
        }
        if !large {
            return;
        }
        let total: usize = self
            .clients
            .values()
            .map(|member| member.queue.bytes())
            .sum();
        let limit = self.shared.config.client_queue.as_usize() * TOTAL_QUEUES;
        let fullest = self
            .clients
            .iter()
            .max_by_key(|(_, member)| member.queue.bytes());
        // One that has nothing but its newest answer is not behind.
        if let Some((&id, _)) = fullest
            && total > limit
            && self
                .clients
                .values()
                .filter(|member| member.queue.bytes() > 0)
                .count()
                > 1
        {
            tracing::warn!(client_id = %id, queued_bytes = total, "client disconnected: too much is queued for all clients");
            self.disconnect(id);
        }
    }
}
