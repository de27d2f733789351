//! The real clients, all at once on one page; said to be skipped where they are not installed.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::browser::Browser;
use super::site;
use crate::cdp::ClientKind;

fn installed(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("CI_REQUIRE_ALL").is_none(),
        "{} is missing",
        path.display()
    );
    println!("SKIP: {} is not installed", path.display());
    None
}

async fn run(mut command: Command) -> String {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::time::timeout(Duration::from_secs(60), command.output())
        .await
        .unwrap()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{stdout}{stderr}");
    stdout.trim().to_owned()
}

const NODE: &str = r"
const { chromium } = require(process.argv[1]);
(async () => {
  const [one, two] = await Promise.all(['node', 'other'].map(token =>
    chromium.connectOverCDP(process.argv[2] + token)));
  const page = one.contexts()[0].pages()[0], same = two.contexts()[0].pages()[0];
  await page.goto(process.argv[3]);
  await page.click('#b');
  const [popup] = await Promise.all([page.waitForEvent('popup'), page.click('#pop')]);
  await popup.waitForLoadState();
  const downloads = await Promise.all(
    [page.waitForEvent('download'), same.waitForEvent('download'), page.click('#d')]);
  const sizes = [];
  for (const download of downloads.slice(0, 2))
    sizes.push(require('fs').statSync(await download.path()).size);
  const title = await popup.title();
  await popup.close();
  const big = await page.evaluate(() => 'x'.repeat(20 << 20));
  const length = await same.evaluate(x => x.length, big);
  const refused = await page.goto('file:///etc/passwd').catch(e => e.message.includes('/tmp'));
  const out = [await same.title(), title, ...sizes, length, refused];
  await one.close();
  await two.close();
  console.log(JSON.stringify(out));
})().catch(error => { console.error(error); process.exit(1); });
";

const PYTHON: &str = "
import asyncio, sys
from playwright.async_api import async_playwright
async def main():
    async with async_playwright() as p:
        browser = await p.chromium.connect_over_cdp(sys.argv[1])
        page = browser.contexts[0].pages[0]
        async with page.expect_download() as waiting:
            await page.click('#d')
        path = await (await waiting.value).path()
        print(await page.title(), len(open(path).read()))
        await browser.close()
asyncio.run(main())
";

#[tokio::test]
async fn playwright_node_twice_on_one_page() {
    let Some(module) = installed("runners/node/node_modules/playwright-core") else {
        return;
    };
    let browser = Browser::start().await;
    let port = site::start().await;
    let mut node = Command::new("node");
    node.args(["-e", NODE]).arg(module).arg(browser.url(""));
    node.arg(format!("http://127.0.0.1:{port}/"))
        .env("TMPDIR", browser.scratch.path());
    assert_eq!(
        run(node).await,
        r#"["clicked","popup",80000,80000,20971520,true]"#
    );
}

#[tokio::test]
async fn playwright_python_agent_browser_and_the_daemon_share_the_page() {
    let Some(python) = installed("runners/python/.venv/bin/python") else {
        return;
    };
    let modules = "runners/node/node_modules";
    let Some(agent) = installed(&format!(
        "{modules}/agent-browser/bin/agent-browser-linux-x64"
    )) else {
        return;
    };
    let browser = Browser::start().await;
    let port = site::start().await;
    let url = format!("http://127.0.0.1:{port}/");
    browser
        .hub
        .navigate(&url, Duration::from_secs(10))
        .await
        .unwrap();
    let own = browser.hub.client(ClientKind::Internal).await.unwrap();
    let session = own
        .attach(&browser.hub.active_page().target_id)
        .await
        .unwrap();

    let agent_browser = |arguments: &[&str]| {
        let mut command = Command::new(&agent);
        command.args(arguments).env("HOME", browser.scratch.path());
        command.env("AGENT_BROWSER_SOCKET_DIR", browser.scratch.path());
        run(command)
    };
    agent_browser(&["connect", &browser.url("bash")]).await;
    let snapshot = agent_browser(&["snapshot", "-i"]).await;
    assert!(snapshot.contains("button \"go\" [ref=e1]"), "{snapshot}");
    agent_browser(&["click", "@e1"]).await;

    let mut command = Command::new(python);
    command.args(["-c", PYTHON, &browser.url("python")]);
    command.env("TMPDIR", browser.scratch.path());
    assert_eq!(run(command).await, "clicked 80000");

    let title = serde_json::json!({ "expression": "document.title" });
    let answer = own
        .call_raw(Some(&session), "Runtime.evaluate", &title)
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("clicked"));
    agent_browser(&["close"]).await;
}
