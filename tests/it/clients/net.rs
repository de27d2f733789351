//! The internet these tests share, with pages for them, and sessions that trust its certificates.

use std::convert::Infallible;
use std::sync::OnceLock;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use pagebox::grpc::v1::{ExecuteResponse, Language};

use super::packages::Packages;
use crate::client::{OpenSession, environment};
use crate::internet::{Internet, World};
use crate::shared::binary;
use crate::site::sha256;

/// Its sites on the public internet, by name and scheme.
pub(super) const SITES: [&str; 2] = ["http://shop.sites.example", "https://shop.sites.example"];
const SHOP: &str = "93.184.216.60";
/// Where `counted.sites.example` is, which one test alone asks.
pub(super) const COUNTED: &str = "93.184.216.61";
/// A name whose address is private.
pub(super) const INSIDE: &str = "inside.sites.example";
/// A port of the internet on which a server speaks HTTP/1.0.
pub(super) const OLD_PORT: u16 = 8010;
/// Port 8010 is opened, nothing else.
const CONFIG: &str = "[session]\nmax_sessions = 60\n[egress]\nallow = [\"*:8010\"]\n";
/// What `/gzip` is before it was compressed.
pub(super) const TEXT: &str = "ebb and flow\n";
/// `gzip -n` of it.
const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03KMJRH\xccKQH\xcb\xc9/\xe7\x02\0\
    \xbb\xfb\xaa\xcd\x0d\0\0\0";
/// Where a session keeps the certificate.
const CA_FILE: &str = "/tmp/ca.pem";
/// Variables that name it to a client.
const CA_VARIABLES: [&str; 6] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
];
/// Largest upload.
const UPLOAD_BYTES: usize = 64 << 20;

/// The shared internet; `None` where none can be built.
pub(super) fn net() -> Option<&'static World> {
    static NET: OnceLock<Option<World>> = OnceLock::new();
    let start = || {
        let pages = Packages::make().router().merge(router());
        let world = World::start_with(binary(), CONFIG, pages);
        world.dns().fixed("shop.sites.example", &[SHOP]);
        world.dns().fixed(INSIDE, &["10.0.0.5"]);
        world.dns().fixed("counted.sites.example", &[COUNTED]);
        serve_old(&world);
        world
    };
    NET.get_or_init(|| World::possible().then(start)).as_ref()
}

/// A session that has the certificate, and the certificate's places in the environment.
pub(super) struct Shopper {
    pub(super) session: OpenSession,
}

impl Shopper {
    pub(super) async fn new(world: &World) -> Self {
        let session = world.client().open("about:blank").await;
        let write = format!("cat > {CA_FILE} <<'END'\n{}END", world.ca());
        session.good(Language::Bash, &write).await;
        Self { session }
    }

    /// Runs code that knows the certificate.
    pub(super) async fn run(&self, language: Language, code: &str) -> ExecuteResponse {
        let mut options = self.session.options(language, code);
        options.environment = environment(&CA_VARIABLES.map(|name| (name, CA_FILE)));
        options.timeout = crate::client::seconds(120);
        self.session.run(options).await
    }

    /// Runs code that must succeed: all it said.
    pub(super) async fn good(&self, language: Language, code: &str) -> String {
        let reply = self.run(language, code).await;
        let said = everything(&reply);
        assert!(reply.success, "this failed:\n{code}\n{said}");
        said
    }
}

/// All that a user sees of an execution.
pub(super) fn everything(reply: &ExecuteResponse) -> String {
    let error = reply.error.as_ref().map(|error| error.message.as_str());
    [
        reply.result.as_deref().unwrap_or_default(),
        &reply.stdout,
        &reply.stderr,
        error.unwrap_or_default(),
    ]
    .join("\n")
}

fn router() -> Router {
    Router::new()
        .route("/numbers/{count}", get(numbers))
        .route("/sum", post(sum).put(sum))
        .route("/gzip", get(gzip))
        .route("/pieces", get(pieces))
        .layer(DefaultBodyLimit::max(UPLOAD_BYTES))
}

/// `count` bytes that no compression or repetition gets right by chance.
pub(super) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(&mut next).take(count).collect()
}

async fn numbers(Path(count): Path<usize>) -> Vec<u8> {
    noise(count)
}

/// What came: its length, its hash, and how its length was announced.
async fn sum(headers: HeaderMap, body: Bytes) -> String {
    let framing = match headers.get(header::CONTENT_LENGTH) {
        Some(_) => "length",
        None => "chunked",
    };
    format!("{} {} {framing}", body.len(), sha256(&body))
}

async fn gzip() -> Response {
    ([(header::CONTENT_ENCODING, "gzip")], GZIP).into_response()
}

/// A chunked body.
async fn pieces() -> Response {
    let pieces = ["one ", "two ", "three"].map(Ok::<_, Infallible>);
    Body::from_stream(tokio_stream::iter(pieces)).into_response()
}

/// A server of the old kind: status line of HTTP/1.0, no length, ends by closing.
fn serve_old(internet: &Internet) {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = internet
        .internet()
        .run(|| std::net::TcpListener::bind(("::", OLD_PORT)))
        .unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            // A client may leave in the middle.
            let asked = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty());
            if asked.count() > 0 {
                let _ = stream
                    .write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold times");
            }
        }
    });
}
