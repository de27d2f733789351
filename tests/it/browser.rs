//! The browser under code: closing it, stuck pages, popups, dialogs, files, large payloads, frames,
//! workers, and the active page across languages.

use std::time::Duration;

use pagebox::grpc::v1::{EndReason, Language, Outcome, SessionState};

use crate::client::describe;
use crate::leaks::eventually;
use crate::shared::{blank, open, site};
use crate::site::{REPORT, sha256};

#[tokio::test]
async fn closing_the_browser_closes_only_the_clients_connection() {
    let session = open("/").await;
    for (language, code) in [
        (Language::Node, "await browser.close()"),
        (
            Language::Node,
            "const cdp = await browser.newBrowserCDPSession(); await cdp.send('Browser.close').catch(() => {})",
        ),
        (Language::Python, "await browser.close()"),
        (
            Language::Python,
            "cdp = await browser.new_browser_cdp_session()\ntry:\n    await cdp.send('Browser.close')\nexcept Exception:\n    pass",
        ),
        (Language::Bash, "agent-browser close"),
    ] {
        let reply = session.exec(language, code).await;
        assert_ne!(reply.outcome(), Outcome::BrowserCrashed, "{code}");
        let title = session.node("await page.title()").await;
        assert_eq!(title, "Tidewater Almanac", "after {code}");
        let title = session.python("await page.title()").await;
        assert_eq!(title, "Tidewater Almanac", "after {code}");
        assert_eq!(
            session.bash("agent-browser get title").await,
            "Tidewater Almanac"
        );
    }
    assert_eq!(session.now().await.state(), SessionState::Ready);
    session.stop().await;
}

#[tokio::test]
async fn closing_every_tab_leaves_a_blank_one() {
    let session = open("/").await;
    session
        .good(
            Language::Node,
            "for (const c of browser.contexts()) for (const p of c.pages()) await p.close()",
        )
        .await;
    for code in ["page.url()", "await page.goto('about:blank'); page.url()"] {
        assert_eq!(session.node(code).await, "about:blank");
    }
    assert_eq!(session.python("page.url").await, "about:blank");
    session.stop().await;
}

#[tokio::test]
async fn a_page_stuck_in_a_loop_does_not_stop_the_session() {
    let session = open("/").await;
    for _ in 0..2 {
        let reply = session
            .exec_within(
                Duration::from_secs(3),
                Language::Node,
                "await page.evaluate(() => { while (true) {} })",
            )
            .await;
        assert_eq!(reply.outcome(), Outcome::TimedOut, "{}", describe(&reply));
        let next = session.good(Language::Node, "page.url()").await;
        let url = site().url("/");
        let want = if next.page_replaced {
            "about:blank"
        } else {
            &url
        };
        assert_eq!(next.result.as_deref(), Some(want));
        session
            .good(
                Language::Node,
                &format!("await page.goto('{url}'); await page.title()"),
            )
            .await;
    }
    // Left behind stuck by code that itself ended well: the next language finds it.
    session
        .good(
            Language::Node,
            "page.evaluate(() => { while (true) {} }).catch(() => {}); 'left'",
        )
        .await;
    let reply = session.good(Language::Python, "await page.title()").await;
    assert!(
        reply.page_replaced || reply.result.as_deref() == Some("Tidewater Almanac"),
        "{}",
        describe(&reply)
    );
    session.stop().await;
}

#[tokio::test]
async fn code_may_keep_its_page_busy() {
    let session = open("/").await;
    let code = "await page.evaluate(() => { const end = Date.now() + 2500; while (Date.now() < end); return 'done' })";
    // After the first the page is one that has just answered.
    for _ in 0..3 {
        assert_eq!(session.node(code).await, "done");
    }
    session.stop().await;
}

