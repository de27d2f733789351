//! A Chromium as anybody would start it, without a hub: where what is refused inside is shown to
//! work. It has its own sandbox and a pipe, and a directory of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Chromium without a hub; ended on drop.
pub(super) struct Bare {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    last: u64,
    /// Its page.
    pub(super) session: String,
    /// Anybody may write here.
    pub(super) directory: tempfile::TempDir,
}

impl Bare {
    pub(super) async fn start() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        // Not below /tmp: inside, that is the session's own.
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let anybody = || std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(directory.path(), anybody()).unwrap();
        // Its own sandbox does not run as root.
        let drop_root = match nix::unistd::geteuid().is_root() {
            true => "setpriv --reuid=65534 --regid=65534 --clear-groups",
            false => "",
        };
        let script = format!(
            "exec {drop_root} /usr/lib/chromium/chromium-headless-shell --headless \
             --remote-debugging-pipe --user-data-dir={}/profile --disable-dev-shm-usage \
             --no-first-run --disable-gpu about:blank 3<&0 4>&1 </dev/null >/dev/null",
            directory.path().display(),
        );
        let mut child = Command::new("bash")
            .args(["-c", &script])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut bare = Self {
            child,
            to,
            from: BufReader::new(from),
            last: 0,
            session: String::new(),
            directory,
        };
        let targets = bare.ask("Target.getTargets", json!({})).await.unwrap();
        let infos = targets["targetInfos"].as_array().unwrap();
        let page = infos.iter().find(|info| info["type"] == "page").unwrap();
        let params = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = bare.ask("Target.attachToTarget", params).await.unwrap();
        bare.session = attached["sessionId"].as_str().unwrap().to_owned();
        bare
    }

    /// Asks the browser; its result or its error. `None` when the browser goes instead.
    async fn try_ask(
        &mut self,
        session: &str,
        method: &str,
        params: Value,
    ) -> Option<Result<Value, Value>> {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if !session.is_empty() {
            message["sessionId"] = session.into();
        }
        let text = format!("{message}\0");
        self.to.write_all(text.as_bytes()).await.ok()?;
        loop {
            let mut raw = Vec::new();
            let read = self.from.read_until(0, &mut raw);
            let count = tokio::time::timeout(PATIENCE, read).await;
            if count.expect("an answer in time").ok()? == 0 {
                return None;
            }
            raw.pop();
            let mut answer: Value = serde_json::from_slice(&raw).ok()?;
            if answer["id"] == self.last {
                return Some(match answer["error"].is_null() {
                    true => Ok(answer["result"].take()),
                    false => Err(answer["error"].take()),
                });
            }
        }
    }

    /// Asks the browser itself.
    pub(super) async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.try_ask("", method, params).await.expect("it lives")
    }

    /// Asks its page.
    pub(super) async fn page(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let session = self.session.clone();
        let answer = self.try_ask(&session, method, params).await;
        answer.expect("it lives")
    }

    /// What an expression is on its page.
    pub(super) async fn value(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.page("Runtime.evaluate", params).await.unwrap();
        answer["result"]["value"].clone()
    }

    /// Whether the browser ends upon a request.
    pub(super) async fn ends_by(mut self, method: &str) -> bool {
        let _ = self.try_ask("", method, json!({})).await;
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .is_ok()
    }

    /// A file of the host, and what is in it.
    pub(super) fn secret(&self) -> (String, &'static str) {
        let path = self.directory.path().join("secret.txt");
        std::fs::write(&path, SECRET).unwrap();
        (path.display().to_string(), SECRET)
    }

    /// What lies in its directory besides its own files and the secret.
    pub(super) fn files(&self, below: &str) -> Vec<String> {
        names(&self.directory.path().join(below))
    }
}

/// In a file of the host's.
const SECRET: &str = "the-harbour-masters-ledger";

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.collect()
}
