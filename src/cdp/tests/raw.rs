//! A client that speaks plain CDP over a WebSocket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Raw {
    pub(super) socket: WebSocketStream<TcpStream>,
    last_id: i64,
    /// Read while waiting for an answer.
    pub(super) events: Vec<Value>,
}

impl Raw {
    pub(super) async fn connect(url: &str) -> Self {
        let address = url.trim_start_matches("ws://").split('/').next().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let connected = client_async_with_config(url, stream, Some(config)).await;
        Self {
            socket: connected.unwrap().0,
            last_id: 0,
            events: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, message: &Value) {
        // A hub that has disconnected this client shows when it is read.
        let _ = self.socket.send(Message::text(message.to_string())).await;
    }

    /// Sends a request and leaves its answer to be read.
    pub(super) async fn start(&mut self, session: &str, method: &str, params: Value) -> i64 {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if !session.is_empty() {
            message["sessionId"] = session.into();
        }
        self.send(&message).await;
        self.last_id
    }

    /// The next message; `None` at the end of the connection.
    pub(super) async fn next(&mut self) -> Option<Value> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match frame.expect("a message in time")? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(super) async fn answer(&mut self, id: i64) -> Result<Value, Value> {
        loop {
            let mut message = self.next().await.expect("connected");
            if message["id"] != id {
                self.events.push(message);
                continue;
            }
            return match message["error"].is_null() {
                true => Ok(message["result"].take()),
                false => Err(message["error"].take()),
            };
        }
    }

    /// Whether an answer comes within a while.
    pub(super) async fn is_answered(&mut self, id: i64) -> bool {
        let answer = tokio::time::timeout(Duration::from_millis(400), self.answer(id));
        answer.await.is_ok()
    }

    pub(super) async fn call(
        &mut self,
        session: &str,
        method: &str,
        params: Value,
    ) -> Result<Value, Value> {
        let id = self.start(session, method, params).await;
        self.answer(id).await
    }

    /// The next event of a method, from among those already read too.
    pub(super) async fn event(&mut self, method: &str) -> Value {
        if let Some(at) = self
            .events
            .iter()
            .position(|event| event["method"] == method)
        {
            return self.events.remove(at);
        }
        loop {
            let message = self.next().await.expect("connected");
            if message["method"] == method {
                return message;
            }
            self.events.push(message);
        }
    }

    /// Whether such an event has been read, or comes within a while.
    pub(super) async fn sees(&mut self, method: &str) -> bool {
        tokio::time::timeout(Duration::from_millis(400), self.event(method))
            .await
            .is_ok()
    }

    /// Attaches to the first page.
    pub(super) async fn first_page(&mut self) -> String {
        let targets = self.call("", "Target.getTargets", json!({})).await.unwrap();
        let infos = targets["targetInfos"].as_array().unwrap();
        let page = infos.iter().find(|info| info["type"] == "page").unwrap();
        let params = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = self
            .call("", "Target.attachToTarget", params)
            .await
            .unwrap();
        attached["sessionId"].as_str().unwrap().to_owned()
    }

    pub(super) async fn evaluate(&mut self, session: &str, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self
            .call(session, "Runtime.evaluate", params)
            .await
            .unwrap();
        answer["result"]["value"].clone()
    }

    pub(super) async fn navigate(&mut self, session: &str, url: &str) {
        self.call(session, "Page.enable", json!({})).await.unwrap();
        self.call(session, "Page.navigate", json!({ "url": url }))
            .await
            .unwrap();
        self.event("Page.loadEventFired").await;
    }
}
