//! A host on the loopback that keeps every byte it gets, and answers as badly as it is told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Most that is kept of one connection.
const KEPT: usize = 1 << 20;

/// What is answered to a path: whole, or, if it says so, its last part again and again.
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) endless: Option<&'static [u8]>,
    pub(super) close: bool,
}

/// The host; stops when dropped.
pub(super) struct Peer {
    pub(super) port: u16,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    pub(super) async fn start(answer: fn(&str) -> Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let at = {
                    let mut all = all.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                let all = Arc::clone(&all);
                serving.spawn(async move {
                    let mut answered = false;
                    let mut piece = [0; 16 << 10];
                    while let Ok(count @ 1..) = socket.read(&mut piece).await {
                        let head = {
                            let kept = &mut all.lock().unwrap()[at];
                            kept.extend_from_slice(&piece[..count]);
                            kept.truncate(KEPT);
                            let text = String::from_utf8_lossy(kept).into_owned();
                            text.split_once("\r\n\r\n").map(|(head, _)| head.to_owned())
                        };
                        let Some(head) = head.filter(|_| !answered) else {
                            continue;
                        };
                        answered = true;
                        let answer = answer(head.split(' ').nth(1).unwrap_or_default());
                        let _ = socket.write_all(&answer.bytes).await;
                        if let Some(again) = answer.endless {
                            while socket.write_all(again).await.is_ok() {}
                        }
                        if answer.close {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            port,
            connections,
            task,
        }
    }

    /// Every request of every connection, read as strictly as HTTP can be read.
    ///
    /// # Panics
    /// When anything that was sent is not a plain request.
    pub(super) fn requests(&self) -> Vec<Request> {
        let connections = self.connections.lock().unwrap().clone();
        connections.iter().flat_map(|bytes| parse(bytes)).collect()
    }
}

/// One request as it arrived.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) line: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn field(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_str()).collect()
    }
}

fn parse(mut bytes: &[u8]) -> Vec<Request> {
    let mut requests = Vec::new();
    while let Some(end) = find(bytes, b"\r\n\r\n") {
        let head = std::str::from_utf8(&bytes[..end]).expect("a header is text");
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap().to_owned();
        assert!(
            !head.replace("\r\n", "").contains(['\r', '\n', '\0']),
            "{head:?}"
        );
        let fields: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a field has a colon");
                assert!(!name.contains([' ', '\t']), "{head:?}");
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let mut request = Request {
            line,
            fields,
            body: Vec::new(),
        };
        let (lengths, encodings) = (
            request.field("content-length").len(),
            request.field("transfer-encoding").len(),
        );
        assert!(lengths + encodings <= 1, "{head:?}");
        if encodings == 1 {
            assert_eq!(request.field("transfer-encoding"), ["chunked"], "{head:?}");
            while let Some(end) = find(bytes, b"\r\n") {
                let size = std::str::from_utf8(&bytes[..end]).unwrap();
                let size = usize::from_str_radix(size, 16).expect("a chunk's size");
                let from = end + 2;
                if bytes.len() < from + size + 2 {
                    break;
                }
                request.body.extend_from_slice(&bytes[from..from + size]);
                bytes = &bytes[from + size + 2..];
                if size == 0 {
                    break;
                }
            }
        } else if lengths == 1 {
            let length: usize = request.field("content-length")[0]
                .parse()
                .expect("a length");
            let there = length.min(bytes.len());
            request.body.extend_from_slice(&bytes[..there]);
            bytes = &bytes[there..];
        }
        requests.push(request);
    }
    requests
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}

/// An ordinary answer.
pub(super) fn fine() -> Answer {
    Answer {
        bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        endless: None,
        close: false,
    }
}
