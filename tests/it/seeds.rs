//! The code snippets of Firecrawl's interact documentation, as printed there, against the fixture
//! site: code written for that service has to run here unchanged.

use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome};

use crate::client::describe;
use crate::shared::open;
use crate::site::STATS;

#[tokio::test]
async fn click_and_extract_in_node() {
    let session = open("/").await;
    let code = "
      // Click a button and wait for navigation
      await page.click('#next-page');
      await page.waitForLoadState('networkidle');

      // Extract content from the new page
      const title = await page.title();
      const content = await page.$eval('.article-body', el => el.textContent);
      JSON.stringify({ title, content });
    ";
    let want = r#"{"title":"How a tide table is made","content":"Every table begins with a stick in the mud and somebody who reads it twice a day."}"#;
    assert_eq!(session.node(code).await, want);
    // Again in the same session: the declarations must not be in the way.
    session.node("await page.goBack(); 'back'").await;
    assert_eq!(session.node(code).await, want);
    session.stop().await;
}

#[tokio::test]
async fn the_one_liner_of_the_curl_example() {
    let session = open("/").await;
    let code = "await page.click(\"#next-page\"); await page.waitForLoadState(\"networkidle\"); \
                const title = await page.title(); JSON.stringify({ title });";
    assert_eq!(
        session.node(code).await,
        r#"{"title":"How a tide table is made"}"#
    );
    assert_eq!(
        session
            .node("const title = await page.title(); JSON.stringify({ title });")
            .await,
        r#"{"title":"How a tide table is made"}"#
    );
    session.stop().await;
}

#[tokio::test]
async fn load_more_in_python() {
    let session = open("/").await;
    let code = "
import json

await page.click('#load-more')
await page.wait_for_load_state('networkidle')

items = await page.query_selector_all('.item')
data = []
for item in items:
    text = await item.text_content()
    data.append(text.strip())

print(json.dumps(data))
";
    let reply = session.good(Language::Python, code).await;
    assert_eq!(
        reply.stdout,
        "[\"Skerry Haven\", \"Old Quay\", \"Lantern Bay\", \"Gull Point\", \"Northmole\", \"Saltholm\"]\n"
    );
    session.stop().await;

    let session = open("/").await;
    let code = "import json\nawait page.click(\"#load-more\")\n\
                await page.wait_for_load_state(\"networkidle\")\n\
                items = await page.query_selector_all(\".item\")\n\
                data = [await i.text_content() for i in items]\nprint(json.dumps(data))";
    let reply = session.good(Language::Python, code).await;
    assert_eq!(
        reply.stdout.matches('"').count(),
        12,
        "{}",
        describe(&reply)
    );
    session.stop().await;
}

#[tokio::test]
async fn snapshot_then_act_by_refs_in_bash() {
    let session = open("/search").await;
    let snapshot = session
        .good(Language::Bash, "agent-browser snapshot -i")
        .await
        .stdout;
    for (reference, what) in [
        ("e1", "textbox \"Search...\""),
        ("e2", "button \"Search\""),
        ("e3", "link \"About\""),
    ] {
        let line = snapshot.lines().find(|line| line.contains(what));
        assert!(
            line.is_some_and(|line| line.contains(&format!("ref={reference}"))),
            "{what} is @{reference} in\n{snapshot}"
        );
    }
    session
        .bash("agent-browser fill @e1 \"firecrawl\" && agent-browser click @e2")
        .await;
    // agent-browser does not wait for what its click sets off.
    let code = "await page.waitForURL('**/search?*'); await page.title()";
    assert_eq!(session.node(code).await, "Results for firecrawl");
    session.stop().await;
}

#[tokio::test]
async fn the_table_of_agent_browser_commands() {
    let session = open("/search").await;
    // In an order in which the refs hold: another page has refs of its own.
    for command in [
        "agent-browser snapshot",
        "agent-browser snapshot -i",
        "agent-browser fill @e1 \"text\"",
        "agent-browser type @e1 \"text\"",
        "agent-browser get text @e2",
        "agent-browser get url",
        "agent-browser wait @e1",
        "agent-browser scroll down 500",
        "agent-browser screenshot",
        "agent-browser eval \"document.title\"",
        "agent-browser press Enter",
        "agent-browser wait --load networkidle",
        "agent-browser find text \"About\" click",
    ] {
        session.bash(command).await;
    }
    let code = "await page.waitForLoadState(); await page.title()";
    assert_eq!(session.node(code).await, "About the almanac");
    session.stop().await;
}

