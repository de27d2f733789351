//! Drives one runner: starts it, runs one execution in it, watches it while it is idle.

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tracing::{debug, info};
use uuid::Uuid;

use crate::cdp::{Hub, Page};
use crate::execution::{
    BoundedOutput, Ending, ExecutionError, ExecutionEvent, ExecutionOptions, ExecutionReport,
    Language, Outcome, Stream, decide,
};
use crate::limits::Bytes;
use crate::sandbox::{Control, ControlEnd, Exit, ExitStatus, Network, Sandbox, SandboxSpec, Usage};

use super::context::{ContextEnv, Job, Started};
use super::frame::{Channel, Finished, FromRunner, SHORT_LINE, ToRunner, finished_line};
use super::output::{Pipe, tail};
use super::{Error, language};

/// How long code may go on after its browser died, so that it can report the error it gets.
const BROWSER_DEATH_GRACE: Duration = Duration::from_secs(1);
/// How much of a failed runner's stderr goes into the error.
const STDERR_TAIL: usize = 2 << 10;

/// What was lost since the execution before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    /// The runner, with its state.
    pub(super) context: bool,
    /// The active page, which did not answer.
    pub(super) page: bool,
}

/// A runner that is connected and can take an execution.
#[derive(Debug)]
pub(super) struct Live {
    sandbox: Sandbox,
    channel: Channel,
    stdout: Pipe,
    stderr: Pipe,
    token: String,
}

impl Live {
    /// Kills it and returns when nothing of it is left.
    pub(super) async fn end(self, hub: &Hub) -> Exit {
        self.sandbox.kill();
        hub.forget_token(&self.token);
        self.sandbox.wait().await
    }
}

/// Builds the sandbox of a language's runner and waits until it is connected to the browser.
/// Sets `page_replaced` when the active page had to be replaced for that.
pub(super) async fn start(
    language: Language,
    env: &ContextEnv,
    page_replaced: &mut bool,
) -> Result<Live, Error> {
    let began = Instant::now();
    let token = Uuid::new_v4().simple().to_string();
    let cdp_url = language::cdp_url(&token);
    let mut sandbox = env
        .space
        .spawn(SandboxSpec {
            image: language::image(language).to_owned(),
            argv: language::argv(language),
            env: language::env(language, &cdp_url),
            cwd: language::WORKSPACE.into(),
            network: Network::Runner,
            control: Control::Frames,
            limits: env.config.sandbox_limits(),
        })
        .await?;
    let socket = match std::mem::replace(&mut sandbox.control, ControlEnd::None) {
        ControlEnd::Frames(socket) => socket,
        ControlEnd::None | ControlEnd::CdpPipe { .. } => {
            return Err(Error::Channel(std::io::Error::other("no frame channel")));
        }
    };
    let mut live = Live {
        stdout: Pipe::new(sandbox.stdout.take())?,
        stderr: Pipe::new(sandbox.stderr.take())?,
        channel: Channel::new(socket)?,
        sandbox,
        token,
    };
    let hello = async {
        // A page that spins holds up every client that connects.
        tokio::select! {
            said = hello(&mut live, &cdp_url) => said,
            () = keep_page_alive(&env.hub, page_replaced) => Err(Error::Cancelled),
        }
    };
    match tokio::time::timeout(env.config.start_timeout, hello).await {
        Ok(Ok(())) => {
            debug!(elapsed = ?began.elapsed(), sandbox = %live.sandbox.id(), "runner ready");
            Ok(live)
        }
        Ok(Err(error)) => {
            live.end(&env.hub).await;
            Err(error)
        }
        Err(_) => {
            live.end(&env.hub).await;
            Err(Error::Slow(env.config.start_timeout))
        }
    }
}

/// Never returns. Looks after the active page while a runner connects.
async fn keep_page_alive(hub: &Hub, page_replaced: &mut bool) {
    const STEP: Duration = Duration::from_secs(2);
    loop {
        match hub.ensure_active_page().await {
            Ok((_, replaced)) => *page_replaced |= replaced,
            // The browser is gone; the runner finds that out by itself.
            Err(error) => debug!(%error, "no page for the runner"),
        }
        tokio::time::sleep(STEP).await;
    }
}

