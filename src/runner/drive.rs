//! Drives one runner that is connected: runs one execution in it, watches it while it is idle.

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::cdp::Page;
use crate::execution::{
    BoundedOutput, Ending, ExecutionEvent, ExecutionLimits, ExecutionOptions, ExecutionReport,
    Language, LimitsHit, MemoryLimit, Stream, Verdict, decide,
};
use crate::sandbox::{ExitStatus, Usage};

use super::check::PageCheck;
use super::clock::time_is_over;
use super::context::{ContextEnv, Job};
use super::ending::{Why, claims, memory_limit};
use super::frame::{Finished, FromRunner, SHORT_LINE, ToRunner, finished_line};
use super::output::Pipe;
use super::start::Live;

/// How long code may go on after its browser died, so that it can report the error it gets.
const BROWSER_DEATH_GRACE: Duration = Duration::from_secs(1);
/// How long a reader that has stalled may take for each event of an execution that has ended.
const STALLED_READER: Duration = Duration::from_secs(30);

/// How long the bash runner may take after an execution; it gives up on the service after 2 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// What was lost since the execution before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    /// The runner, with its state.
    pub(super) context: bool,
    /// The active page, which did not answer.
    pub(super) page: bool,
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
    limits: ExecutionLimits,
    job: Job,
    before_it: Lost,
    session_end: &CancellationToken,
) -> bool {
    let Job {
        id,
        session_id,
        options,
        events,
        started,
        cancel,
        guard,
    } = job;
    let language = options.language;
    // Output that came after the execution before belongs to nobody.
    live.stdout.drain();
    live.stderr.drain();
    if session_end
        .run_until_cancelled(env.agent.settled())
        .await
        .is_none()
    {
        let _ = started.send(Err(super::Error::Cancelled));
        return false;
    }
    let opened = env.hub.pages_opened();
    let (page, replaced, check) = match env.hub.trusted_page().await {
        Some((page, asked)) => {
            let check = PageCheck::start(env.hub.clone(), asked);
            (page, false, Some(check))
        }
        None => match env.hub.ensure_active_page().await {
            Ok((page, replaced)) => (page, replaced, None),
            Err(error) => {
                debug!(%error, "no page for the execution");
                (Page::default(), false, None)
            }
        },
    };
    let known = std::mem::replace(&mut live.navigations, env.hub.navigations());
    let navigated = live.navigations != known;
    let start_time = SystemTime::now();
    let began = Instant::now();
    let tokens = tokens(live, env, language);
    for token in &tokens {
        env.hub.execution_started(token);
    }
    let _ = started.send(Ok(()));
    let mut watch = Watch {
        stdout: BoundedOutput::new(options.output_limits.stdout),
        stderr: BoundedOutput::new(options.output_limits.stderr),
        ending: Ending::default(),
        before: Usage::default(),
        finished: None,
        alive: true,
        signal: None,
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
            &tokens,
            &page,
            navigated,
            &options,
            &events,
            &cancel,
        )
        .await;
    let end_time = SystemTime::now();
    let duration = began.elapsed();
    let claimed = watch.finished.take();
    // Only a page the code has made its own moves the active page: a runner that still has the one
    // it was given must not take it back from `bringToFront`, or from another language.
    if let Some(target) = claimed.as_ref().and_then(|f| f.page.as_deref())
        && target != page.target_id
    {
        env.hub.set_active_page(target);
    }
    let mut settling = match &claimed {
        Some(finished) if finished.settles => Some(Settling::new(finished, env).await),
        _ => None,
    };
    // It may be on one of those that were opened.
    if env.hub.pages_opened() != opened
        && let Some(settling) = settling.take()
    {
        watch.alive = settling.finish(live, &page, session_end).await;
    }
    let checked = async {
        match check {
            Some(check) => check.finish(session_end).await,
            None => replaced,
        }
    };
    let ((usage, mut last_events), active, replaced) = if watch.alive {
        // The browser answers while the pipes are emptied.
        let (active, settled, replaced) = tokio::join!(
            biased;
            env.hub.look_at_active_page(),
            watch.settle(live, env),
            checked,
        );
        (settled, active, replaced)
    } else {
        // What the code still does to the page until it is killed is to be seen.
        let (settled, replaced) = tokio::join!(biased; watch.settle(live, env), checked);
        (settled, env.hub.look_at_active_page().await, replaced)
    };
    // It is another one by now.
    let active = match replaced {
        true => env.hub.look_at_active_page().await,
        false => active,
    };
    for token in &tokens {
        env.hub.execution_ended(token);
    }
    let Verdict {
        outcome,
        exit_code,
        killed,
    } = decide(watch.ending);
    let why = Why {
        options: &options,
        ending: watch.ending,
        memory: match watch.ending.out_of_memory {
            Some(MemoryLimit::Session) => env.session_memory,
            _ => limits.memory,
        },
        signal: watch.signal,
    };
    let (result, result_truncated, error) = claims(claimed, outcome, &why);
    // The browser may be gone; what was known last is the best there is.
    let active = active.unwrap_or_else(|_| env.hub.active_page());
    info!(%language, ?outcome, exit_code, ?duration, "execution ended");
    let report = ExecutionReport {
        execution_id: id,
        session_id,
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
        cpu_time: usage.cpu_time,
        limits_hit: LimitsHit {
            oom_kills: usage.oom_kills,
            forks_refused: usage.forks_refused,
            cpu_throttled: usage.cpu_throttled,
        },
        context_restarted: before_it.context,
        page_replaced: replaced || before_it.page,
        url: active.url,
        title: active.title,
    };
    // The count of running executions must be down when the caller learns of the end.
    drop(guard);
    last_events.push(ExecutionEvent::Finished(Box::new(report)));
    hand_over(events, last_events);
    if let Some(settling) = settling {
        watch.alive = settling.finish(live, &page, session_end).await;
    }
    if watch.alive {
        env.hub.ask_active_page().await;
    }
    watch.alive
}

