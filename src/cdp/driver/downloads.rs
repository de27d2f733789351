//! Downloads: who is told what, and when.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::events::read;
use super::{Command, Driver};
use crate::cdp::download_dir;
use crate::cdp::downloads::{self, Destination};
use crate::cdp::message::{Message, payload};
use crate::id::ClientId;

impl Driver {
    fn context_of(&self, frame: &str) -> Option<String> {
        self.shared
            .board()
            .pages
            .get(frame)
            .and_then(|entry| entry.context.clone())
    }

    /// The key clients use for a page's context: they leave the default one out.
    fn wish_key(&self, frame: &str) -> Option<String> {
        let context = self.context_of(frame)?;
        let named = |member: &super::Member| member.wishes.names(&context);
        self.clients.values().any(named).then_some(context)
    }

    pub(super) fn download_began(&mut self, message: &Message) {
        let Some(params) = read::<Value>(message) else {
            return;
        };
        let guid = params["guid"].as_str().unwrap_or_default();
        let active = self.downloads.began(guid, &params);
        let context = self.wish_key(&active.frame);
        let refused = json!({
            "guid": guid, "totalBytes": 0, "receivedBytes": 0, "state": "canceled",
        });
        for (client, denied) in self.told_of_downloads(context.as_deref()) {
            self.tell_download(client, "Browser.downloadWillBegin", &params);
            if denied {
                self.tell_download(client, "Browser.downloadProgress", &refused);
            }
        }
    }

    /// Clients that want download events, and whether each denies this one.
    fn told_of_downloads(&self, context: Option<&str>) -> Vec<(ClientId, bool)> {
        let wanting = self
            .clients
            .iter()
            .filter(|(_, member)| member.wishes.events());
        wanting
            .map(|(id, member)| (*id, member.wishes.denied(context)))
            .collect()
    }

    fn tell_download(&mut self, client: ClientId, method: &str, params: &Value) {
        self.deliver(client, Message::event(method, None, payload(params)));
    }

    pub(super) fn download_progress(&mut self, message: &Message) {
        let Some(params) = read::<Value>(message) else {
            return;
        };
        let guid = params["guid"].as_str().unwrap_or_default().to_owned();
        let active = self.downloads.get(&guid);
        let context = self.wish_key(&active.frame);
        let state = params["state"].as_str().unwrap_or_default();
        if state != "inProgress" {
            self.downloads.ended(&guid);
        }
        if state == "completed" {
            return self.place(params, guid, active.suggested, context.as_deref());
        }
        for (client, denied) in self.told_of_downloads(context.as_deref()) {
            if !denied {
                self.tell_download(client, "Browser.downloadProgress", &params);
            }
        }
    }

    /// Puts a finished file where clients look for it; they are told afterwards.
    fn place(&mut self, params: Value, guid: String, suggested: String, context: Option<&str>) {
        let mut destinations: Vec<Destination> = Vec::new();
        // Each client with the index of its own destination, if it has one.
        let mut clients: Vec<(ClientId, Option<usize>)> = Vec::new();
        for (id, member) in &self.clients {
            if member.wishes.denied(context) {
                continue;
            }
            let wanted = member.wishes.destinations(context);
            let first = wanted.first().cloned();
            for destination in wanted {
                if !destinations.contains(&destination) {
                    destinations.push(destination);
                }
            }
            let own = first.and_then(|first| destinations.iter().position(|d| *d == first));
            clients.push((*id, own));
        }
        // It comes from the browser, which is not trusted with paths.
        let is_name =
            !guid.is_empty() && guid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_name {
            return;
        }
        let files = self.shared.files.clone();
        let hub = self.hub.clone();
        self.shared.tasks.spawn(async move {
            let placing = tokio::task::spawn_blocking(move || {
                let from = download_dir().join(&guid);
                downloads::place(&*files, &from, &guid, &suggested, &destinations)
            });
            let command = match placing.await {
                Ok(Ok(placed)) => {
                    let path = |own: Option<usize>| own.and_then(|at| placed.get(at).cloned());
                    let paths = clients
                        .into_iter()
                        .map(|(id, own)| (id, path(own)))
                        .collect();
                    Command::Placed { params, paths }
                }
                outcome => {
                    let error = match outcome {
                        Ok(Err(error)) => error,
                        Ok(Ok(_)) => return,
                        Err(error) => error.into(),
                    };
                    tracing::warn!(%error, "a finished download could not be put into place");
                    let clients = clients.into_iter().map(|(id, _)| id).collect();
                    Command::NotPlaced { params, clients }
                }
            };
            // Fails only when the hub has ended.
            let _ = hub.send(command).await;
        });
    }

    pub(super) fn placed(&mut self, params: &Value, paths: &[(ClientId, Option<PathBuf>)]) {
        for (client, path) in paths {
            let mut params = params.clone();
            if let Some(fields) = params.as_object_mut()
                && fields.contains_key("filePath")
            {
                match path {
                    Some(path) => fields.insert("filePath".into(), path.to_string_lossy().into()),
                    None => fields.remove("filePath"),
                };
            }
            if self
                .clients
                .get(client)
                .is_some_and(|member| member.wishes.events())
            {
                self.tell_download(*client, "Browser.downloadProgress", &params);
            }
        }
    }

    pub(super) fn not_placed(&mut self, params: &Value, clients: &[ClientId]) {
        let mut params = params.clone();
        params["state"] = "canceled".into();
        for client in clients {
            if self
                .clients
                .get(client)
                .is_some_and(|member| member.wishes.events())
            {
                self.tell_download(*client, "Browser.downloadProgress", &params);
            }
        }
    }
}