async fn hello(live: &mut Live, cdp_url: &str) -> Result<(), Error> {
    // A runner that ends at once breaks the write; its exit status says more than EPIPE.
    let sent = live.channel.send(&ToRunner::Init { cdp_url }).await;
    if sent.is_ok() {
        match live.channel.receive(SHORT_LINE).await {
            Ok(Some(FromRunner::Ready)) => return Ok(()),
            Ok(Some(FromRunner::Failed { message })) => return Err(Error::Reported(message)),
            Ok(Some(FromRunner::Finished(_))) => {
                return Err(Error::Reported("finished before it was ready".to_owned()));
            }
            Ok(None) | Err(_) => {}
        }
    }
    live.sandbox.kill();
    let exit = live.sandbox.wait().await;
    let stderr = tail(&mut live.stderr, STDERR_TAIL);
    Err(Error::Ended {
        exit: format!("{:?}", exit.status),
        stderr: if stderr.is_empty() {
            stderr
        } else {
            format!(": {stderr}")
        },
    })
}

/// Drops what an idle runner writes; returns when it has died. Waits for ever without one.
pub(super) async fn idle(live: &mut Option<Live>) {
    let Some(live) = live else {
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = live.stdout.read() => {}
            _ = live.stderr.read() => {}
            // A frame nobody asked for, or the end of the channel: this runner is not to be trusted
            // with an execution any more.
            _ = live.channel.receive(SHORT_LINE) => return,
            _ = live.sandbox.wait() => return,
        }
    }
}

/// Runs one execution. Returns whether the runner can take another.
pub(super) async fn run(
    live: &mut Live,
    env: &ContextEnv,
    language: Language,
    job: Job,
    before_it: Lost,
) -> bool {
    let Job {
        id,
        options,
        events,
        started,
        cancel,
        guard,
    } = job;
    // Output that came after the execution before belongs to nobody.
    live.stdout.drain();
    live.stderr.drain();
    let (page, page_replaced) = match env.hub.ensure_active_page().await {
        Ok((page, replaced)) => (page, replaced || before_it.page),
        Err(error) => {
            debug!(%error, "no page for the execution");
            (Page::default(), before_it.page)
        }
    };
    let before = live.sandbox.usage();
    live.sandbox.reset_peak();
    let start_time = SystemTime::now();
    let began = Instant::now();
    let tokens = tokens(live, env, language);
    for token in &tokens {
        env.hub.execution_started(token);
    }
    let _ = started.send(Ok(Started { time: start_time }));
    let mut watch = Watch {
        stdout: BoundedOutput::new(options.output_limits.stdout),
        stderr: BoundedOutput::new(options.output_limits.stderr),
        ending: Ending::default(),
        finished: None,
        alive: true,
    };
    if events
        .send(ExecutionEvent::Started { time: start_time })
        .await
        .is_err()
    {
        cancel.cancel();
    }
    watch
        .until_end(
            live,
            env,
            &id.to_string(),
            &page,
            &options,
            &events,
            &cancel,
        )
        .await;
    let end_time = SystemTime::now();
    let duration = began.elapsed();
    let usage = watch.settle(live, env, &events).await;
    for token in &tokens {
        env.hub.execution_ended(token);
    }

    watch.ending.oom_killed = usage.oom_kills > before.oom_kills;
    let claimed = watch.finished.take();
    if let Some(target) = claimed.as_ref().and_then(|f| f.page.as_deref()) {
        env.hub.set_active_page(target);
    }
    let (outcome, exit_code) = decide(watch.ending);
    let killed =
        watch.ending.deadline_hit || watch.ending.output_limit_hit || watch.ending.cancelled;
    let (result, result_truncated, error) = claims(claimed, outcome, &options);
    let active = match env.hub.look_at_active_page().await {
        Ok(page) => page,
        // The browser is gone; what was known last is the best there is.
        Err(_) => env.hub.active_page(),
    };
    info!(%language, ?outcome, exit_code, ?duration, "execution ended");
    let report = ExecutionReport {
        execution_id: id,
        session_id: env.session_id,
        outcome,
        exit_code,
        killed,
        result,
        error,
        stdout_truncated: watch.stdout.truncated(),
        stderr_truncated: watch.stderr.truncated(),
        result_truncated,
        start_time,
        end_time,
        duration,
        peak_memory: usage.peak_memory,
        cpu_time: usage.cpu_time.saturating_sub(before.cpu_time),
        context_restarted: before_it.context,
        page_replaced,
        url: active.url,
        title: active.title,
    };
    // The count of running executions must be down when the caller learns of the end.
    drop(guard);
    let _ = events
        .send(ExecutionEvent::Finished(Box::new(report)))
        .await;
    watch.alive
}