#[tokio::test]
async fn code_finds_the_page_where_others_took_it() {
    let about = site().url("/about.html");
    for _ in 0..5 {
        let session = open("/about.html").await;
        let code = "`${page.url()} ${await page.title()}`";
        let want = format!("{about} About the almanac");
        assert_eq!(session.node(code).await, want);
        session.stop().await;
    }
    let session = open("/").await;
    session.python("page.url").await;
    for round in 0..10 {
        let (python, node, bash) = {
            let url = |by: &str| format!("{about}#{by}{round}");
            (url("python"), url("node"), url("bash"))
        };
        session
            .python(&format!("await page.goto('{python}')\n1"))
            .await;
        assert_eq!(session.node("page.url()").await, python);
        session
            .node(&format!(
                "await page.goto('{node}'); await page.reload(); 0"
            ))
            .await;
        assert_eq!(session.python("page.url").await, node);
        session.bash(&format!("agent-browser open '{bash}'")).await;
        assert_eq!(session.node("page.url()").await, bash);
        assert_eq!(session.python("page.url").await, bash);
    }
    session.stop().await;
}

#[tokio::test]
async fn popups_and_new_tabs() {
    let session = open("/workbench.html").await;
    let code = "const [popup] = await Promise.all([page.waitForEvent('popup'), page.click('#popup')]); \
                await popup.waitForLoadState(); const title = await popup.title(); await popup.close(); title";
    assert_eq!(session.node(code).await, "How a tide table is made");
    let code = "async with page.expect_popup() as info:\n    await page.click('#blank')\n\
                other = await info.value\nawait other.wait_for_load_state()\nt = await other.title()\n\
                await other.close()\nt";
    assert_eq!(session.python(code).await, "How a tide table is made");
    assert_eq!(session.node("await page.title()").await, "Workbench");
    session.stop().await;
}

#[tokio::test]
async fn a_page_with_many_popups_lives_on() {
    let session = open("/").await;
    // Forms and closed places: with them the renderer is about to show errors when it goes on.
    let send = "await page.evaluate(() => { for (let i = 0; i < 6; i++) { \
        const frame = document.body.appendChild(document.createElement('iframe')); frame.name = `frame-${i}`; \
        const form = document.body.appendChild(document.createElement('form')); \
        Object.assign(form, { method: 'post', action: `http://10.0.0.${i}/form`, target: frame.name }); \
        form.submit(); window.open(`http://10.0.0.${i}/popup`); } }); \
        await page.waitForTimeout(500); \
        for (const other of context.pages()) if (other !== page) await other.close(); \
        await page.reload(); await page.title()";
    for _ in 0..4 {
        assert_eq!(session.node(send).await, "Tidewater Almanac");
    }
    assert_eq!(session.now().await.state(), SessionState::Ready);
    session.stop().await;
}

#[tokio::test]
async fn popups_beyond_the_bound_close_and_their_opener_goes_on() {
    let daemon = crate::daemon::Daemon::start(crate::shared::binary(), "[cdp]\nmax_pages = 4\n");
    let client = crate::client::Client::new(&daemon.url());
    let session = client.open(&site().url("/workbench.html")).await;
    let open = "page.evaluate(() => Array.from({ length: 25 }, () => window.open('about:blank')).filter(Boolean).length)";
    // Absolute: agent-browser moves on to a popup, which is blank.
    let about = site().url("/about.html");
    let navigate = format!("await page.goto('{about}'); await page.title()");
    // No Playwright has looked at the session yet: nobody but the daemon could let popups go on.
    let opened = session
        .bash("agent-browser eval \"Array.from({ length: 25 }, () => window.open('about:blank')).filter(Boolean).length\"")
        .await;
    assert_eq!(opened, "25");
    assert_eq!(session.node(&format!("await {open}")).await, "25");
    assert_eq!(session.node(&navigate).await, "About the almanac");
    let left = "let left; for (let i = 0; i < 300; i++) { left = context.pages().length; if (left <= 4) break; \
                await new Promise((r) => setTimeout(r, 100)) } left <= 4";
    assert_eq!(session.node(left).await, "true");
    assert_eq!(
        session.python("await page.title()").await,
        "About the almanac"
    );
    session.stop().await;
}

