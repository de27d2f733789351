//! `/live/{session}`: the page on which people watch a session, and act on it, by the token in its
//! URL's fragment; its parts, its WebSocket, and the files that go in and out.
//!
//! Here everybody is let in: the page says nothing, and the token is asked for by what it does. No
//! request names the token but in a header or a message, so it is in no log.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{Instrument as _, debug, info_span};

use super::base::{Base, peer_of};
use super::extract::{Params, Session, discard, query_value};
use super::{ApiError, Gateway};
use crate::cdp::accept_websocket;
use crate::live::{FileError, MAX_FILE};
use crate::session::{SessionView, Token};

const PAGE: &str = include_str!("live_view/index.html");

/// What the page is made of, by name.
macro_rules! assets {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("live_view/", $name)))),*]
    };
}
const ASSETS: &[(&str, &str)] = assets![
    "bar.js" "clipboard.js" "connection.js" "dialogs.js" "files.js" "keyboard.js" "list.js"
    "notes.js" "parts.js" "picture.js" "pointer.js" "view.css" "view.js"
];

/// Where a session is watched.
#[derive(Debug, Default)]
pub(super) struct LiveUrls {
    /// To look only.
    pub(super) view: String,
    /// To act too.
    pub(super) control: String,
}

/// Secrets; empty once the session has ended, and for one without a live view.
pub(super) fn live_urls(base: &Base, view: &SessionView) -> LiveUrls {
    let url = |token: &Token| format!("{}/live/{}#{}", base.origin(), view.id, token.as_str());
    match &view.live_tokens {
        Some(tokens) if !view.state.ended() => LiveUrls {
            view: url(&tokens.view),
            control: url(&tokens.control),
        },
        _ => LiveUrls::default(),
    }
}

/// The page, the same for every session. Scripts and styles of this daemon only, nothing inline.
pub(super) async fn page(State(gateway): State<Gateway>, Session(_): Session) -> Response {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {}",
        gateway.front.frame_ancestors
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (REFERRER_POLICY, "no-referrer".to_owned()),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, PAGE).into_response()
}

/// A part of the page.
pub(super) async fn asset(Params(name): Params<String>) -> Result<Response, ApiError> {
    let found = ASSETS.iter().find(|(known, _)| *known == name);
    let (name, text) = found.ok_or_else(|| {
        let message = format!("there is no {name:?} in the live view");
        ApiError::new(StatusCode::NOT_FOUND, message)
    })?;
    let kind = match name.ends_with(".css") {
        true => "text/css; charset=utf-8",
        false => "text/javascript; charset=utf-8",
    };
    let headers: [(HeaderName, &str); 4] = [
        (CONTENT_TYPE, kind),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Another daemon at this address may have others.
        (CACHE_CONTROL, "no-cache"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    Ok((headers, *text).into_response())
}

/// A viewer's connection. Of web pages the daemon's own only; the token comes in the first message.
pub(super) async fn socket(
    State(gateway): State<Gateway>,
    Session(id): Session,
    mut request: Request,
) -> Result<Response, ApiError> {
    own_pages_only(&gateway, &request)?;
    let accepted = accept_websocket(request.headers());
    let headers = accepted.map_err(|(status, message)| ApiError::new(status, message))?;
    let upgraded = hyper::upgrade::on(&mut request);
    let views = gateway.views.clone();
    let span = info_span!(parent: None, "viewer", session_id = %id);
    // Ends with the connection, or with the session.
    let serving = async move {
        match upgraded.await {
            Ok(upgraded) => views.serve(id, TokioIo::new(upgraded)).await,
            Err(error) => debug!(%error, "a viewer did not stay for its WebSocket"),
        }
    };
    tokio::spawn(serving.instrument(span));
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// Refuses other sites, also those that may call the API.
fn own_pages_only(gateway: &Gateway, request: &Request) -> Result<(), ApiError> {
    let (uri, headers) = (request.uri(), request.headers());
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let own = gateway
        .front
        .own_origin(peer_of(request.extensions()), uri, headers);
    match own {
        Some(own) if origin == own.as_str() => Ok(()),
        _ => {
            let message = "only the live view's own page may connect here; if this is it, \
                           set http.public_url to the URL that people know the daemon by";
            Err(ApiError::new(StatusCode::FORBIDDEN, message))
        }
    }
}

/// Puts a file into a session.
pub(super) async fn upload(
    State(gateway): State<Gateway>,
    Session(id): Session,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let token = bearer(request.headers())?;
    let name = query_value(request.uri(), "name").unwrap_or_default();
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let body = request.into_body();
    if length.is_some_and(|length| length > MAX_FILE.0) {
        discard(body).await;
        return Err(FileError::TooLarge.into());
    }
    let pieces = body.into_data_stream();
    let path = gateway.views.upload(id, &token, &name, pieces).await?;
    Ok(Json(json!({ "path": path })))
}

/// Gives a downloaded file out, as nothing that a browser would show.
pub(super) async fn download(
    State(gateway): State<Gateway>,
    Session(id): Session,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let token = bearer(&headers)?;
    let path = query_value(&uri, "path").unwrap_or_default();
    let (size, pieces) = gateway.views.download(id, &token, &path).await?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, size.to_string()),
        (CONTENT_DISPOSITION, "attachment".to_owned()),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox".to_owned(),
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    let body = Body::from_stream(ReceiverStream::new(pieces));
    Ok((headers, body).into_response())
}

/// The token, which no URL holds.
fn bearer(headers: &HeaderMap) -> Result<String, ApiError> {
    let said = headers
        .get(AUTHORIZATION)
        .and_then(|said| said.to_str().ok());
    let token = said.and_then(|said| said.split_once(' '));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Ok(token.trim().to_owned())
        }
        _ => {
            let message = "this needs the live view's token: Authorization: Bearer …";
            Err(ApiError::new(StatusCode::UNAUTHORIZED, message))
        }
    }
}

