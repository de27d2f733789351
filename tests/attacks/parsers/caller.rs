//! What a caller's bytes do at the daemon's port.

use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use tokio::io::AsyncWriteExt as _;
use tonic::codegen::Bytes;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use super::raw::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RESET,
    SETTINGS, WINDOW_UPDATE, answers, call, connect, field, frame, next_frame, talk,
};
use crate::arena::Ground;

const LIST: &str = "/pagebox.v1.SessionService/ListSessions";
const EXECUTE: &str = "/pagebox.v1.ExecutionService/Execute";
/// GOAWAY's code for a peer that floods.
const ENHANCE_YOUR_CALM: u32 = 11;

fn opened() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// The code of the last GOAWAY among frames.
fn goaway(mut said: &[u8]) -> Option<u32> {
    let mut code = None;
    while let Some((head, rest)) = said.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = rest.get(..length)?;
        if head[3] == GOAWAY {
            code = Some(u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?));
        }
        said = &rest[length..];
    }
    code
}

pub(super) async fn broken(ground: &Ground) {
    let headers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &call(LIST));
    let started = frame(HEADERS, END_STREAM, 1, &call(LIST));
    let full_window = 0x7fff_ffff_u32.to_be_bytes();
    let flood = |kind, flags, stream, payload: &[u8], times: usize| {
        frame(kind, flags, stream, payload).repeat(times)
    };
    let after_preface: [(&str, Vec<u8>); 14] = [
        (
            "a frame of 16 MiB",
            [&[0xff; 3][..], &[DATA, 0, 0, 0, 0, 1]].concat(),
        ),
        ("SETTINGS of an odd size", frame(SETTINGS, 0, 0, &[1, 2, 3])),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[])),
        (
            "HEADERS on stream 0",
            frame(HEADERS, END_HEADERS, 0, &call(LIST)),
        ),
        (
            "HEADERS on an even stream",
            frame(HEADERS, END_HEADERS, 2, &call(LIST)),
        ),
        ("DATA on a stream that is not open", frame(DATA, 0, 1, b"x")),
        (
            "an index of no table",
            frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ),
        (
            "an integer without end",
            frame(HEADERS, END_HEADERS, 1, &[0xff; 200]),
        ),
        ("PING of a wrong size", frame(PING, 0, 0, &[0; 7])),
        (
            "a window beyond 2^31",
            [&headers[..], &flood(WINDOW_UPDATE, 0, 0, &full_window, 2)].concat(),
        ),
        (
            "another frame within a header",
            [&started[..], &frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        (
            "CONTINUATION without a header",
            frame(CONTINUATION, 0, 1, b""),
        ),
        (
            "PUSH_PROMISE of a client",
            frame(5, END_HEADERS, 1, &[0, 0, 0, 2]),
        ),
        (
            "CONTINUATION without end",
            [&started[..], &flood(CONTINUATION, 0, 1, &[0; 16_000], 2000)].concat(),
        ),
    ];
    for (what, bytes) in &after_preface {
        let said = talk(connect(ground).await, &[opened(), bytes.clone()].concat()).await;
        assert!(
            goaway(&said).is_some_and(|code| code != 0),
            "{what}: {said:?}"
        );
        answers(ground).await;
    }
    // What costs nothing but answers, and is not read: the daemon must not queue without a bound.
    for (kind, payload) in [(SETTINGS, &[][..]), (PING, &[0; 8])] {
        let mut stream = connect(ground).await;
        let bytes = [opened(), flood(kind, 0, 0, payload, 400_000)].concat();
        let writing = stream.write_all(&bytes);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(10), writing).await;
        answers(ground).await;
    }
    for noise in [
        &[0_u8; 5000][..],
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03noise\r\n\r\n".repeat(9),
        b"GET /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /health HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"\r\n\r\n\0\r\n",
    ] {
        let said = talk(connect(ground).await, noise).await;
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains(" 200 "), "{said}");
    }
    answers(ground).await;
}