#[tokio::test]
async fn dialogs_reach_the_code_that_runs() {
    let session = open("/workbench.html").await;
    // An idle node context without a listener must not dismiss what python wants to answer.
    session.node("await page.title()").await;
    let code = "async def answer(dialog):\n    await dialog.accept('Gannet')\npage.once('dialog', answer)\n\
                await page.click('#prompt')\nawait page.text_content('#dialog-answer')";
    assert_eq!(session.python(code).await, "prompt: Gannet");
    let code = "page.once('dialog', (d) => d.dismiss()); await page.click('#confirm'); \
                await page.textContent('#dialog-answer')";
    assert_eq!(session.node(code).await, "confirm: false");
    let code = "page.once('dialog', (d) => d.accept()); await page.click('#alert'); \
                await page.textContent('#dialog-answer')";
    assert_eq!(session.node(code).await, "alert closed");
    let code = "await page.click('#beforeunload'); page.once('dialog', (d) => d.accept()); \
                await page.goto(new URL('/about.html', page.url()).href); await page.title()";
    assert_eq!(session.node(code).await, "About the almanac");
    session.stop().await;
}

#[tokio::test]
async fn downloads_are_read_back_in_node_and_python() {
    let session = open("/workbench.html").await;
    let python = "async with page.expect_download() as info:\n    await page.click('#download')\n\
                  download = await info.value\nopen(await download.path()).read()";
    let node = "const [d] = await Promise.all([page.waitForEvent('download'), page.click('#download')]); \
                require('fs').readFileSync(await d.path(), 'utf8')";
    // Whichever connected last must not take the downloads of the other.
    assert_eq!(session.node(node).await, REPORT);
    assert_eq!(session.python(python).await, REPORT);
    assert_eq!(session.node(node).await, REPORT);
    let code = "const [d] = await Promise.all([page.waitForEvent('download'), page.click('#blob-download')]); \
                await d.saveAs('/tmp/kept.txt'); d.suggestedFilename()";
    assert_eq!(session.node(code).await, "note.txt");
    assert_eq!(session.bash("cat /tmp/kept.txt").await, "made in the page");
    session.stop().await;
}

