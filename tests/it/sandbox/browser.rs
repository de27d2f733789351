//! Chromium in the browser image, its own sandbox on.

use std::time::{Duration, Instant};

use pagebox::limits::Bytes;
use pagebox::sandbox::{
    Control, ControlEnd, GroupLimits, Network, Sandbox, SandboxLimits, SandboxSpec, Sandboxes,
    start_spawner,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

use super::harness::*;

pub(super) fn chromium() -> SandboxSpec {
    let flags = [
        "--headless",
        "--remote-debugging-pipe",
        "--user-data-dir=/browser/data",
        "--proxy-server=http://127.0.0.1:3128",
        "--proxy-bypass-list=<-loopback>",
        "--no-first-run",
    ];
    SandboxSpec {
        image: "browser".into(),
        argv: std::iter::once("/usr/lib/chromium/chromium-headless-shell")
            .chain(flags)
            .map(Into::into)
            .collect(),
        env: vec![("HOME".into(), "/browser".into())],
        cwd: "/browser".into(),
        network: Network::Browser,
        control: Control::CdpPipe,
        limits: SandboxLimits {
            group: GroupLimits {
                memory: Bytes::gib(1),
                processes: 256,
                cpu_percent: 200,
            },
            open_files: 4096,
            file_size: Bytes::mib(256),
        },
    }
}

/// A debugging pipe, one call at a time.
pub(super) struct Cdp {
    to: pipe::Sender,
    from: pipe::Receiver,
    next: u64,
}

impl Cdp {
    pub(super) fn of(browser: &mut Sandbox) -> Self {
        let control = std::mem::replace(&mut browser.control, ControlEnd::None);
        let ControlEnd::CdpPipe { to, from } = control else {
            panic!("no pipe");
        };
        Self {
            to: pipe::Sender::from_owned_fd(to).unwrap(),
            from: pipe::Receiver::from_owned_fd(from).unwrap(),
            next: 0,
        }
    }

    pub(super) async fn call(
        &mut self,
        session: Option<&str>,
        method: &str,
        params: serde_json::Value,
    ) -> serde_json::Value {
        self.next += 1;
        let mut call = serde_json::json!({"id": self.next, "method": method, "params": params});
        if let Some(session) = session {
            call["sessionId"] = session.into();
        }
        let mut bytes = serde_json::to_vec(&call).unwrap();
        bytes.push(0);
        self.to.write_all(&bytes).await.unwrap();
        loop {
            let mut message = Vec::new();
            loop {
                match self.from.read_u8().await.unwrap() {
                    0 => break,
                    byte => message.push(byte),
                }
            }
            let message: serde_json::Value = serde_json::from_slice(&message).unwrap();
            if message["id"] == self.next {
                return message["result"].clone();
            }
        }
    }
}

#[tokio::test]
async fn chromium_runs_with_its_own_sandbox_on() {
    if !host().can("chromium_runs_with_its_own_sandbox_on", "session-uids") {
        return;
    }
    let config = config();
    let sandboxes = Sandboxes::connect(start_spawner(&config).unwrap()).unwrap();
    let space = sandboxes.create_space(space_spec()).await.unwrap();
    let started = Instant::now();
    let mut browser = space.spawn(chromium()).await.unwrap();
    let mut cdp = Cdp::of(&mut browser);
    let talk = async {
        let version = cdp
            .call(None, "Browser.getVersion", serde_json::json!({}))
            .await;
        println!("{} after {:?}", version["product"], started.elapsed());
        assert!(
            version["product"].as_str().unwrap().contains("Chrome"),
            "{version}"
        );
        let page = "data:text/html,<title>hello</title><h1>text";
        let target = cdp
            .call(
                None,
                "Target.createTarget",
                serde_json::json!({"url": page}),
            )
            .await;
        let session = cdp
            .call(
                None,
                "Target.attachToTarget",
                serde_json::json!({"targetId": target["targetId"], "flatten": true}),
            )
            .await;
        let session = session["sessionId"].as_str().unwrap().to_owned();
        let expression = serde_json::json!({
            "expression": "document.title + ' ' + document.body.innerText + ' ' + (1n << 70n)"
        });
        loop {
            let value = cdp
                .call(Some(&session), "Runtime.evaluate", expression.clone())
                .await;
            if value["result"]["value"] == "hello text 1180591620717411303424" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await; // still loading
        }
        let shot = cdp
            .call(
                Some(&session),
                "Page.captureScreenshot",
                serde_json::json!({}),
            )
            .await;
        assert!(
            shot["data"].as_str().unwrap().starts_with("iVBOR"),
            "{shot}"
        );
    };
    tokio::time::timeout(Duration::from_secs(20), talk)
        .await
        .unwrap();

    let mut renderers = 0;
    for (pid, status) in processes(&config) {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let filters: u32 = field(&status, "Seccomp_filters").parse().unwrap();
        println!(
            "{pid} {filters} {}",
            command
                .replace('\0', " ")
                .chars()
                .take(90)
                .collect::<String>()
        );
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        assert_eq!(field(&status, "Seccomp"), "2", "{command}");
        if command.contains("--type=renderer") {
            renderers += 1;
            // Three of ours (allow, fallback, families), at least one of Chromium's.
            assert!(filters >= 4, "{filters}");
            assert!(!command.contains("--no-sandbox"));
        }
    }
    assert!(renderers > 0);
    println!("usage {:?}", browser.usage().await);
    space.close().await.unwrap();
    let exit = browser.wait().await;
    println!("{exit:?}");
    assert_eq!(processes(&config), []);
    sandboxes.shutdown().await;
}
