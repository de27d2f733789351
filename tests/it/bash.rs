//! Bash executions: exit codes, pipes, files, the working directory, agent-browser.

use std::time::Duration;

use pagebox::grpc::v1::execute_stream_response::Event;
use pagebox::grpc::v1::{ExecuteStreamRequest, Language, Outcome};
use tokio_stream::StreamExt;

use crate::client::{describe, environment};
use crate::shared::{blank, open, site};

#[tokio::test]
async fn the_exit_code_is_the_scripts() {
    let session = blank().await;
    for (code, exit_code, stdout) in [
        ("echo one; echo two | tr a-z A-Z", 0, "one\nTWO\n"),
        ("exit 7", 7, ""),
        ("false", 1, ""),
        ("set -e; echo before; false; echo after", 1, "before\n"),
        ("set -o pipefail; false | cat", 1, ""),
        ("no-such-program", 127, ""),
        ("exit 137", 137, ""),
        ("kill -9 $$", 137, ""),
        ("kill -TERM $$", 143, ""),
    ] {
        let reply = session.exec(Language::Bash, code).await;
        let outcome = if exit_code == 0 {
            Outcome::Completed
        } else {
            Outcome::Failed
        };
        assert_eq!(
            (reply.exit_code, reply.outcome(), &*reply.stdout),
            (exit_code, outcome, stdout),
            "{code}: {}",
            describe(&reply)
        );
        assert!(!reply.killed, "{code}: pagebox did not kill it");
        assert_eq!(reply.result, None, "{code}: bash has no result");
    }
    session.stop().await;
}

#[tokio::test]
async fn files_and_the_working_directory_stay() {
    let session = blank().await;
    session
        .bash("mkdir -p boats && cd boats && echo petrel > name && export LOST=1")
        .await;
    assert_eq!(
        session
            .bash("cat name; basename \"$PWD\"; echo \"[$LOST]\"")
            .await,
        "petrel\nboats\n[]"
    );
    assert_eq!(
        session
            .node("require('fs').writeFileSync('/tmp/from-node', 'hello'); 'written'")
            .await,
        "written"
    );
    assert_eq!(session.bash("cat /tmp/from-node").await, "hello");
    assert_eq!(
        session.python("open('/tmp/from-node').read()").await,
        "hello"
    );
    session.stop().await;
}

#[tokio::test]
async fn the_usual_programs_are_there() {
    let session = blank().await;
    let code = "for p in agent-browser curl jq git sed awk grep find python3 node; do \
                command -v $p >/dev/null || echo missing $p; done; [ -n \"$CDP_URL\" ] || echo no CDP_URL";
    assert_eq!(session.bash(code).await, "");
    assert_eq!(
        session
            .bash("curl -s \"${CDP_URL/ws:/http:}\" >/dev/null; echo '{\"a\":1}' | jq .a")
            .await,
        "1"
    );
    session.stop().await;
}

#[tokio::test]
async fn agent_browser_is_on_the_sessions_page_and_keeps_its_refs() {
    let session = open("/search").await;
    let snapshot = session.bash("agent-browser snapshot -i").await;
    let of = |what: &str| {
        let line = snapshot.lines().find(|line| line.contains(what));
        let line = line.unwrap_or_else(|| panic!("no {what} in\n{snapshot}"));
        let start = line.split_once("ref=").expect("a ref").1;
        format!(
            "@{}",
            start
                .trim_end_matches([']', ' '])
                .split([',', ']'])
                .next()
                .unwrap()
        )
    };
    let (input, button) = (of("textbox \"Search...\""), of("button \"Search\""));
    session
        .bash(&format!(
            "agent-browser fill {input} \"firecrawl\" && agent-browser click {button}"
        ))
        .await;
    session.bash("agent-browser wait --load networkidle").await;
    assert_eq!(
        session.node("await page.title()").await,
        "Results for firecrawl"
    );
    let url = session.bash("agent-browser get url").await;
    assert!(url.ends_with("/search?q=firecrawl"), "{url}");
    session.stop().await;
}