#[tokio::test]
async fn uploads_come_from_the_scratch() {
    let session = open("/workbench.html").await;
    session.bash("printf 'from bash' > /tmp/letter.txt").await;
    let want = format!("letter.txt 9 {}", sha256(b"from bash"));
    let code = "await page.setInputFiles('#file', '/tmp/letter.txt'); \
                await page.waitForFunction(() => document.querySelector('#received').textContent); \
                JSON.stringify([await page.textContent('#chosen'), await page.textContent('#received')])";
    assert_eq!(session.node(code).await, format!(r#"["{want}","{want}"]"#));
    let code = "await page.reload()\nasync with page.expect_file_chooser() as info:\n    \
                await page.click('#file')\nchooser = await info.value\n\
                await chooser.set_files('/tmp/letter.txt')\n\
                await page.wait_for_function(\"() => document.querySelector('#received').textContent\")\n\
                await page.text_content('#received')";
    assert_eq!(session.python(code).await, want);
    session.stop().await;
}

#[tokio::test]
async fn payloads_of_fifty_megabytes_pass_both_ways() {
    let session = blank().await;
    let size = 50 << 20;
    let code = format!("(await page.evaluate(() => 'x'.repeat({size}))).length");
    assert_eq!(session.node(&code).await, size.to_string());
    let code = format!("await page.evaluate((text) => text.length, 'y'.repeat({size}))");
    assert_eq!(session.node(&code).await, size.to_string());
    let code = format!("len(await page.evaluate(\"() => 'z'.repeat({size})\"))");
    assert_eq!(session.python(&code).await, size.to_string());
    let result = session.node(&format!("'r'.repeat({})", 30 << 20)).await;
    assert_eq!(result.len(), 30 << 20);
    session.stop().await;
}

#[tokio::test]
async fn frames_of_other_origins_and_workers() {
    let session = open("/frames.html").await;
    let code = "const frame = page.frameLocator('#other'); await frame.locator('#inside').click(); \
                await frame.locator('#where').textContent()";
    assert_eq!(session.node(code).await, "pressed on 127.0.0.1");
    let code = "await page.frame_locator('#same').locator('#where').text_content()";
    assert_eq!(session.python(code).await, "frame on localhost");
    let code = "await page.goto(new URL('/workers.html', page.url()).href); \
                await page.waitForFunction(() => document.querySelector('#service').textContent); \
                JSON.stringify([await page.textContent('#worker'), await page.textContent('#service')])";
    assert_eq!(
        session.node(code).await,
        r#"["sum: 500500","answered by the service worker"]"#
    );
    session.stop().await;
}

#[tokio::test]
async fn websockets_pass_the_proxy() {
    let session = open("/workbench.html").await;
    let code = "await page.click('#socket'); \
                await page.waitForFunction(() => document.querySelector('#socket-answer').textContent); \
                await page.textContent('#socket-answer')";
    assert_eq!(session.node(code).await, "hello");
    session.stop().await;
}

#[tokio::test]
async fn the_active_page_is_the_same_in_every_language() {
    let session = open("/").await;
    let about = site().url("/about.html");
    let reply = session
        .good(
            Language::Node,
            &format!("page = await context.newPage(); await page.goto('{about}'); page.url()"),
        )
        .await;
    assert_eq!((&*reply.url, &*reply.title), (&*about, "About the almanac"));
    assert_eq!(
        session.python("await page.title()").await,
        "About the almanac"
    );
    assert_eq!(
        session.bash("agent-browser get title").await,
        "About the almanac"
    );
    let article = site().url("/article.html");
    session
        .good(
            Language::Python,
            &format!("page = await context.new_page()\nawait page.goto('{article}')"),
        )
        .await;
    assert_eq!(
        session.node("await page.title()").await,
        "How a tide table is made"
    );
    assert_eq!(
        session.bash("agent-browser get title").await,
        "How a tide table is made"
    );
    // A closed page falls back to one that is open.
    session.good(Language::Node, "await page.close()").await;
    let title = session.python("await page.title()").await;
    assert!(
        ["About the almanac", "Tidewater Almanac"].contains(&&*title),
        "{title}"
    );
    session.stop().await;
}

#[tokio::test]
async fn url_and_title_in_the_reply_follow_the_page() {
    let session = open("/workbench.html").await;
    let reply = session
        .good(
            Language::Node,
            "await page.click('#push'); await page.click('#retitle')",
        )
        .await;
    assert_eq!(
        (&*reply.url, &*reply.title),
        (
            &*site().url("/workbench.html?step=2"),
            "Workbench, retitled"
        )
    );
    session.stop().await;
}

#[tokio::test]
async fn many_clients_share_one_page() {
    let session = open("/").await;
    let code = "const others = await Promise.all([1, 2, 3].map(() => \
                require('playwright-core').chromium.connectOverCDP(process.env.CDP_URL))); \
                const titles = await Promise.all(others.map((b) => b.contexts()[0].pages()[0].title())); \
                await page.click('#count'); \
                const counts = await Promise.all(others.map((b) => b.contexts()[0].pages()[0].textContent('#counter'))); \
                for (const b of others) await b.close(); JSON.stringify([titles, counts])";
    assert_eq!(
        session.node(code).await,
        r#"[["Tidewater Almanac","Tidewater Almanac","Tidewater Almanac"],["1","1","1"]]"#
    );
    assert_eq!(
        session.node("await page.title()").await,
        "Tidewater Almanac"
    );
    session.stop().await;
}

#[tokio::test]
async fn a_crashed_chromium_fails_the_session_and_names_itself() {
    let daemon = crate::daemon::Daemon::start(crate::shared::binary(), "");
    let client = crate::client::Client::new(&daemon.url());
    let session = client.open(&site().url("/")).await;
    // A running context: what has not started is refused instead, as the session has ended.
    session.node("1").await;
    let running = {
        let session = session.clone();
        tokio::spawn(async move {
            let code =
                "for (;;) { await page.title(); await new Promise((r) => setTimeout(r, 50)) }";
            session.exec(Language::Node, code).await
        })
    };
    eventually(Duration::from_secs(30), async || {
        let count = session.now().await.running_executions;
        (count == 1).then_some(()).ok_or(format!("{count} running"))
    })
    .await;
    for process in crate::leaks::descendants(daemon.pid()) {
        // The kernel keeps 15 characters of a name.
        if process.name.starts_with("chromium-headle") || process.name.starts_with("headless_shell")
        {
            crate::daemon::signal(process.pid, "KILL");
        }
    }
    let reply = running.await.unwrap();
    assert_eq!(
        reply.outcome(),
        Outcome::BrowserCrashed,
        "{}",
        describe(&reply)
    );
    eventually(Duration::from_secs(10), async || {
        let now = session.now().await;
        (now.state() == SessionState::Failed)
            .then_some(())
            .ok_or(format!("{now:?}"))
    })
    .await;
    let now = session.now().await;
    assert_eq!(now.end_reason(), EndReason::BrowserCrashed);
    assert_ne!(now.end_detail, "");
}

#[tokio::test]
async fn bringing_a_tab_to_front_makes_it_the_active_page() {
    let session = open("/").await;
    let url = site().url("/account.html");
    let code = format!(
        "const other = await context.newPage(); await other.goto('{url}'); \
         await other.bringToFront(); page === other"
    );
    assert_eq!(session.node(&code).await, "false");
    assert_eq!(session.python("page.url").await, url);
    assert_eq!(session.bash("agent-browser get url").await, url);
    assert_eq!(session.node("page.url()").await, url);
    session.stop().await;
}

#[tokio::test]
async fn a_large_upload_by_the_page_does_not_drown_the_clients() {
    let session = open("/workbench.html").await;
    session.python("await page.title()").await;
    let code = "require('fs').writeFileSync('/tmp/big.bin', Buffer.alloc(60 << 20)); \
                await page.setInputFiles('#file', '/tmp/big.bin'); \
                await page.waitForFunction(() => document.querySelector('#received').textContent); \
                require('fs').unlinkSync('/tmp/big.bin'); \
                await page.evaluate(() => document.querySelector('#chosen').textContent)";
    let mut options = session.options(Language::Node, code);
    options.timeout = Some(crate::client::duration(Duration::from_secs(90)));
    let reply = session.run(options).await;
    let chosen = reply
        .result
        .clone()
        .unwrap_or_else(|| panic!("{}", describe(&reply)));
    assert!(chosen.starts_with("big.bin 62914560 "), "{chosen}");
    assert_eq!(session.python("await page.title()").await, "Workbench");
    // Ordinary bodies are told whole.
    let code = "const [request] = await Promise.all([page.waitForRequest('**/upload*'), \
                page.evaluate(() => fetch('/upload', { method: 'POST', body: 'x'.repeat(1 << 20) }))]); \
                request.postData().length";
    assert_eq!(session.node(code).await, "1048576");
    session.stop().await;
}

#[tokio::test]
async fn a_dialog_left_open_holds_up_no_language() {
    let session = open("/workbench.html").await;
    let title = "agent-browser get title";
    let later = "await page.evaluate(() => { setTimeout(() => confirm('later'), 50) })";
    for language in [Language::Node, Language::Python, Language::Bash] {
        session.good(Language::Node, later).await;
        let code = "sleep 0.5; agent-browser get title || { agent-browser dialog dismiss && agent-browser get title; }";
        let reply = match language {
            Language::Bash => session.exec(language, code).await,
            _ => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                session.exec(language, "await page.title()").await
            }
        };
        assert!(reply.success, "{language:?}: {}", describe(&reply));
    }
    // One that agent-browser's own click opened waits for its answer; other commands say so.
    session.bash("agent-browser click '#confirm'").await;
    let reply = session
        .exec_within(Duration::from_secs(10), Language::Bash, title)
        .await;
    assert_eq!(reply.exit_code, 1, "{}", describe(&reply));
    assert!(
        reply.stderr.contains("Leave the harbour?"),
        "{}",
        reply.stderr
    );
    let answer = "agent-browser dialog accept >/dev/null; agent-browser get text '#dialog-answer'";
    assert_eq!(session.bash(answer).await, "confirm: true");
    session.stop().await;
}