pub(super) async fn rapid_reset(ground: &Ground) {
    let block = call(LIST);
    let resets = |from: u32, times: u32| -> Vec<u8> {
        let calls = (from..from + times).map(|number| {
            let stream = 2 * number + 1;
            let opened = frame(HEADERS, END_HEADERS, stream, &block);
            [opened, frame(RESET, 0, stream, &8_u32.to_be_bytes())].concat()
        });
        calls.flatten().collect()
    };
    // After each group it is waited for that all of it was read: a connection that is ended with
    // something unread is reset, which may overtake the frame that says why.
    let mut stream = connect(ground).await;
    stream.write_all(&opened()).await.expect("it is open");
    let mut asked = 0;
    let payload = loop {
        assert!(asked < 50_000, "it is not ended");
        let group = [resets(asked, 40), frame(PING, 0, 0, &[1; 8])].concat();
        stream.write_all(&group).await.expect("it is open");
        asked += 40;
        let answer = loop {
            match next_frame(&mut stream).await {
                (GOAWAY, _, payload) => break Some(payload),
                (PING, ACK, _) => break None,
                _ => {}
            }
        };
        if let Some(payload) = answer {
            break payload;
        }
    };
    assert_eq!(payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes());
    talk(stream, &[]).await;

    let said = talk(
        connect(ground).await,
        &[opened(), resets(0, 50_000)].concat(),
    )
    .await;
    let code = goaway(&said);
    assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM)), "{code:?}");
    answers(ground).await;
}

pub(super) async fn huge_headers(ground: &Ground) {
    let line = format!("X-Long: {}\r\n", "x".repeat(100));
    let plain = format!(
        "GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        line.repeat(10_000)
    );
    let said = talk(connect(ground).await, plain.as_bytes()).await;
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 431 "),
        "{said}"
    );

    let mut block = call(LIST);
    for _ in 0..10_000 {
        field(&mut block, "x-long", &"x".repeat(100));
    }
    let mut pieces = block.chunks(16_000);
    let mut bytes = opened();
    bytes.extend(frame(
        HEADERS,
        END_STREAM,
        1,
        pieces.next().unwrap_or_default(),
    ));
    for piece in pieces {
        bytes.extend(frame(CONTINUATION, 0, 1, piece));
    }
    bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
    // If only the call is refused, a bad frame ends the connection.
    bytes.extend(frame(SETTINGS, 0, 0, &[0]));
    talk(connect(ground).await, &bytes).await;
    // Fields from the table, each a byte here and 4,000 there.
    let mut block = call(LIST);
    block.extend([0x40, 1, b'x', 0x7f, 0x80, 0x1e]);
    block.extend([b'y'; 3967]);
    block.extend([0xbe; 12_000]);
    let mut bytes = opened();
    bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    bytes.extend(frame(SETTINGS, 0, 0, &[0]));
    talk(connect(ground).await, &bytes).await;
    answers(ground).await;
}

pub(super) async fn broken_messages(ground: &Ground) {
    let deep = [&[0, 0, 0, 0x9c, 0x40][..], &[0x0b; 40_000]].concat();
    let long = [&[0, 4, 0, 0, 1][..], &vec![0; (64 << 20) + 1]].concat();
    let bodies: [(&str, Vec<u8>); 9] = [
        ("nothing", Vec::new()),
        ("a length of 4 GiB", vec![0, 0xff, 0xff, 0xff, 0xff]),
        ("half a message", vec![0, 0, 0, 0, 10, 1, 2]),
        ("half a head", vec![0, 0, 0]),
        ("compressed by nothing", vec![1, 0, 0, 0, 1, 0]),
        ("a flag of none", vec![7, 0, 0, 0, 0]),
        (
            "no protobuf",
            vec![0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
        ("groups in groups", deep),
        ("a message beyond the limit", long),
    ];
    for (what, body) in bodies {
        let status = status_of(ground, EXECUTE, &[], body).await;
        assert!(matches!(status, Some(1..=16)), "{what}: {status:?}");
    }
    let message = vec![0, 0, 0, 0, 0];
    for (name, value) in [("grpc-encoding", "snappy"), ("grpc-encoding", "\u{e9}")] {
        let status = status_of(ground, LIST, &[(name, value)], message.clone()).await;
        assert!(matches!(status, Some(1..=16)), "{value}: {status:?}");
    }
    // The pair.
    assert_eq!(status_of(ground, LIST, &[], message).await, Some(0));
    answers(ground).await;
}

/// The `grpc-status` of one call; none where the call or its connection was ended without one.
async fn status_of(
    ground: &Ground,
    path: &str,
    fields: &[(&str, &str)],
    body: Vec<u8>,
) -> Option<i32> {
    let client = Http::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Full<Bytes>>();
    let mut request = axum::http::Request::post(format!("{}{path}", ground.daemon().url()))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body)).expect("a request");
    let response = client.request(request).await.ok()?;
    let of = |fields: &axum::http::HeaderMap| {
        let status = fields.get("grpc-status")?.to_str().ok()?;
        status.parse().ok()
    };
    if let Some(status) = of(response.headers()) {
        return Some(status);
    }
    let body = response.into_body().collect().await.ok()?;
    body.trailers().and_then(of)
}