#[tokio::test]
async fn a_clicked_tab_is_still_selected_in_the_next_call() {
    let session = open("/").await;
    session
        .good(Language::Node, "await page.click('#tab-2')")
        .await;
    let files = session
        .node("await page.$eval('#tab-2-content', el => el.textContent)")
        .await;
    assert_eq!(
        files,
        "almanac-1987.csv, almanac-2025.csv, corrections.txt, LICENSE"
    );
    session.stop().await;
}

#[tokio::test]
async fn numbers_filled_after_hydration_in_node_and_bash() {
    let session = open("/").await;
    let code = "
await page.waitForLoadState('networkidle');
const stats = await page.$$eval('.stats .num__align', els =>
  els.map(e => e.textContent.trim())
);
JSON.stringify({ downloads: stats[0], versions: stats[1] });
";
    let [downloads, versions] = STATS;
    assert_eq!(
        session.node(code).await,
        format!(r#"{{"downloads":"{downloads}","versions":"{versions}"}}"#)
    );
    let code = "
echo \"downloads: $(agent-browser get text '.stats .stat:nth-of-type(1) .num__align')\"
echo \"versions:  $(agent-browser get text '.stats .stat:nth-of-type(2) .num__align')\"
";
    assert_eq!(
        session.bash(code).await,
        format!("downloads: {downloads}\nversions:  {versions}")
    );
    session.stop().await;
}

#[tokio::test]
async fn screenshots_in_every_language() {
    let session = open("/").await;
    let code = "
await page.waitForLoadState('networkidle');
const buf = await page.screenshot({ fullPage: false });
buf.toString('base64');
";
    let png = session.node(code).await;
    assert!(png.starts_with("iVBORw0KGgo") && png.len() > 10_000);
    let short = "(await page.screenshot()).toString(\"base64\")";
    assert!(session.node(short).await.starts_with("iVBORw0KGgo"));

    session
        .good(
            Language::Python,
            "await page.screenshot(path=\"/tmp/screenshot.png\")",
        )
        .await;
    let code = "head -c 8 /tmp/screenshot.png | tail -c 7 | head -c 3";
    assert_eq!(session.bash(code).await, "PNG");
    let said = session.bash("agent-browser screenshot /tmp/shot.png").await;
    assert_eq!(
        session.bash("head -c 4 /tmp/shot.png | tail -c 3").await,
        "PNG",
        "{said}"
    );
    session.stop().await;
}

#[tokio::test]
async fn storage_written_by_one_call_is_read_by_the_next() {
    let session = open("/").await;
    let code = r#"await page.evaluate(() => { localStorage.setItem("firecrawlProfileCheck", "saved"); document.cookie = "firecrawl_profile_check=saved; path=/; max-age=3600"; return localStorage.getItem("firecrawlProfileCheck"); });"#;
    assert_eq!(session.node(code).await, "saved");
    let code = r#"await page.evaluate(() => ({ localStorage: localStorage.getItem("firecrawlProfileCheck"), cookie: document.cookie.includes("firecrawl_profile_check=saved") }));"#;
    assert_eq!(
        session.node(code).await,
        r#"{"localStorage":"saved","cookie":true}"#
    );
    session.stop().await;
}

#[tokio::test]
async fn a_login_holds_in_the_session() {
    let session = open("/login.html").await;
    let code = "
await page.fill('input[name=email]', 'user@example.com');
await page.fill('input[name=password]', 'secret');
await page.click('text=Login');
await page.waitForURL('**/account');
await page.textContent('#greeting');
";
    assert_eq!(session.node(code).await, "Welcome, user@example.com");
    let code = "await page.reload()\nawait page.text_content('#greeting')";
    assert_eq!(session.python(code).await, "Welcome, user@example.com");
    session.stop().await;
}

#[tokio::test]
async fn a_timeout_says_killed_and_the_session_goes_on() {
    let session = open("/").await;
    let code = "await page.click('#tab-2'); console.log('spinning'); while (true) {}";
    let reply = session
        .exec_within(Duration::from_secs(3), Language::Node, code)
        .await;
    assert_eq!(reply.outcome(), Outcome::TimedOut, "{}", describe(&reply));
    assert!(reply.killed && !reply.success);
    assert_eq!((reply.exit_code, &*reply.stdout), (137, "spinning\n"));
    let code = "await page.isVisible('#tab-2-content')";
    let reply = session.good(Language::Node, code).await;
    assert_eq!(reply.result.as_deref(), Some("true"));
    assert!(reply.context_restarted && !reply.page_replaced);
    session.stop().await;
}
