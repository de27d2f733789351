//! The story of a session, told through gRPC: `make demo`.
//!
//! Starts a daemon and the fixture site on free loopback ports, runs node, python and bash against
//! one page, and prints every request and reply. Each step says what it should give; the first that
//! gives something else ends the demo with status 1. The screenshot goes to target/demo, or to the
//! folder named as the one argument.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine;
use pagebox::grpc::v1::{
    EndReason, ExecuteResponse, Language, Outcome, Session, SessionOptions, SessionState,
};

#[path = "../tests/common/client.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod client;
#[path = "../tests/common/daemon.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod daemon;
#[path = "../tests/common/site.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod site;

use client::{Client, OpenSession};

/// Longest text of a reply that is printed whole.
const SHOWN_CHARACTERS: usize = 700;

/// The same for text without a space, such as base64.
const SHOWN_UNBROKEN: usize = 80;

const INTRODUCTION: &str = "\
A daemon keeps one confined Chromium page open. Code in three languages works on that page, each
execution in a confined process of its own kind. What follows are gRPC calls and their replies.";

#[tokio::main]
async fn main() -> ExitCode {
    let began = Instant::now();
    let mut demo = Demo { step: 0 };
    match demo.story().await {
        Ok(()) => {
            println!(
                "\nAll {} steps gave what they should, in {:.1} s.",
                demo.step,
                began.elapsed().as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!(
                "\nStep {} did not give what it should: {error:#}",
                demo.step
            );
            ExitCode::FAILURE
        }
    }
}

/// One execution of the story.
struct Step<'a> {
    title: &'a str,
    about: &'a str,
    language: Language,
    code: &'a str,
    timeout: Option<Duration>,
}

/// Counts the steps as it tells them.
struct Demo {
    step: usize,
}

impl Demo {
    async fn story(&mut self) -> anyhow::Result<()> {
        println!("{INTRODUCTION}\n");
        let site = site::Site::start().await.context("the fixture site")?;
        let port = site.port().to_string();
        println!("$ pagebox serve --listen 127.0.0.1:0 --host-loopback {port}");
        let daemon = daemon::Daemon::start_with(&binary()?, "", &["--host-loopback", &port]);
        println!("pagebox listening on {}", daemon.url());
        let client = Client::new(&daemon.url());

        let session = self.create(&client, &site.url("/")).await?;
        self.click_and_read(&session).await?;
        self.submit_by_refs(&session, &site).await?;
        self.screenshot(&session).await?;
        self.time_out(&session).await?;
        self.stop(&client, &session).await
    }

    async fn click_and_read(&mut self, session: &OpenSession) -> anyhow::Result<()> {
        let reply = self
            .run(
                session,
                Step {
                    title: "Click with node",
                    about: "`page` is a Playwright page, already connected. Variables stay for later.",
                    language: Language::Node,
                    code: "await page.click('#tab-2');\n\
                           const files = await page.textContent('#tab-2-content');\n\
                           await page.title()",
                    timeout: None,
                },
            )
            .await?;
        completed(&reply)?;
        same("result", reply.result.as_deref(), Some("Tidewater Almanac"))?;

        let reply = self
            .run(
                session,
                Step {
                    title: "Read the clicked state with python",
                    about: "Another language in another process, on the same page.",
                    language: Language::Python,
                    code: "files = await page.text_content('#tab-2-content')\n\
                           print(files)\n\
                           len(files.split(', '))",
                    timeout: None,
                },
            )
            .await?;
        completed(&reply)?;
        let files = "almanac-1987.csv, almanac-2025.csv, corrections.txt, LICENSE\n";
        same("stdout", reply.stdout.as_str(), files)?;
        same("result", reply.result.as_deref(), Some("4"))
    }