pub(super) async fn reflection(ground: &Ground) {
    let name = "x".repeat(10_000);
    let asked = move |number: usize| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(if number.is_multiple_of(2) {
            MessageRequest::FileContainingSymbol(format!("{name}{number}"))
        } else {
            MessageRequest::FileByFilename(format!("../{name}{number}"))
        }),
    };
    let client = ServerReflectionClient::new(ground.client().channel());
    // A name that is not there ends its stream: each of 1,000 alone, then 5,000 in one.
    let alone = (0..1000).map(|number| vec![asked(number)]);
    let together = (0..5000).map(&asked).collect();
    let calls = alone.chain([together]).map(|questions| {
        let mut client = client.clone();
        async move {
            let replies = client.server_reflection_info(tokio_stream::iter(questions));
            let mut replies = replies.await.expect("a stream").into_inner();
            let told = replies.message().await.expect_err("nothing is found");
            assert_eq!(told.code(), tonic::Code::NotFound, "{told}");
        }
    });
    for call in calls {
        call.await;
    }
    answers(ground).await;
}

pub(super) async fn slow(ground: &Ground) {
    let begun = frame(HEADERS, 0, 1, &call(LIST)[..9]);
    let words: [&[u8]; 6] = [
        b"",
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nS",
        b"GET /health HTTP/1.1\r\nX-Slow: ",
        PREFACE,
        &[&opened()[..], &begun].concat(),
    ];
    let mut held = Vec::new();
    for word in words.iter().cycle().take(300) {
        let stream = connect(ground).await;
        let word = word.to_vec();
        held.push(tokio::spawn(async move { talk(stream, &word).await }));
    }
    answers(ground).await;
    for held in held {
        held.await.expect("each is ended");
    }
    answers(ground).await;
}

pub(super) async fn flood(ground: &Ground) {
    let session = ground.blank().await;
    let mut held = Vec::new();
    // Those beyond the bound are in the kernel's queue, which has 128 places.
    for _ in 0..1100 {
        held.push(connect(ground).await);
    }
    // Its connection is from before.
    assert_eq!(session.bash("echo here").await, "here");
    drop(held);
    answers(ground).await;
    session.stop().await;
}

pub(super) async fn half_closed(ground: &Ground) {
    let begun = frame(HEADERS, END_HEADERS, 1, &call(EXECUTE));
    let half = frame(DATA, 0, 1, &[0, 0, 0, 1, 0, 10]);
    let words: [Vec<u8>; 5] = [
        Vec::new(),
        PREFACE[..9].to_vec(),
        opened(),
        [opened(), begun, half].concat(),
        b"POST /health HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf".to_vec(),
    ];
    let mut held = Vec::new();
    for word in words.iter().cycle().take(200) {
        let mut stream = connect(ground).await;
        stream.write_all(word).await.expect("it is taken");
        stream.shutdown().await.expect("it is open");
        held.push(tokio::spawn(talk(stream, &[])));
    }
    for held in held {
        held.await.expect("each is ended");
    }
    answers(ground).await;
}
