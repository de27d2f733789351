//! The opening of a WebSocket, as RFC 6455 has the server answer it.

use hyper::StatusCode;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Whether a request wants to become a WebSocket.
#[must_use]
pub fn wants_websocket(headers: &HeaderMap) -> bool {
    header_has(headers, &UPGRADE, "websocket")
}

/// The headers of the answer 101 to such a request.
///
/// # Errors
/// The status and text for a request that is no handshake.
pub fn accept_websocket(headers: &HeaderMap) -> Result<HeaderMap, (StatusCode, &'static str)> {
    if !wants_websocket(headers) {
        let text = "this is a WebSocket endpoint";
        return Err((StatusCode::UPGRADE_REQUIRED, text));
    }
    let version = headers.get(SEC_WEBSOCKET_VERSION);
    let accept = match headers.get(SEC_WEBSOCKET_KEY) {
        Some(key) if version.is_some_and(|version| version == "13") => {
            HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
        }
        _ => None,
    };
    let Some(accept) = accept else {
        let text = "not a WebSocket handshake of version 13";
        return Err((StatusCode::BAD_REQUEST, text));
    };
    let mut answer = HeaderMap::new();
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(answer)
}

fn header_has(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    let header = headers.get(name).and_then(|header| header.to_str().ok());
    header.is_some_and(|header| {
        header
            .split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(value))
    })
}
