//! A client people use, where this machine has it.

use std::process::Stdio;

use super::support::{Internet, Proxy, echo_host};
use crate::egress::{Config, Limits};

async fn curl(arguments: &[&str]) -> Option<String> {
    let command = tokio::process::Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "",
        ])
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/local/bin")
        .stdin(Stdio::null())
        .output()
        .await;
    match command {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some(String::from_utf8_lossy(&text).into_owned())
        }
        Err(_) => {
            eprintln!("SKIP: no curl here");
            None
        }
    }
}

#[tokio::test]
async fn curl_gets_tunnels_and_is_refused() {
    let server = echo_host().await;
    let config = Config {
        host_loopback: vec![server.port().to_string()],
        ..Config::default()
    };
    let proxy = Proxy::start_with(Internet::site(server), &config, Limits::default()).await;
    let through = format!("http://{}", proxy.address);
    let local = format!("http://localhost:{}/local", server.port());
    let Some(plain) = curl(&["--proxy", &through, "http://site.test/plain"]).await else {
        return;
    };
    assert!(
        plain.starts_with("GET /plain HTTP/1.1\r\nHost: site.test\r\n"),
        "{plain}"
    );
    assert!(
        !plain.to_lowercase().contains("proxy-connection"),
        "{plain}"
    );
    let tunnelled = curl(&[
        "--proxy",
        &through,
        "--proxytunnel",
        "http://site.test:443/t",
    ])
    .await;
    let tunnelled = tunnelled.unwrap();
    assert!(
        tunnelled.starts_with("GET /t HTTP/1.1\r\nHost: site.test:443\r\n"),
        "{tunnelled}"
    );
    let local = curl(&["--proxy", &through, &local]).await.unwrap();
    assert!(local.starts_with("GET /local HTTP/1.1\r\n"), "{local}");
    let posted = curl(&["--proxy", &through, "--head", "http://site.test/h"])
        .await
        .unwrap();
    assert!(posted.starts_with("HTTP/1.1 200 OK\r\n"), "{posted}");
    let refused = curl(&[
        "--proxy",
        &through,
        "--include",
        "http://169.254.169.254/latest",
    ])
    .await;
    let refused = refused.unwrap();
    assert!(
        refused.contains("x-pagebox-egress: metadata 169.254.169.254/32"),
        "{refused}"
    );
    let refused = curl(&["--proxy", &through, "https://10.0.0.1/"])
        .await
        .unwrap();
    assert!(refused.contains("403"), "{refused}");
}
