//! A caller that speaks bytes.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::arena::Ground;

/// Longer than any time the daemon gives: 30 s to say which HTTP it is, 25 s to answer a ping.
pub(super) const ENDS: Duration = Duration::from_secs(100);
/// How every HTTP/2 connection begins.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
/// Flag of SETTINGS and PING.
pub(super) const ACK: u8 = 1;
/// Flags of HEADERS.
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) async fn connect(ground: &Ground) -> TcpStream {
    TcpStream::connect(ground.daemon().address())
        .await
        .expect("the daemon listens")
}

/// Sends what the other side takes, and reads until it closes; what it said.
///
/// # Panics
/// When it does not close in time.
pub(super) async fn talk(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    let talking = async {
        let (mut read, mut write) = stream.split();
        // Either may fail with the connection: that is an end as well.
        let writing = async {
            let _ = write.write_all(bytes).await;
        };
        let reading = async {
            let _ = read.read_to_end(&mut said).await;
        };
        tokio::join!(writing, reading);
    };
    let ended = tokio::time::timeout(ENDS, talking).await;
    ended.expect("the daemon ends the connection");
    said
}

/// The next frame of HTTP/2: kind, flags, payload.
///
/// # Panics
/// When none comes in time, or the connection ends first.
pub(super) async fn next_frame(stream: &mut TcpStream) -> (u8, u8, Vec<u8>) {
    let reading = async {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        std::io::Result::Ok((head[3], head[4], payload))
    };
    let frame = tokio::time::timeout(ENDS, reading).await;
    frame.expect("it comes in time").expect("a frame")
}

/// A frame of HTTP/2.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short one");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The header fields of a call, without compression.
pub(super) fn call(path: &str) -> Vec<u8> {
    // From the static table: POST, http.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(4_u8, path), (1, "localhost")] {
        block.push(name);
        block.push(u8::try_from(value.len()).expect("less than 127"));
        block.extend(value.as_bytes());
    }
    field(&mut block, "content-type", "application/grpc");
    field(&mut block, "te", "trailers");
    block
}

/// One more header field; both texts are short.
pub(super) fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).expect("less than 127"));
        block.extend(text.as_bytes());
    }
}

/// That a new caller is answered.
pub(super) async fn answers(ground: &Ground) {
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let said = talk(connect(ground).await, request).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
}
