//! TLS, and what a load balancer asks.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, pki_types};

use super::{created, execute, path};
use crate::daemon::{Daemon, host};
use crate::http_client::Http;
use crate::leaks::{descendants, eventually};
use crate::shared::binary;

/// A certificate for localhost, and the files of it.
struct Files {
    directory: tempfile::TempDir,
    certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Files {
    fn new() -> Self {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let write = |name, text: String| std::fs::write(directory.path().join(name), text).unwrap();
        write("certificate.pem", certificate.cert.pem());
        write("key.pem", certificate.signing_key.serialize_pem());
        write(
            "other.pem",
            rcgen::KeyPair::generate().unwrap().serialize_pem(),
        );
        write("empty.pem", String::new());
        Self {
            directory,
            certificate,
        }
    }

    fn config(&self, certificate: &str, key: &str) -> String {
        let directory = self.directory.path().display();
        format!("[tls]\ncertificate = \"{directory}/{certificate}\"\nkey = \"{directory}/{key}\"\n")
    }

    async fn connect(&self, port: u16, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.cert.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = pki_types::ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            Some(protocol.as_bytes())
        );
        stream
    }
}

#[tokio::test]
async fn one_port_speaks_https_in_both_versions_and_grpc() {
    let files = Files::new();
    // Only root may read the key: it is read before privilege is given up.
    let key = files.directory.path().join("key.pem");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let daemon = Daemon::start(binary(), &files.config("certificate.pem", "key.pem"));
    let port = daemon.address().port();
    let host = format!("localhost:{port}");

    let stream = files.connect(port, "http/1.1").await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = |uri: &str| {
        Request::post(uri)
            .header("host", &host)
            .body(Full::<Bytes>::default())
    };
    let reply = sender
        .send_request(request("/v2/browser").unwrap())
        .await
        .unwrap();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    let session: Value = serde_json::from_slice(&body).unwrap();
    let cdp = session["cdpUrl"]
        .as_str()
        .unwrap_or_else(|| panic!("{session}"));
    assert!(cdp.starts_with(&format!("wss://{host}/cdp/")), "{cdp}");

    // CDP over TLS.
    let stream = files.connect(port, "http/1.1").await;
    let (mut socket, _) = tokio_tungstenite::client_async(cdp, stream).await.unwrap();
    use futures_util::{SinkExt as _, StreamExt as _};
    let asked = json!({ "id": 1, "method": "Browser.getVersion" }).to_string();
    socket.send(asked.into()).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(answer.contains("product"), "{answer}");

    let stream = files.connect(port, "h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let health: Request<Full<Bytes>> = Request::get(format!("https://{host}/health"))
        .body(Full::default())
        .unwrap();
    let reply = sender.send_request(health).await.unwrap();
    assert_eq!(
        (reply.status().as_u16(), reply.version()),
        (200, Version::HTTP_2)
    );
    // An empty message in gRPC's frame.
    let check = Request::post(format!("https://{host}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::from(Bytes::from_static(&[0; 5])))
        .unwrap();
    let reply = sender.send_request(check).await.unwrap();
    let trailers = reply
        .into_body()
        .collect()
        .await
        .unwrap()
        .trailers()
        .cloned()
        .unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

/// What `serve` says when it does not start.
fn complaint(config: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pagebox.toml");
    std::fs::write(&file, config).unwrap();
    let mut command: Command = host::command(binary());
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&file);
    let done = command.output().unwrap();
    assert!(!done.status.success());
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn bad_files_are_named_at_the_start() {
    let files = Files::new();
    let named = |name: &str| files.directory.path().join(name).display().to_string();
    for (certificate, key, key_name, file) in [
        ("missing.pem", "key.pem", "tls.certificate", "missing.pem"),
        ("empty.pem", "key.pem", "tls.certificate", "empty.pem"),
        ("key.pem", "key.pem", "tls.certificate", "key.pem"),
        ("certificate.pem", "missing.pem", "tls.key", "missing.pem"),
        (
            "certificate.pem",
            "certificate.pem",
            "tls.key",
            "certificate.pem",
        ),
        ("certificate.pem", "other.pem", "tls.key", "other.pem"),
    ] {
        let said = complaint(&files.config(certificate, key));
        assert!(
            said.contains(key_name) && said.contains(&named(file)),
            "{said}"
        );
    }
    let said = complaint("[tls]\ncertificate = \"/a.pem\"\n");
    assert!(said.contains("tls.key: is missing"), "{said}");
    let said = complaint("[http]\ncors_origins = [\"*\"]\n");
    assert!(said.contains("http.cors_origins"), "{said}");
    assert!(Path::new(&named("key.pem")).exists());
}

#[tokio::test]
async fn a_daemon_that_drains_is_healthy_and_not_ready() {
    let mut daemon = Daemon::start(binary(), "");
    let http = Http::new(&daemon.url());
    assert_eq!(http.get("/ready").await.good()["status"], "ready");
    let session = created(&http).await;
    let seconds = "12.0413";
    let running = tokio::spawn({
        let (http, session) = (http.clone(), session.clone());
        let code = format!("sleep {seconds}; echo done");
        async move { execute(&http, &session, "bash", &code).await }
    });
    eventually(Duration::from_secs(60), async || {
        let sleeps = descendants(daemon.pid()).iter().any(|process| {
            let line = std::fs::read_to_string(format!("/proc/{}/cmdline", process.pid));
            line.is_ok_and(|line| line.contains(seconds) && line.starts_with("sleep"))
        });
        sleeps.then_some(()).ok_or("nothing sleeps".to_owned())
    })
    .await;
    daemon.signal("TERM");
    eventually(Duration::from_secs(20), async || {
        let reply = http.get("/ready").await;
        (reply.status == 503)
            .then(|| drop(reply.refused(503)))
            .ok_or("ready".to_owned())
    })
    .await;
    assert_eq!(http.get("/health").await.good()["status"], "ok");
    http.post("/v2/browser", &json!({})).await.refused(503);
    http.post(
        &format!("{}/execute", path(&session)),
        &json!({ "code": "1" }),
    )
    .await
    .refused(503);
    assert_eq!(running.await.unwrap()["stdout"], "done\n");
    assert!(daemon.wait(Duration::from_secs(60)).success());
}