    async fn submit_by_refs(
        &mut self,
        session: &OpenSession,
        site: &site::Site,
    ) -> anyhow::Result<()> {
        let reply = self
            .run(
                session,
                Step {
                    title: "Look at the page with agent-browser, from bash",
                    about: "The snapshot gives each element a short name, such as @e6.",
                    language: Language::Bash,
                    code: "agent-browser snapshot -i",
                    timeout: None,
                },
            )
            .await?;
        completed(&reply)?;
        let input = reference(&reply.stdout, "textbox \"Search...\"")?;
        let button = reference(&reply.stdout, "button \"Search\"")?;

        let code = format!(
            "agent-browser fill {input} 'lantern' && agent-browser click {button}\n\
             agent-browser wait --load networkidle\n\
             agent-browser get title"
        );
        let reply = self
            .run(
                session,
                Step {
                    title: "Fill in the form and submit it by those names",
                    about: "They come from the execution before, and still mean the same elements.",
                    language: Language::Bash,
                    code: &code,
                    timeout: None,
                },
            )
            .await?;
        completed(&reply)?;
        let printed = reply.stdout.lines().last();
        same("last line of stdout", printed, Some("Results for lantern"))?;
        same("url", reply.url, site.url("/search?q=lantern"))
    }

    async fn screenshot(&mut self, session: &OpenSession) -> anyhow::Result<()> {
        let reply = self
            .run(
                session,
                Step {
                    title: "Take a screenshot",
                    about: "The file stays in the session's own /workspace; bytes as a result come as base64.",
                    language: Language::Node,
                    code: "await page.screenshot({ path: 'page.png' })",
                    timeout: None,
                },
            )
            .await?;
        completed(&reply)?;
        let png = base64::engine::general_purpose::STANDARD
            .decode(reply.result.context("there is no result")?)
            .context("the result is not base64")?;
        ensure!(
            png.starts_with(b"\x89PNG\r\n\x1a\n"),
            "the result is no PNG"
        );
        let folder = match std::env::args_os().nth(1) {
            Some(folder) => folder.into(),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/demo"),
        };
        let file = folder.join("screenshot.png");
        std::fs::create_dir_all(&folder).context("its folder")?;
        std::fs::write(&file, &png).context("screenshot.png")?;
        println!("   saved  {} ({} bytes)", file.display(), png.len());
        Ok(())
    }

    async fn time_out(&mut self, session: &OpenSession) -> anyhow::Result<()> {
        let reply = self
            .run(
                session,
                Step {
                    title: "Run code that never ends",
                    about: "It is killed at its timeout. That is an ordinary reply, not an error of the call.",
                    language: Language::Node,
                    code: "console.log('spinning');\nwhile (true) {}",
                    timeout: Some(Duration::from_secs(2)),
                },
            )
            .await?;
        same("outcome", reply.outcome(), Outcome::TimedOut)?;
        same("success", reply.success, false)?;
        same("killed", reply.killed, true)?;
        same("exit_code", reply.exit_code, 137)?;
        same("stdout", reply.stdout.as_str(), "spinning\n")?;

        let reply = self
            .run(
                session,
                Step {
                    title: "Go on with the same page",
                    about: "The page is as it was. Only node's variables are gone, and the reply says so.",
                    language: Language::Node,
                    code: "({ title: await page.title(), files: typeof files })",
                    timeout: None,
                },
            )
            .await?;
        completed(&reply)?;
        same("context_restarted", reply.context_restarted, true)?;
        same("page_replaced", reply.page_replaced, false)?;
        let kept = r#"{"title":"Results for lantern","files":"undefined"}"#;
        same("result", reply.result.as_deref(), Some(kept))
    }

    async fn create(&mut self, client: &Client, url: &str) -> anyhow::Result<OpenSession> {
        self.begin(
            "Open a session on a page",
            "A browser of its own, confined, for this session.",
        );
        println!("   SessionService.CreateSession  start_url: {url}");
        let options = SessionOptions {
            start_url: url.to_owned(),
            ..SessionOptions::default()
        };
        let session = client.create(options).await?;
        show(&session);
        same("state", session.state(), SessionState::Ready)?;
        same("start_error", session.start_error.as_str(), "")?;
        same("title", session.title.as_str(), "Tidewater Almanac")?;
        Ok(OpenSession::new(client.clone(), session.id))
    }

    async fn stop(&mut self, client: &Client, session: &OpenSession) -> anyhow::Result<()> {
        self.begin(
            "Stop the session",
            "When this returns, nothing of it is left.",
        );
        println!("   SessionService.StopSession  session_id: {}", session.id);
        let reply = client.stop(&session.id).await?;
        let ended = reply.session.context("the reply lacks the session")?;
        show(&ended);
        same("state", ended.state(), SessionState::Stopped)?;
        same("end_reason", ended.end_reason(), EndReason::Stopped)
    }

