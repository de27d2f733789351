//! A viewer of the live view, as the daemon's page is one.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::http_client::Http;

/// Longest wait for anything here.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// A viewer, as the page is one.
pub(super) struct Viewer {
    socket: WebSocketStream<TcpStream>,
    /// The numbers of the pictures so far.
    pub(super) pictures: Vec<u32>,
    /// The last one.
    pub(super) picture: Vec<u8>,
    /// It takes them at once.
    pub(super) takes: bool,
}

/// How a connection ended.
pub(super) type Closed = (u16, String);

pub(super) fn token_of<'a>(session: &'a Value, key: &str) -> &'a str {
    let url = session[key].as_str().expect("a URL");
    url.split_once('#').expect("a fragment").1
}

pub(super) async fn connect(
    http: &Http,
    session: &Value,
    origin: &str,
) -> Result<WebSocketStream<TcpStream>, Error> {
    let id = session["id"].as_str().unwrap();
    let url = format!("ws://{}/live/{id}/socket", http.host());
    let mut request = url.into_client_request().unwrap();
    request
        .headers_mut()
        .insert("origin", origin.parse().unwrap());
    let stream = TcpStream::connect(request.uri().authority().unwrap().as_str()).await?;
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    Ok(socket)
}

impl Viewer {
    pub(super) async fn come(http: &Http, session: &Value, token: &str) -> Self {
        let origin = format!("http://{}", http.host());
        let socket = connect(http, session, &origin).await.expect("a socket");
        let mut viewer = Self {
            socket,
            pictures: Vec::new(),
            picture: Vec::new(),
            takes: true,
        };
        let hello =
            json!({ "type": "hello", "token": token, "width": 800, "height": 450, "dpr": 1 });
        viewer.say(&hello).await;
        viewer
    }

    pub(super) async fn say(&mut self, message: &Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    /// The next thing it is told; pictures are drawn and counted.
    pub(super) async fn hear(&mut self) -> Result<Value, Closed> {
        loop {
            let next = tokio::time::timeout(LIMIT, self.socket.next());
            match next.await.expect("something is said") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Binary(picture))) => {
                    assert_eq!(picture[8], 1, "a JPEG");
                    assert_eq!(&picture[16..18], [0xff, 0xd8]);
                    let number = u32::from_be_bytes(picture[..4].try_into().unwrap());
                    // The same once more for one who did not see them for a moment.
                    assert!(self.pictures.last().is_none_or(|last| *last <= number));
                    if self.pictures.last() != Some(&number) {
                        self.pictures.push(number);
                    }
                    self.picture = picture[16..].to_vec();
                    if self.takes {
                        self.take().await;
                    }
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err((frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                other => panic!("not closed in words: {other:?}"),
            }
        }
    }

    /// The next message that is so.
    pub(super) async fn until(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.hear().await.expect("it is not closed");
            if is(&message) {
                return message;
            }
        }
    }

    pub(super) async fn until_closed(mut self) -> Closed {
        loop {
            if let Err(closed) = self.hear().await {
                return closed;
            }
        }
    }

    /// Takes the last picture.
    pub(super) async fn take(&mut self) {
        let number = self.pictures.last().copied().unwrap_or_default();
        self.say(&json!({ "type": "ack", "frame": number })).await;
    }

    /// Asks for control, and has it.
    pub(super) async fn takes_control(&mut self) {
        self.say(&json!({ "type": "control", "do": "request" }))
            .await;
        self.until(|message| message["control"]["holder"] == "you")
            .await;
    }

    /// Presses the left button at this place of the page, and lets it go.
    pub(super) async fn click(&mut self, x: f64, y: f64) {
        for (kind, buttons) in [("move", 0), ("down", 1), ("up", 0)] {
            let button = if kind == "move" { "none" } else { "left" };
            self.say(&json!({
                "type": "mouse", "kind": kind, "x": x, "y": y, "button": button,
                "buttons": buttons, "clicks": 1, "dx": 0, "dy": 0, "modifiers": 0,
            }))
            .await;
        }
    }

    /// Hears whatever comes for so long.
    pub(super) async fn listens_for(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while let Ok(heard) = tokio::time::timeout_at(until, self.hear()).await {
            heard.expect("it is not closed");
        }
    }

    /// Waits until it has seen more pictures than so many.
    pub(super) async fn sees_more_than(&mut self, before: usize) {
        let until = tokio::time::Instant::now() + LIMIT;
        while self.pictures.len() <= before {
            assert!(tokio::time::Instant::now() < until, "no picture came");
            // What is told beside them is of no interest here.
            let waiting = tokio::time::timeout(Duration::from_millis(100), self.hear()).await;
            if let Ok(Err(closed)) = waiting {
                panic!("closed: {closed:?}");
            }
        }
    }
}
