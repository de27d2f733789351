//! A real development server: vite, brought in as a user would bring it, with hot updates over its
//! WebSocket.

use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::routing::get;
use pagebox::grpc::v1::Language;

use super::until_up;
use crate::client::{Client, OpenSession};
use crate::daemon::Daemon;
use crate::daemon::host::skip;
use crate::shared::binary;

/// vite and what it needs, as one archive; `None` where it is not installed.
fn archive() -> Option<Vec<u8>> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools");
    if !tools.join("node_modules/vite").exists() {
        assert!(
            std::env::var_os("CI_REQUIRE_ALL").is_none(),
            "vite is missing: run sandbox-images/setup.sh --dev"
        );
        return None;
    }
    let tar = Command::new("tar")
        .args(["--create", "--directory"])
        .arg(&tools)
        .args(
            ["@biomejs", "@bufbuild", "pyright"]
                .map(|name| format!("--exclude=node_modules/{name}")),
        )
        .arg("node_modules")
        .output()
        .expect("tar runs");
    assert!(
        tar.status.success(),
        "{}",
        String::from_utf8_lossy(&tar.stderr)
    );
    Some(tar.stdout)
}

/// Serves the archive on a port of the host.
async fn serve(archive: Vec<u8>) -> u16 {
    let archive = axum::body::Bytes::from(archive);
    let router = Router::new().route("/vite.tar", get(move || async move { archive }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

const FILES: &str = r#"mkdir app && cd app
cat > index.html <<'END'
<!doctype html><title>App</title><h1></h1><button>Count</button>
<script type="module" src="/main.js"></script>
END
cat > main.js <<'END'
import { word } from './word.js';
const title = document.querySelector('h1');
let count = 0;
const show = (word) => { title.innerText = `${word} ${count}`; };
document.querySelector('button').onclick = () => { count += 1; show(word); };
show(word);
import.meta.hot.accept('./word.js', (changed) => show(changed.word));
END
echo "export const word = 'boats';" > word.js
node ../node_modules/vite/bin/vite.js --port 5173 --strictPort &
"#;

async fn text_is(session: &OpenSession, text: &str) {
    let code = format!("await page.getByText('{text}', {{ exact: true }}).waitFor(); 'seen'");
    assert_eq!(session.node(&code).await, "seen");
}

#[tokio::test]
async fn an_edit_updates_the_open_page_without_a_reload() {
    let Some(archive) = archive() else {
        skip("an_edit_updates_the_open_page_without_a_reload", "no vite");
        return;
    };
    let port = serve(archive).await.to_string();
    let daemon = Daemon::start_with(binary(), "", &["--host-loopback", &port]);
    let session = Client::new(&daemon.url()).open("about:blank").await;
    let bring = format!("curl -sS http://localhost:{port}/vite.tar | tar -x");
    session.bash(&bring).await;
    session.bash(&format!("{FILES}{}", until_up(5173))).await;

    let open = "const connected = page.waitForEvent('websocket');
                await page.goto('http://localhost:5173/');
                const socket = await connected;
                await page.click('text=Count');
                await page.evaluate(() => { globalThis.mark = 'kept'; });
                new URL(socket.url()).origin";
    assert_eq!(session.node(open).await, "ws://localhost:5173");
    text_is(&session, "boats 1").await;

    session
        .bash("echo \"export const word = 'quays';\" > word.js")
        .await;
    // The count is the page's own: a reload would have lost it.
    text_is(&session, "quays 1").await;
    assert_eq!(session.node("await page.evaluate('mark')").await, "kept");

    let edit = "from pathlib import Path; Path('/workspace/app/word.js').write_text(\"export const word = 'piers';\")";
    session.good(Language::Python, edit).await;
    text_is(&session, "piers 1").await;
    assert_eq!(session.node("await page.evaluate('mark')").await, "kept");
    session.stop().await;
}
