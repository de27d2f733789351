//! A Chromium for the benchmark only, driven over its pipe: the flags of a session's Chromium, with and
//! without the proxy, outside every sandbox but Chromium's own. That leaves one difference: the way.

use std::process::{Child, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

use super::origin::SUBRESOURCES;
use super::way::{Proxied, Way, is_root};

/// Milliseconds from the start of the navigation to the load event, and how many parts came.
pub(crate) const TIMING: &str = "JSON.stringify([performance.getEntriesByType('navigation')[0].loadEventStart, \
     performance.getEntriesByType('resource').filter(part => part.responseStatus == 200).length])";

/// A running Chromium; ends when dropped.
#[derive(Debug)]
pub(crate) struct Chromium {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    last_id: u64,
    child: Child,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// Starts one with the flags `like`'s session has.
    pub(crate) fn start(way: Way<'_>, like: &Proxied) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        // The pipe is on descriptors 3 and 4.
        const ON_THE_PIPE: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;
        let profile = tempfile::tempdir()?;
        std::fs::set_permissions(profile.path(), std::fs::Permissions::from_mode(0o777))?;
        let mut command = way.command("sh");
        command.args(["-c", ON_THE_PIPE, "sh"]);
        if is_root() {
            // Chromium refuses to run as root with its sandbox on; off would be another program.
            command.args([
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ]);
        }
        let its_own = |argument: &&String| {
            let is_proxy = argument.starts_with("--proxy-");
            let is_directory = argument.contains("-dir=");
            !is_directory && (!is_proxy || matches!(way, Way::Through(_)))
        };
        let home = profile.path().display();
        let mut child = command
            .args(like.arguments.iter().filter(its_own))
            .arg(format!("--user-data-dir={home}/profile"))
            .arg(format!("--disk-cache-dir={home}/cache"))
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .as_std_mut()
            .spawn()
            .context("cannot start Chromium")?;
        Ok(Self {
            input: ChildStdin::from_std(child.stdin.take().context("piped")?)?,
            output: BufReader::new(ChildStdout::from_std(
                child.stdout.take().context("piped")?,
            )?),
            last_id: 0,
            child,
            _profile: profile,
        })
    }

    /// Milliseconds to load `url` with nothing cached and no connection open.
    pub(crate) async fn load(&mut self, url: &str) -> anyhow::Result<f64> {
        let context = self
            .call("", "Target.createBrowserContext", json!({}))
            .await?;
        let context = json!({ "browserContextId": context["browserContextId"] });
        let mut blank = context.clone();
        blank["url"] = json!("about:blank");
        let target = self.call("", "Target.createTarget", blank).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.call("", "Target.attachToTarget", attach).await?;
        let session = session["sessionId"]
            .as_str()
            .context("a session id")?
            .to_owned();
        self.call(&session, "Page.enable", json!({})).await?;
        let answer = self
            .call(&session, "Page.navigate", json!({ "url": url }))
            .await?;
        ensure!(answer.get("errorText").is_none(), "{url}: {answer}");
        while self.read().await?["method"] != "Page.loadEventFired" {}
        let ask = json!({ "expression": TIMING });
        let reply = self.call(&session, "Runtime.evaluate", ask).await?;
        self.call("", "Target.disposeBrowserContext", context)
            .await?;
        let told = reply["result"]["value"].as_str();
        whole_page(told.with_context(|| format!("no timing: {reply}"))?)
    }

    async fn call(&mut self, session: &str, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if !session.is_empty() {
            message["sessionId"] = json!(session);
        }
        self.input
            .write_all(format!("{message}\0").as_bytes())
            .await?;
        loop {
            let mut answer = self.read().await?;
            if answer["id"] == self.last_id {
                ensure!(answer.get("error").is_none(), "{method}: {answer}");
                return Ok(answer["result"].take());
            }
        }
    }

    async fn read(&mut self) -> anyhow::Result<Value> {
        let mut message = Vec::new();
        self.output.read_until(0, &mut message).await?;
        if message.pop() != Some(0) {
            bail!("Chromium ended");
        }
        Ok(serde_json::from_slice(&message)?)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what [`TIMING`] gave: every part must have come.
pub(crate) fn whole_page(told: &str) -> anyhow::Result<f64> {
    let (took, parts): (f64, usize) = serde_json::from_str(told)?;
    ensure!(
        parts == SUBRESOURCES,
        "{parts} of {SUBRESOURCES} parts came"
    );
    ensure!(took > 0.0, "the load event had not come");
    Ok(took)
}
