//! The daemon's parsers, where they sit in the running daemon: frames, CDP and proxy bytes of code,
//! and the port for callers. What a caller may do is its own business; what its bytes do is not.

#[path = "parsers/caller.rs"]
mod caller;
#[path = "parsers/code.rs"]
mod code;
#[path = "parsers/config.rs"]
mod config;
#[path = "parsers/raw.rs"]
mod raw;

use crate::case::{Case, Group};

pub(crate) fn group() -> Group {
    Group {
        title: "The daemon's parsers",
        cases: CASES,
    }
}

const CASES: &[Case] = &[
    Case {
        number: 200,
        name: "frames of its own",
        tries: "writes to its runner's frame descriptor, in node and python: text, half a frame of \
                a megabyte, nested and repeated keys, a result of another execution, and the end \
                of its own",
        observed: "the execution is `RUNNER_CRASHED`, or unharmed; no claimed result is believed; \
                   the next execution completes",
        run: |ground| Box::pin(code::frames(ground)),
    },
    Case {
        number: 201,
        name: "bytes at the CDP endpoint",
        tries: "sends broken upgrades, broken WebSocket frames and hostile messages to the session's \
                own CDP endpoint: lengths up to 2^63, unmasked, reserved and endless ones, text that \
                is none, a key twice, nesting of 200,000",
        observed: "an error or the end of that connection each time; page and session go on",
        run: |ground| Box::pin(code::cdp(ground)),
    },
    Case {
        number: 202,
        name: "bytes at the proxy",
        tries: "sends the proxy broken requests: lengths that contradict, chunks beyond 64 bits, a \
                thousand fields, NULs, HTTP/2, TLS, two requests in one, a Host of another site",
        observed: "400, 431, the end of the connection, or the answer of the URL's own host; nothing \
                   refused is reached",
        run: |ground| Box::pin(code::proxy(ground)),
    },
    Case {
        number: 210,
        name: "broken HTTP at the port",
        tries: "connects as a caller and sends frames of the wrong size, on the wrong stream, floods \
                of SETTINGS, PING and CONTINUATION, and noise",
        observed: "every connection is ended; the daemon answers others",
        run: |ground| Box::pin(caller::broken(ground)),
    },
    Case {
        number: 211,
        name: "rapid reset",
        tries: "opens and resets calls in groups of 40, and 50,000 at once, on one connection each \
                (CVE-2023-44487)",
        observed: "the groups' connection is ended with ENHANCE_YOUR_CALM, the flood's with it or by \
                   a reset, as something of it is unread",
        run: |ground| Box::pin(caller::rapid_reset(ground)),
    },
    Case {
        number: 212,
        name: "huge headers",
        tries: "sends a megabyte of header fields, over HTTP/1.1 and HTTP/2",
        observed: "431, or the end of the call or connection",
        run: |ground| Box::pin(caller::huge_headers(ground)),
    },
    Case {
        number: 213,
        name: "broken gRPC messages",
        tries: "sends messages with wrong lengths, an unknown compression, none that is named, and \
                bytes that are no protobuf",
        observed: "a status that is not OK",
        run: |ground| Box::pin(caller::broken_messages(ground)),
    },
    Case {
        number: 214,
        name: "reflection",
        tries: "asks the reflection service for 1,000 names of 10,000 bytes in a stream each, and for \
                5,000 in one",
        observed: "each stream is ended with NOT_FOUND at its first name",
        run: |ground| Box::pin(caller::reflection(ground)),
    },
    Case {
        number: 215,
        name: "slow callers",
        tries: "holds 300 connections that say nothing, half a preface, half a header, or nothing \
                after a preface",
        observed: "all are ended within the times the daemon gives; others are served meanwhile",
        run: |ground| Box::pin(caller::slow(ground)),
    },
    Case {
        number: 216,
        name: "more connections than there may be",
        tries: "opens 1,100 connections and holds them, where 1,024 may be",
        observed: "calls on connections from before go on, and new ones are served afterwards",
        run: |ground| Box::pin(caller::flood(ground)),
    },
    Case {
        number: 217,
        name: "half-closed sockets",
        tries: "closes its sending side after nothing, after a preface, and in the middle of a call",
        observed: "the daemon closes its side of each",
        run: |ground| Box::pin(caller::half_closed(ground)),
    },
    Case {
        number: 220,
        name: "hostile config files",
        tries: "starts the daemon with endless, deep, binary, huge and contradicting files",
        observed: "an error that names the file, and exit status 125, at once",
        run: |ground| Box::pin(config::hostile(ground)),
    },
];