#[tokio::test]
async fn everybody_goes_to_the_page_agent_browser_is_on_and_it_stays_there() {
    let session = open("/workbench.html").await;
    session.bash("agent-browser click '#blank'").await;
    let title = "How a tide table is made";
    assert_eq!(session.node("await page.title()").await, title);
    // It is not to follow what others open between its executions, not even right after one.
    for open in 2..7 {
        let url = session.bash("agent-browser get url").await;
        assert!(url.ends_with("/article.html"), "{url}");
        let code = "await context.newPage(); context.pages().length";
        assert_eq!(session.node(code).await, (open + 1).to_string());
    }
    assert_eq!(session.node("await page.title()").await, title);
    session.stop().await;
}

#[tokio::test]
async fn agent_browser_is_the_same_in_the_shell_and_in_programs_it_starts() {
    let session = open("/").await;
    for code in [
        "agent-browser get title",
        "command agent-browser get title",
        "set -eu; IFS=t; shopt -s nocasematch; agent-browser get title",
        "echo get title | xargs agent-browser",
        "timeout 20 agent-browser get title",
        "bash -c 'agent-browser get title'",
        "agent-browser get title | cat",
    ] {
        assert_eq!(session.bash(code).await, "Tidewater Almanac", "{code}");
    }
    let code = "set -x\nagent-browser get title >/dev/null";
    let shown = session.exec(Language::Bash, code).await;
    assert_eq!(shown.stderr, "+ agent-browser get title\n");
    let code = "agent-browser get title --idle-timeout 5";
    let refused = session.exec(Language::Bash, code).await;
    assert_eq!(refused.exit_code, 2);
    assert!(
        refused.stderr.contains("cannot be changed"),
        "{}",
        describe(&refused)
    );
    session.stop().await;
}

#[tokio::test]
async fn agent_browser_scrape_prints_the_page_and_leaves_it() {
    let session = open("/article.html").await;
    let page = session.bash("agent-browser scrape").await;
    assert!(page.contains("# How a tide table is made\n"), "{page}");
    let code = format!(
        "agent-browser goto {} >/dev/null && agent-browser scrape | grep Lantern",
        site().url("/")
    );
    assert_eq!(session.bash(&code).await, "- Lantern Bay");
    assert_eq!(
        session
            .node("[await page.title(), context.pages().length].join()")
            .await,
        "Tidewater Almanac,1"
    );
    session.stop().await;
}

#[tokio::test]
async fn bytes_stay_bytes_in_the_stream_and_are_flagged_in_the_reply() {
    let session = blank().await;
    let code = r"printf 'a\xff\x00b'; printf '\xfe' >&2";
    let reply = session.good(Language::Bash, code).await;
    assert_eq!(
        (&*reply.stdout, &*reply.stderr),
        ("a\u{fffd}\0b", "\u{fffd}")
    );
    assert!(reply.stdout_lossy && reply.stderr_lossy);

    let request = ExecuteStreamRequest {
        options: Some(session.options(Language::Bash, code)),
    };
    let mut executions = session.client().executions();
    let mut stream = executions
        .execute_stream(request)
        .await
        .unwrap()
        .into_inner();
    let (mut stdout, mut stderr, mut order) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(event) = stream.next().await {
        match event.unwrap().event.unwrap() {
            Event::Started(started) => {
                assert_eq!(started.session_id, session.id);
                order.push("started");
            }
            Event::Stdout(bytes) => stdout.extend(bytes),
            Event::Stderr(bytes) => stderr.extend(bytes),
            Event::Finished(reply) => {
                assert_eq!((&*reply.stdout, &*reply.stderr), ("", ""));
                assert_eq!(reply.outcome(), Outcome::Completed);
                order.push("finished");
            }
        }
    }
    assert_eq!((&*stdout, &*stderr), (&b"a\xff\0b"[..], &b"\xfe"[..]));
    assert_eq!(order, ["started", "finished"]);
    session.stop().await;
}

#[tokio::test]
async fn background_work_goes_on_between_executions() {
    let session = blank().await;
    session
        .bash(
            "echo 0 >/tmp/tick; (for i in $(seq 200); do echo $i >/tmp/next; mv /tmp/next /tmp/tick; \
             sleep 0.02; done) >/dev/null 2>&1 & disown",
        )
        .await;
    let code =
        "a=$(cat /tmp/tick); sleep 0.5; b=$(cat /tmp/tick); [ \"$b\" -gt \"$a\" ] && echo moving";
    assert_eq!(session.bash(code).await, "moving");
    session.stop().await;
}

