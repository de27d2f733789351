//! The story of a session, told through gRPC: `make demo`.
//!
//! Starts a daemon and the fixture site on free loopback ports, runs node, python and bash against
//! one page, and prints every request and reply. Exits with status 0 only when every step gave
//! what it should.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use pagebox::grpc::v1::{
    ExecuteResponse, Language, Outcome, Session, SessionOptions, SessionState,
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

#[tokio::main]
async fn main() -> ExitCode {
    match story().await {
        Ok(()) => {
            println!("\nEvery step gave what it should.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn story() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let site = site::Site::start().await.context("the fixture site")?;
    let port = site.port().to_string();
    let binary = binary()?;
    println!("$ pagebox serve --listen 127.0.0.1:0 --host-loopback {port}");
    let daemon = daemon::Daemon::start_with(&binary, "", &["--host-loopback", &port]);
    println!("pagebox listening on {}", daemon.url());
    let client = Client::new(&daemon.url());

    let session = create(&client, &site.url("/")).await?;

    let reply = run(
        &session,
        "Click a tab with node",
        Language::Node,
        "await page.click('#tab-2');\nawait page.title()",
        None,
    )
    .await?;
    completed(&reply)?;
    ensure!(reply.result.as_deref() == Some("Tidewater Almanac"));

    let reply = run(
        &session,
        "The tab is still open: read it with python",
        Language::Python,
        "files = await page.text_content('#tab-2-content')\nprint(files)\nlen(files.split(', '))",
        None,
    )
    .await?;
    completed(&reply)?;
    ensure!(reply.stdout == "almanac-1987.csv, almanac-2025.csv, corrections.txt, LICENSE\n");
    ensure!(reply.result.as_deref() == Some("4"));

    let reply = run(
        &session,
        "Look at the page with agent-browser, from bash",
        Language::Bash,
        "agent-browser snapshot -i",
        None,
    )
    .await?;
    completed(&reply)?;
    let input = reference(&reply.stdout, "textbox \"Search...\"")?;
    let button = reference(&reply.stdout, "button \"Search\"")?;

    let code = format!(
        "agent-browser fill {input} 'lantern' && agent-browser click {button}\n\
         agent-browser wait --load networkidle\nagent-browser get title"
    );
    let reply = run(
        &session,
        "Fill and submit the form by the refs of that earlier execution",
        Language::Bash,
        &code,
        None,
    )
    .await?;
    completed(&reply)?;
    ensure!(reply.stdout.ends_with("Results for lantern\n"));
    ensure!(reply.url == site.url("/search?q=lantern"));

    let reply = run(
        &session,
        "Take a screenshot",
        Language::Node,
        "(await page.screenshot()).toString('base64')",
        None,
    )
    .await?;
    completed(&reply)?;
    let png = base64::engine::general_purpose::STANDARD
        .decode(reply.result.context("a result")?)
        .context("the screenshot is base64")?;
    ensure!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "it is a PNG");
    let file = root.join("target/demo/screenshot.png");
    std::fs::create_dir_all(root.join("target/demo"))?;
    std::fs::write(&file, &png)?;
    println!("  saved {} ({} bytes)", file.display(), png.len());

    let reply = run(
        &session,
        "Code that never ends is killed at its timeout",
        Language::Node,
        "console.log('spinning');\nwhile (true) {}",
        Some(Duration::from_secs(2)),
    )
    .await?;
    ensure!(reply.outcome() == Outcome::TimedOut && reply.killed && !reply.success);
    ensure!(reply.exit_code == 137 && reply.stdout == "spinning\n");

    let reply = run(
        &session,
        "The page is as it was; only node's variables are gone",
        Language::Node,
        "JSON.stringify({ title: await page.title(), files: typeof files })",
        None,
    )
    .await?;
    completed(&reply)?;
    ensure!(reply.context_restarted && !reply.page_replaced);
    ensure!(
        reply.result.as_deref() == Some(r#"{"title":"Results for lantern","files":"undefined"}"#)
    );

    stop(&client, &session).await
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

async fn create(client: &Client, url: &str) -> anyhow::Result<OpenSession> {
    step("Open a session on a page");
    println!("  SessionService.CreateSession {{ start_url: {url} }}");
    let options = SessionOptions {
        start_url: url.to_owned(),
        ..SessionOptions::default()
    };
    let session = client.create(options).await?;
    show(&session);
    ensure!(session.state() == SessionState::Ready && session.start_error.is_empty());
    ensure!(session.title == "Tidewater Almanac");
    Ok(OpenSession::new(client.clone(), session.id))
}

async fn stop(client: &Client, session: &OpenSession) -> anyhow::Result<()> {
    step("Stop the session");
    println!(
        "  SessionService.StopSession {{ session_id: {} }}",
        session.id
    );
    let reply = client.stop(&session.id).await?;
    let ended = reply.session.context("the ended session")?;
    show(&ended);
    ensure!(ended.state() == SessionState::Stopped);
    Ok(())
}

/// Runs code, printing what goes out and what comes back.
async fn run(
    session: &OpenSession,
    title: &str,
    language: Language,
    code: &str,
    timeout: Option<Duration>,
) -> anyhow::Result<ExecuteResponse> {
    step(title);
    println!(
        "  ExecutionService.Execute {{ language: {}, timeout: {:?} }}",
        language.as_str_name(),
        timeout.unwrap_or(Duration::from_secs(30))
    );
    quote("code", code);
    let mut options = session.options(language, code);
    options.timeout = timeout.map(client::duration);
    let reply = session.client().execute(options).await?;
    println!(
        "  -> {}, exit code {}, killed {}, {} ms",
        reply.outcome().as_str_name(),
        reply.exit_code,
        reply.killed,
        reply.duration.map_or(0, |took| took.seconds * 1000
            + i64::from(took.nanos) / 1_000_000)
    );
    quote("stdout", &reply.stdout);
    quote("stderr", &reply.stderr);
    quote("result", reply.result.as_deref().unwrap_or_default());
    if let Some(error) = &reply.error {
        quote("error", &format!("{}: {}", error.name, error.message));
    }
    println!("     page    {} ({})", reply.url, reply.title);
    if reply.context_restarted {
        println!("     context restarted");
    }
    Ok(reply)
}

fn completed(reply: &ExecuteResponse) -> anyhow::Result<()> {
    ensure!(
        reply.outcome() == Outcome::Completed && reply.success && reply.exit_code == 0,
        "this step should have completed"
    );
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

fn step(title: &str) {
    println!("\n== {title}");
}

fn show(session: &Session) {
    println!("  -> {} {}", session.id, session.state().as_str_name());
    println!("     page    {} ({})", session.url, session.title);
    if let Some(isolation) = &session.isolation {
        for line in &isolation.degraded {
            println!("     weaker  {line}");
        }
    }
    if session.end_reason != 0 {
        println!("     ended   {}", session.end_reason().as_str_name());
    }
}

/// Prints a named text, each line behind a bar; long ones are cut.
fn quote(name: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    let mut shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    if shown.len() < text.len() {
        // Base64 without a break says nothing: much less of it will do.
        if !shown.contains('\n') {
            shown.truncate(60);
        }
        shown.push_str(&format!("… ({} bytes)", text.len()));
    }
    for (number, line) in shown.lines().enumerate() {
        let label = if number == 0 { name } else { "" };
        println!("     {label:<7} | {line}");
    }
}