    /// Runs code, printing what goes out and what comes back.
    async fn run(
        &mut self,
        session: &OpenSession,
        step: Step<'_>,
    ) -> anyhow::Result<ExecuteResponse> {
        self.begin(step.title, step.about);
        println!(
            "   ExecutionService.Execute  language: {}{}",
            step.language.as_str_name(),
            step.timeout
                .map_or(String::new(), |timeout| format!("  timeout: {timeout:?}"))
        );
        for line in step.code.lines() {
            println!("   > {line}");
        }
        let mut options = session.options(step.language, step.code);
        options.timeout = step.timeout.map(client::duration);
        let reply = session.client().execute(options).await?;
        print_reply(&reply);
        Ok(reply)
    }

    fn begin(&mut self, title: &str, about: &str) {
        self.step += 1;
        println!("\n{}. {title}\n   {about}\n", self.step);
    }
}

/// The pagebox built beside this example.
fn binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.ancestors().nth(2).context("target/debug")?;
    let binary = directory.join("pagebox");
    ensure!(
        binary.exists(),
        "{} is missing: run `cargo build --bin pagebox`",
        binary.display()
    );
    Ok(binary)
}

fn completed(reply: &ExecuteResponse) -> anyhow::Result<()> {
    same("outcome", reply.outcome(), Outcome::Completed)?;
    same("success", reply.success, true)?;
    same("exit_code", reply.exit_code, 0)
}

/// An error that names the field, what it is and what it should be.
fn same<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
    field: &str,
    is: T,
    should: U,
) -> anyhow::Result<()> {
    ensure!(is == should, "{field} is {is:?}, should be {should:?}");
    Ok(())
}

/// `@e7` of the line of a snapshot that holds `what`.
fn reference(snapshot: &str, what: &str) -> anyhow::Result<String> {
    let line = snapshot.lines().find(|line| line.contains(what));
    let rest = line.and_then(|line| line.split_once("ref="));
    let (_, rest) = rest.with_context(|| format!("no {what} in the snapshot"))?;
    let name: String = rest
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    Ok(format!("@{name}"))
}

fn show(session: &Session) {
    println!();
    field("id", &session.id);
    field("state", session.state().as_str_name());
    if session.end_reason() != EndReason::Unspecified {
        field("end_reason", session.end_reason().as_str_name());
    }
    field("url", &session.url);
    field("title", &session.title);
    if let Some(isolation) = &session.isolation {
        field(
            "isolation",
            if isolation.full { "full" } else { "degraded" },
        );
        for line in &isolation.degraded {
            field("", line);
        }
    }
}

fn print_reply(reply: &ExecuteResponse) {
    let took = reply.duration.map_or(0, |took| {
        took.seconds * 1000 + i64::from(took.nanos) / 1_000_000
    });
    println!();
    field("outcome", reply.outcome().as_str_name());
    field("success", &reply.success.to_string());
    field("exit_code", &reply.exit_code.to_string());
    field("killed", &reply.killed.to_string());
    field("duration", &format!("{took} ms"));
    field("stdout", &reply.stdout);
    field("stderr", &reply.stderr);
    field("result", reply.result.as_deref().unwrap_or_default());
    if let Some(error) = &reply.error {
        field("error", &format!("{}: {}", error.name, error.message));
    }
    if reply.context_restarted {
        field("context_restarted", "true");
    }
    if reply.page_replaced {
        field("page_replaced", "true");
    }
    field("url", &reply.url);
    field("title", &reply.title);
}

/// Prints a field of a reply, unless it is empty; what is too long is cut.
fn field(name: &str, text: &str) {
    let limit = if text.contains(char::is_whitespace) {
        SHOWN_CHARACTERS
    } else {
        SHOWN_UNBROKEN
    };
    let mut shown: String = text.chars().take(limit).collect();
    if shown.len() < text.len() {
        shown.push_str(&format!("… ({} bytes)", text.len()));
    }
    for (number, line) in shown.lines().enumerate() {
        let label = if number == 0 { name } else { "" };
        println!("   {label:<17}  {line}");
    }
}