/// The hub's clients that an execution of this runner speaks through.
fn tokens(live: &Live, env: &ContextEnv, language: Language) -> Vec<String> {
    let mut tokens = vec![live.token.clone()];
    if language == Language::Bash {
        tokens.push(env.agent.token().to_owned());
    }
    tokens
}

/// What is seen while an execution runs.
struct Watch {
    stdout: BoundedOutput,
    stderr: BoundedOutput,
    ending: Ending,
    finished: Option<Finished>,
    /// The runner can take another execution.
    alive: bool,
}

impl Watch {
    #[allow(clippy::too_many_arguments)] // the parts of one execution, each used once
    async fn until_end(
        &mut self,
        live: &mut Live,
        env: &ContextEnv,
        id: &str,
        page: &Page,
        options: &ExecutionOptions,
        events: &mpsc::Sender<ExecutionEvent>,
        cancel: &tokio_util::sync::CancellationToken,
    ) {
        let deadline = tokio::time::sleep(options.timeout);
        tokio::pin!(deadline);
        let browser_death = async {
            env.hub.closed().await;
            tokio::time::sleep(BROWSER_DEATH_GRACE).await;
        };
        tokio::pin!(browser_death);
        let frame = ToRunner::Execute {
            id: id.to_owned(),
            page: &page.target_id,
            result_limit_bytes: options.output_limits.result.0,
            environment: &options.environment,
            code: &options.code,
        };
        {
            // Code of 100 kB fits no socket buffer in one go when the runner does not read.
            let sent = tokio::select! {
                sent = live.channel.send(&frame) => sent.is_ok(),
                () = &mut deadline => { self.ending.deadline_hit = true; false }
                () = cancel.cancelled() => { self.ending.cancelled = true; false }
            };
            if !sent {
                self.alive = false;
                return;
            }
        }
        let longest = finished_line(options.output_limits.result);
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    self.ending.cancelled = true;
                    self.alive = false;
                    return;
                }
                () = &mut deadline => {
                    self.ending.deadline_hit = true;
                    self.alive = false;
                    return;
                }
                sent = forward(&mut live.stdout, &mut self.stdout, Stream::Stdout, events) => {
                    if self.after_output(sent) { return; }
                }
                sent = forward(&mut live.stderr, &mut self.stderr, Stream::Stderr, events) => {
                    if self.after_output(sent) { return; }
                }
                frame = live.channel.receive(longest) => {
                    match frame {
                        Ok(Some(FromRunner::Finished(finished))) if finished.id == id => {
                            self.ending.claimed = Some(finished.exit_code);
                            self.finished = Some(finished);
                        }
                        _ => self.alive = false,
                    }
                    return;
                }
                _ = live.sandbox.wait() => {
                    self.alive = false;
                    return;
                }
                () = &mut browser_death => {
                    self.alive = false;
                    return;
                }
            }
        }
    }

    /// Whether the execution is over because of its output.
    fn after_output(&mut self, sent: Sent) -> bool {
        match sent {
            Sent::Whole => return false,
            Sent::Cut => self.ending.output_limit_hit = true,
            Sent::NoReader => self.ending.cancelled = true,
        }
        self.alive = false;
        true
    }

    /// Ends the runner if it is to end, then takes what is left in its pipes.
    async fn settle(
        &mut self,
        live: &mut Live,
        env: &ContextEnv,
        events: &mpsc::Sender<ExecutionEvent>,
    ) -> Usage {
        let usage = if self.alive {
            live.sandbox.usage()
        } else {
            let by_itself = !(self.ending.deadline_hit
                || self.ending.cancelled
                || self.ending.output_limit_hit);
            if by_itself {
                // Its channel closed: give its own exit a moment to become known.
                let _ = tokio::time::timeout(BROWSER_DEATH_GRACE, live.sandbox.wait()).await;
            }
            live.sandbox.kill();
            let exit = live.sandbox.wait().await;
            if let (true, ExitStatus::Code(code)) = (by_itself, exit.status) {
                self.ending.exited = Some(code);
            }
            if let (true, ExitStatus::Signal(signal)) = (by_itself, exit.status)
                && language_signal_is_own(signal)
            {
                self.ending.exited = Some(128 + signal);
            }
            exit.usage
        };
        for (pipe, output, stream) in [
            (&mut live.stdout, &mut self.stdout, Stream::Stdout),
            (&mut live.stderr, &mut self.stderr, Stream::Stderr),
        ] {
            for piece in pipe.drain() {
                let piece = output.admit(piece);
                if !piece.is_empty() {
                    // A reader that went away misses nothing it wanted.
                    let _ = events.send(ExecutionEvent::Output(stream, piece)).await;
                }
            }
        }
        if !self.ending.deadline_hit && !self.ending.cancelled {
            self.ending.browser_died = env.hub.is_closed();
        }
        usage
    }
}