#[tokio::test]
async fn code_left_running_may_end_the_shell_that_waits() {
    let session = blank().await;
    let code = "(sleep 0.3; pkill -KILL -n -f BASH_EXECUTION_STRING; echo $? >/tmp/ended) >/dev/null 2>&1 & disown";
    session.bash(code).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(session.bash("cat /tmp/ended; echo $SECONDS").await, "0\n0");
    session.stop().await;
}

#[tokio::test]
async fn nothing_is_left_of_an_environment() {
    let session = blank().await;
    let search = "grep -c -a 'tide''water' /proc/$PAGEBOX_RUNNER/fd/7";
    let mut options = session.options(Language::Bash, search);
    options.environment = environment(&[("SECRET", "tidewater")]);
    let during = session.run(options).await;
    assert_eq!(during.stdout, "1\n", "{}", describe(&during));
    let after = session.exec(Language::Bash, search).await;
    assert_eq!((after.stdout.as_str(), after.exit_code), ("0\n", 1));
    session.stop().await;
}

#[tokio::test]
async fn a_full_scratch_leaves_every_language_usable() {
    let session = open("/").await;
    session
        .exec(
            Language::Bash,
            "mkdir -p /workspace/kept; cd /workspace/kept; \
             cat /dev/zero >/tmp/fill 2>/dev/null; cat /dev/zero >/dev/shm/fill 2>/dev/null",
        )
        .await;
    let full = session
        .node("try { require('fs').writeFileSync('/tmp/more', 'x'); 'room' } catch (e) { e.code }")
        .await;
    assert_eq!(full, "ENOSPC");
    assert_eq!(session.bash("pwd; cd ..").await, "/workspace/kept");
    assert_eq!(session.bash("pwd").await, "/workspace");
    assert_eq!(
        session.node("await page.title()").await,
        "Tidewater Almanac"
    );
    assert_eq!(
        session.python("await page.title()").await,
        "Tidewater Almanac"
    );
    // New runners start in it, too.
    session.exec(Language::Bash, "kill -9 $PPID; sleep 9").await;
    session.exec(Language::Node, "process.exit(1)").await;
    session
        .exec(Language::Python, "import os; os._exit(1)")
        .await;
    assert_eq!(
        session.node("await page.title()").await,
        "Tidewater Almanac"
    );
    assert_eq!(
        session.python("await page.title()").await,
        "Tidewater Almanac"
    );
    assert_eq!(session.bash("rm /tmp/fill && echo freed").await, "freed");
    assert_eq!(
        session.bash("agent-browser get title").await,
        "Tidewater Almanac"
    );
    session.stop().await;
}

#[tokio::test]
async fn scripts_drive_the_page_at_cdp_url() {
    let session = open("/").await;
    let node = "cat >drive.mjs <<'END'\n\
        import { chromium } from 'playwright-core';\n\
        const browser = await chromium.connectOverCDP(process.env.CDP_URL);\n\
        console.log(await browser.contexts()[0].pages()[0].title());\n\
        await browser.close();\n\
        END\n\
        node drive.mjs";
    assert_eq!(session.bash(node).await, "Tidewater Almanac");
    let python = "cat >drive.py <<'END'\n\
        import os\n\
        from playwright.sync_api import sync_playwright\n\
        with sync_playwright() as playwright:\n\
        \x20   browser = playwright.chromium.connect_over_cdp(os.environ['CDP_URL'])\n\
        \x20   print(browser.contexts[0].pages[0].title())\n\
        END\n\
        python3 drive.py";
    assert_eq!(session.bash(python).await, "Tidewater Almanac");
    assert_eq!(
        session.bash("agent-browser get title").await,
        "Tidewater Almanac"
    );
    session.stop().await;
}

#[tokio::test]
async fn agent_browser_is_back_after_code_ended_its_service() {
    let session = open("/").await;
    session.bash("agent-browser get title").await;
    // Other settings than the service's make the native command stop it.
    let stop = "native=$(echo /opt/pagebox/runners/node/node_modules/agent-browser/bin/agent-browser-linux-*); \
                timeout 5 $native --proxy http://localhost:1 get url";
    let reply = session
        .exec_within(Duration::from_secs(10), Language::Bash, stop)
        .await;
    assert_ne!(reply.exit_code, 0, "{}", describe(&reply));
    assert_eq!(
        session.bash("agent-browser get title").await,
        "Tidewater Almanac"
    );
    session.stop().await;
}