impl From<FileError> for ApiError {
    fn from(error: FileError) -> Self {
        let status = match error {
            FileError::Session(error) => return error.into(),
            FileError::ViewOnly => StatusCode::FORBIDDEN,
            FileError::Name(_) => return Self::bad_field("name", "is no name of a file"),
            FileError::NoDownload(_) => StatusCode::NOT_FOUND,
            FileError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            FileError::TooSlow => StatusCode::REQUEST_TIMEOUT,
            FileError::Broken(_) => StatusCode::BAD_REQUEST,
            FileError::Scratch(ref error) => {
                let kind = error.errno().map(std::io::Error::from_raw_os_error);
                of_kind(kind.map_or(std::io::ErrorKind::Other, |error| error.kind()))
            }
            FileError::Io(ref error) => of_kind(error.kind()),
        };
        Self::new(status, error.to_string())
    }
}

/// Files are the session's: what it has done to them is no fault of the daemon.
fn of_kind(kind: std::io::ErrorKind) -> StatusCode {
    use std::io::ErrorKind as K;
    match kind {
        K::StorageFull | K::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::NOT_FOUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_parts_that_are_there_and_runs_nothing_of_its_own() {
        for (at, _) in PAGE.match_indices("assets/") {
            let rest = &PAGE[at + "assets/".len()..];
            let name = rest.split('"').next().unwrap();
            assert!(ASSETS.iter().any(|(known, _)| *known == name), "{name}");
        }
        for inline in [
            "<style", " style=", "<script>", "onclick=", "http://", "https://",
        ] {
            let found = PAGE
                .replace("http://www.w3.org/2000/svg", "")
                .contains(inline);
            assert!(!found, "{inline}");
        }
        for (name, text) in ASSETS {
            for (at, _) in text.match_indices(" from './") {
                let rest = &text[at + " from './".len()..];
                let named = rest.split('\'').next().unwrap();
                let known = ASSETS.iter().any(|(known, _)| *known == named);
                assert!(known, "{name} imports {named}");
            }
        }
    }

    #[test]
    fn the_token_is_in_a_header() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).ok()
        };
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("bearer  abc ").as_deref(), Some("abc"));
        for bad in ["", "abc", "Basic abc"] {
            assert_eq!(of(bad), None);
        }
        assert!(bearer(&HeaderMap::new()).is_err());
    }
}