/// Signals code sends itself on purpose (`process.abort()`, `kill $$`) are its exit, SIGKILL is not:
/// that is how the kernel ends what has no memory left, and what `kill -9 -1` does to the runner.
fn language_signal_is_own(signal: i32) -> bool {
    const SIGKILL: i32 = 9;
    signal != SIGKILL
}

enum Sent {
    Whole,
    Cut,
    NoReader,
}

/// Passes on one piece of output. Cancel safe: room for it is taken before it is read.
async fn forward(
    pipe: &mut Pipe,
    output: &mut BoundedOutput,
    stream: Stream,
    events: &mpsc::Sender<ExecutionEvent>,
) -> Sent {
    let Ok(room) = events.reserve().await else {
        return Sent::NoReader;
    };
    let piece = output.admit(pipe.read().await);
    if !piece.is_empty() {
        room.send(ExecutionEvent::Output(stream, piece));
    }
    if output.truncated() {
        Sent::Cut
    } else {
        Sent::Whole
    }
}

/// What the runner claims, cut to the limits, or why there is nothing to claim.
fn claims(
    finished: Option<Finished>,
    outcome: Outcome,
    options: &ExecutionOptions,
) -> (Option<String>, bool, Option<ExecutionError>) {
    let Some(finished) = finished else {
        return (None, false, ending_error(outcome, options));
    };
    let mut truncated = finished.result_truncated;
    let result = finished.result.map(|mut text| {
        truncated |= cut(&mut text, options.output_limits.result);
        text
    });
    let error = finished
        .error
        .map(|claimed| {
            let (mut name, mut message) = (claimed.name, claimed.message);
            cut(&mut name, MAX_ERROR_NAME);
            cut(&mut message, MAX_ERROR_MESSAGE);
            ExecutionError { name, message }
        })
        .or_else(|| ending_error(outcome, options));
    (result, truncated, error)
}

const MAX_ERROR_NAME: Bytes = Bytes(256);
const MAX_ERROR_MESSAGE: Bytes = Bytes::kib(64);

/// Cuts text at a character boundary; says whether it did.
fn cut(text: &mut String, limit: Bytes) -> bool {
    let limit = limit.as_usize();
    if text.len() <= limit {
        return false;
    }
    text.truncate(text.floor_char_boundary(limit));
    true
}

/// The error of an execution that did not end by itself.
fn ending_error(outcome: Outcome, options: &ExecutionOptions) -> Option<ExecutionError> {
    let (name, message) = match outcome {
        Outcome::Completed | Outcome::Failed => return None,
        Outcome::TimedOut => (
            "TimedOut",
            format!(
                "killed at its timeout of {} s",
                options.timeout.as_secs_f64()
            ),
        ),
        Outcome::OutOfMemory => (
            "OutOfMemory",
            "killed by the kernel: the sandbox reached its memory limit".to_owned(),
        ),
        Outcome::OutputLimit => (
            "OutputLimit",
            format!(
                "killed for its output: more than {} on stdout or {} on stderr",
                options.output_limits.stdout, options.output_limits.stderr
            ),
        ),
        Outcome::Cancelled => ("Cancelled", "killed: it was cancelled".to_owned()),
        Outcome::BrowserCrashed => (
            "BrowserCrashed",
            "the session's browser died during the execution".to_owned(),
        ),
        Outcome::RunnerCrashed => (
            "RunnerCrashed",
            "the process that ran the code died without a reply".to_owned(),
        ),
    };
    Some(ExecutionError {
        name: name.to_owned(),
        message,
    })
}