/// agent-browser's service is being pinned to the page it is on, after an execution that used it. No
/// other execution begins meanwhile: the service would follow the pages it opens.
struct Settling<'a> {
    /// Of the execution.
    id: String,
    env: &'a ContextEnv,
    _others_wait: OwnedMutexGuard<()>,
}

impl<'a> Settling<'a> {
    async fn new(finished: &Finished, env: &'a ContextEnv) -> Self {
        Self {
            id: finished.id.clone(),
            env,
            _others_wait: env.agent.settling().await,
        }
    }

    /// Waits until it is, and makes the page it is on the active one, unless that is the one the code
    /// was `given`. Whether the runner can take another execution.
    async fn finish(self, live: &mut Live, given: &Page, session_end: &CancellationToken) -> bool {
        let settled = async {
            tokio::select! {
                frame = live.channel.receive(SHORT_LINE) => frame.ok().flatten(),
                _ = live.sandbox.wait() => None,
                () = session_end.cancelled() => None,
            }
        };
        match tokio::time::timeout(SETTLE_LIMIT, settled).await {
            Ok(Some(FromRunner::Settled { id, page })) if id == self.id => {
                if let Some(target) = page
                    && target != given.target_id
                {
                    self.env.hub.set_active_page(&target);
                }
                true
            }
            _ => false,
        }
    }
}

/// Gives the reader what is left. One that has stalled must not hold up the context, and with it
/// the end of the session: it gets the rest from a task of its own, for a while.
fn hand_over(events: mpsc::Sender<ExecutionEvent>, last_events: Vec<ExecutionEvent>) {
    let mut left = last_events.into_iter();
    while let Some(event) = left.next() {
        match events.try_send(event) {
            Ok(()) => {}
            // A reader that went away misses nothing it wanted.
            Err(TrySendError::Closed(_)) => return,
            Err(TrySendError::Full(event)) => {
                tokio::spawn(async move {
                    for event in std::iter::once(event).chain(left) {
                        if events.send_timeout(event, STALLED_READER).await.is_err() {
                            return;
                        }
                    }
                });
                return;
            }
        }
    }
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
    /// What the sandbox had used when the code began.
    before: Usage,
    ending: Ending,
    finished: Option<Finished>,
    /// The runner can take another execution.
    alive: bool,
    /// What ended the runner's process, when it was a signal that Pagebox did not send.
    signal: Option<i32>,
}

impl Watch {
    #[allow(clippy::too_many_arguments)] // the parts of one execution, each used once
    async fn until_end(
        &mut self,
        live: &mut Live,
        env: &ContextEnv,
        id: &str,
        tokens: &[String],
        page: &Page,
        navigated: bool,
        options: &ExecutionOptions,
        events: &mpsc::Sender<ExecutionEvent>,
        cancel: &CancellationToken,
    ) {
        let (handoffs, control) = (env.hub.handoffs(), env.hub.control());
        let deadline = time_is_over(
            options.timeout,
            env.hub.handoff_limit(),
            handoffs,
            control,
            tokens,
        );
        tokio::pin!(deadline);
        let browser_death = async {
            env.hub.closed().await;
            tokio::time::sleep(BROWSER_DEATH_GRACE).await;
        };
        tokio::pin!(browser_death);
        let frame = ToRunner::Execute {
            id: id.to_owned(),
            page: &page.target_id,
            navigated,
            result_limit_bytes: options.output_limits.result.0,
            environment: &options.environment,
            code: &options.code,
        };
        {
            // Code of 100 kB fits no socket buffer in one go when the runner does not read.
            let sent = tokio::select! {
                biased;
                () = cancel.cancelled() => { self.ending.cancelled = true; false }
                sent = live.channel.send(&frame) => sent.is_ok(),
                () = &mut deadline => { self.ending.deadline_hit = true; false }
            };
            // The kernel's counters are read while the runner reads.
            self.before = live.sandbox.usage().await;
            live.sandbox.reset_peak();
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

    /// Ends the runner if it is to end, then takes what is left in its pipes. Gives what it used
    /// since the code began.
    async fn settle(&mut self, live: &mut Live, env: &ContextEnv) -> (Usage, Vec<ExecutionEvent>) {
        let usage = if self.alive {
            live.sandbox.usage().await
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
            if let (true, ExitStatus::Signal(signal)) = (by_itself, exit.status) {
                self.signal = Some(signal);
                if language_signal_is_own(signal) {
                    self.ending.exited = Some(128 + signal);
                }
            }
            if let ExitStatus::OutOfMemory(of) = exit.status {
                self.ending.out_of_memory = Some(memory_limit(of));
            }
            exit.usage
        };
        let usage = usage.since(&self.before);
        if let Some(of) = usage.killed_for() {
            self.ending.out_of_memory = Some(memory_limit(of));
        }
        let mut last_events = Vec::new();
        for (pipe, output, stream) in [
            (&mut live.stdout, &mut self.stdout, Stream::Stdout),
            (&mut live.stderr, &mut self.stderr, Stream::Stderr),
        ] {
            for piece in pipe.drain() {
                let piece = output.admit(piece);
                if !piece.is_empty() {
                    last_events.push(ExecutionEvent::Output(stream, piece));
                }
            }
        }
        if !self.ending.deadline_hit && !self.ending.cancelled {
            self.ending.browser_died = env.hub.is_closed();
        }
        (usage, last_events)
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
