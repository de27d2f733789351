//! Asking a proxy for a connection: HTTP CONNECT by hyper, SOCKS5 by tokio-socks.
//!
//! Both give the plain stream back, with nothing of what follows the proxy's answer read: a host
//! may speak first. hyper-util's own `Tunnel` and `SocksV5` drop such bytes, and the status too.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;

use super::{Fault, Peer};
use crate::egress::proxy::MAX_HEADERS;
use crate::telemetry::Chain;

/// Bytes of a proxy's answers to one CONNECT, informational ones included. Real ones have hundreds.
const MAX_ANSWER: usize = 16 << 10;
/// Characters of a proxy's own words that are passed on.
const MAX_REASON: usize = 100;
/// Bytes looked at together for the end of a line.
const PEEK: usize = 1024;

/// User name and password.
type Credentials = (String, String);

/// HTTP CONNECT.
pub(super) async fn connect(
    stream: TcpStream,
    peer: Peer<'_>,
    credentials: Option<&Credentials>,
) -> Result<TcpStream, Fault> {
    let request = connect_request(peer, credentials)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_header_size(MAX_ANSWER)
        .max_buf_size(MAX_ANSWER)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(LineByLine::new(stream)))
        .await
        .map_err(garbage)?;
    let asking = async {
        let mut response = sender.send_request(request).await.map_err(garbage)?;
        if !response.status().is_success() {
            return Err(refused(&response, credentials.is_some()));
        }
        hyper::upgrade::on(&mut response).await.map_err(garbage)
    };
    let mut asking = pin!(asking);
    let upgraded = tokio::select! {
        biased;
        upgraded = &mut asking => upgraded,
        // What the connection ends with, good or bad, reaches `asking` too.
        _ = connection.with_upgrades() => asking.await,
    }?;
    let parts = upgraded
        .downcast::<TokioIo<LineByLine>>()
        .expect("it is what the connection was made of");
    // Only a proxy that says something after a final answer can make it so.
    if !parts.read_buf.is_empty() {
        return Err(Fault::Garbage("bytes beyond its answer".to_owned()));
    }
    Ok(parts.io.into_inner().stream)
}

fn connect_request(
    peer: Peer<'_>,
    credentials: Option<&Credentials>,
) -> Result<Request<Empty<Bytes>>, Fault> {
    let authority = peer.to_string();
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(&authority)
        .header(HOST, &authority);
    if let Some((username, password)) = credentials {
        let basic = format!(
            "Basic {}",
            STANDARD.encode(format!("{username}:{password}"))
        );
        let mut value =
            HeaderValue::try_from(basic).expect("base64 is printable ASCII, whatever it encodes");
        value.set_sensitive(true);
        request = request.header(PROXY_AUTHORIZATION, value);
    }
    let request = request.body(Empty::new());
    request.map_err(|_| Fault::Garbage("it cannot be asked for such a name".to_owned()))
}

fn refused<B>(response: &Response<B>, had_credentials: bool) -> Fault {
    let status = response.status();
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED if had_credentials => Fault::CredentialsRefused,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Fault::CredentialsWanted,
        _ => {
            let said = response.extensions().get::<ReasonPhrase>();
            let reason = said.map(|said| String::from_utf8_lossy(said.as_bytes()));
            let reason = reason.as_deref().or(status.canonical_reason());
            Fault::Status {
                status,
                reason: reason
                    .unwrap_or_default()
                    .chars()
                    .filter(|c| c.is_ascii_graphic() || *c == ' ')
                    .take(MAX_REASON)
                    .collect(),
            }
        }
    }
}

fn garbage(error: hyper::Error) -> Fault {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Fault::Garbage("it closed the connection".to_owned());
    }
    Fault::Garbage(Chain(&error).to_string())
}

/// A stream that is read up to the end of a line at a time, and no further than [`MAX_ANSWER`]:
/// a header ends with a line, so nothing after it is taken.
#[derive(Debug)]
struct LineByLine {
    stream: TcpStream,
    left: usize,
}

impl LineByLine {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            left: MAX_ANSWER,
        }
    }
}

impl AsyncRead for LineByLine {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut bytes = [0; PEEK];
        let mut seen = ReadBuf::new(&mut bytes);
        ready!(this.stream.poll_peek(cx, &mut seen))?;
        let seen = seen.filled();
        let line = memchr::memchr(b'\n', seen).map_or(seen.len(), |end| end + 1);
        let line = line.min(buf.remaining());
        this.left = this
            .left
            .checked_sub(line)
            .ok_or_else(|| io::Error::other(format!("its header is over {MAX_ANSWER} bytes")))?;
        let mut line = ReadBuf::new(&mut bytes[..line]);
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut line))?;
        buf.put_slice(line.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LineByLine {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// SOCKS5, RFC 1928 and 1929. Its messages have at most 262 bytes.
pub(super) async fn socks5(
    stream: TcpStream,
    peer: Peer<'_>,
    credentials: Option<&Credentials>,
) -> Result<TcpStream, Fault> {
    let asked = match (peer, credentials) {
        (Peer::Address(address), None) => Socks5Stream::connect_with_socket(stream, address).await,
        (Peer::Name(name, port), None) => {
            Socks5Stream::connect_with_socket(stream, (name, port)).await
        }
        (Peer::Address(address), Some((username, password))) => {
            Socks5Stream::connect_with_password_and_socket(stream, address, username, password)
                .await
        }
        (Peer::Name(name, port), Some((username, password))) => {
            Socks5Stream::connect_with_password_and_socket(stream, (name, port), username, password)
                .await
        }
    };
    asked
        .map(Socks5Stream::into_inner)
        .map_err(|error| socks_fault(error, credentials.is_some()))
}

fn socks_fault(error: tokio_socks::Error, had_credentials: bool) -> Fault {
    use tokio_socks::Error as E;
    match error {
        E::GeneralSocksServerFailure => Fault::Reply("general SOCKS server failure"),
        E::ConnectionNotAllowedByRuleset => Fault::Reply("connection not allowed by ruleset"),
        E::NetworkUnreachable => Fault::Reply("network unreachable"),
        E::HostUnreachable => Fault::Reply("host unreachable"),
        E::ConnectionRefused => Fault::Reply("connection refused"),
        E::TtlExpired => Fault::Reply("TTL expired"),
        E::CommandNotSupported => Fault::Reply("command not supported"),
        E::AddressTypeNotSupported => Fault::Reply("address type not supported"),
        // It says the same of both.
        E::UnknownAuthMethod => {
            Fault::Garbage("a method or a reply that is not assigned".to_owned())
        }
        E::PasswordAuthFailure(_) => Fault::CredentialsRefused,
        E::NoAcceptableAuthMethods | E::AuthorizationRequired if had_credentials => {
            Fault::CredentialsRefused
        }
        E::NoAcceptableAuthMethods | E::AuthorizationRequired => Fault::CredentialsWanted,
        E::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Fault::Garbage("it closed the connection".to_owned())
        }
        error => Fault::Garbage(error.to_string()),
    }
}
