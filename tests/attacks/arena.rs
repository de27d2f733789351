//! Where cases run: one daemon, an honest session beside the attack, and what is looked at after
//! every case.
//!
//! A case that failed may have left anything behind, so the next one gets a new daemon.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pagebox::grpc::v1::{ListSessionsRequest, SessionState};
use tokio::runtime::Runtime;

use crate::case::Case;
use crate::client::{Client, OpenSession};
use crate::daemon::Daemon;
use crate::honest::{Beside, Honest};
use crate::leaks::{Holdings, holdings, resident_kib};
use crate::mode::Mode;
use crate::own::Own;
use crate::site::Site;
use crate::table::{Row, Seen, Table};

const CONFIG: &str = "[session]\nmax_sessions = 20\n";
/// No case takes this long; a hang is a failure.
const CASE_LIMIT: Duration = Duration::from_secs(300);
/// Generous: what is asked for is one second, and the table says how long it was.
const CLEAN_LIMIT: Duration = Duration::from_secs(15);
/// Between two looks at what is left.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How long the daemon may take to list its sessions.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// What the daemon may keep of a case in memory: an allocator's slack after its largest messages.
const CASE_MEMORY_KIB: u64 = 96 << 10;
/// What it may keep of all of them: slack does not add up, leaks do.
const RUN_MEMORY_KIB: u64 = 160 << 10;
/// How much of the daemon's log a failure shows.
const LOG_LINES: usize = 40;

/// The ground of all cases, made by the first that runs, and the table.
#[derive(Default)]
pub(crate) struct Arena {
    runtime: OnceLock<Runtime>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ground: Option<Ground>,
    table: Table,
}

/// What a case has to work with.
pub(crate) struct Ground {
    daemon: Daemon,
    site: Site,
    client: Client,
    mode: Mode,
    honest: Honest,
    /// Memory of the daemon before its first case, in KiB.
    first_memory: u64,
    notes: Mutex<Vec<String>>,
}

impl Arena {
    /// Runs a case and looks at what is left of it.
    ///
    /// # Errors
    /// With what was wrong, in words, and the end of the daemon's log.
    pub(crate) fn run(&self, case: &'static Case) -> Result<(), String> {
        let runtime = self
            .runtime
            .get_or_init(|| Runtime::new().expect("a runtime"));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { ground, table } = &mut *state;
        let ground_now = ground.get_or_insert_with(|| runtime.block_on(Ground::start()));
        table.mode(&ground_now.mode);
        let started = Instant::now();
        let work = std::panic::AssertUnwindSafe(|| runtime.block_on(ground_now.observe(case)));
        let verdict = std::panic::catch_unwind(work).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(text.unwrap_or_else(|| "it panicked".to_owned()))
        });
        let result = verdict.as_ref().map(|_| ()).map_err(|why| {
            let log = log_tail(ground_now);
            format!("{why}\n--- the end of the daemon's log ---\n{log}")
        });
        table.rows.push(Row {
            case,
            verdict,
            took: started.elapsed(),
            notes: ground_now.take_notes(),
        });
        if result.is_err() {
            let _guard = runtime.enter();
            *ground = None;
        }
        result
    }

    /// Prints the table and looks at the run as a whole, if anything ran.
    ///
    /// # Errors
    /// When the daemon's memory grew with the cases.
    pub(crate) fn finish(&self) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.table.print();
        let Some(ground) = state.ground.take() else {
            return Ok(());
        };
        let (first, last) = (ground.first_memory, resident_kib(ground.daemon.pid()));
        println!("The daemon used {first} KiB before the first case, {last} KiB after the last.");
        if last > first + RUN_MEMORY_KIB {
            return Err(format!("the daemon grew by {} KiB in all", last - first));
        }
        let _guard = self.runtime.get().map(Runtime::enter);
        drop(ground);
        Ok(())
    }
}

impl Ground {
    async fn start() -> Self {
        let daemon = Daemon::start(Path::new(env!("CARGO_BIN_EXE_pagebox")), CONFIG);
        let client = Client::new(&daemon.url());
        let site = Site::start().await.expect("a free port");
        let honest = Honest::open(&client).await;
        let held = holdings(daemon.pid(), &daemon.temporary());
        assert!(
            held.descriptors > 0 && held.mounts > 0,
            "this user cannot see what the daemon holds: {held:?}"
        );
        Self {
            first_memory: resident_kib(daemon.pid()),
            daemon,
            site,
            client,
            mode: Mode::of_this_host(),
            honest,
            notes: Mutex::default(),
        }
    }

    /// The daemon under attack.
    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// A web site on the host's loopback, which this daemon lets sessions reach.
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    /// A connection to the daemon.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// How strongly this host isolates.
    pub(crate) fn mode(&self) -> &Mode {
        &self.mode
    }

    /// A new session on a page of the site. The case stops it.
    pub(crate) async fn open(&self, path: &str) -> OpenSession {
        self.client.open(&self.site.url(path)).await
    }

    /// A new session on a blank page. The case stops it.
    pub(crate) async fn blank(&self) -> OpenSession {
        self.client.open("about:blank").await
    }

    /// A second daemon with a configuration of its own (TOML), for a case whose limits would take
    /// too long to reach, or that ends the daemon. The case ends it with [`Own::end`].
    pub(crate) fn own(&self, config: &str) -> Own {
        Own::start(config)
    }

    /// Says in the table what this host could not show, or what was measured.
    pub(crate) fn note(&self, text: impl Into<String>) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(text.into());
    }

    fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn holdings(&self) -> Holdings {
        holdings(self.daemon.pid(), &self.daemon.temporary())
    }

    async fn observe(&self, case: &Case) -> Result<Seen, String> {
        self.honest.work().await?;
        let before = self.holdings();
        let memory = resident_kib(self.daemon.pid());
        let beside = Beside::start(&self.honest);
        let attacked = tokio::time::timeout(CASE_LIMIT, (case.run)(self)).await;
        let cleaning = Instant::now();
        // The honest session's own work comes and goes, so it ends before anything is counted.
        let honest = beside.end().await?;
        attacked.map_err(|_| format!("it did not end within {CASE_LIMIT:?}"))?;
        self.only_the_honest_session_is_left().await?;
        self.honest.work().await?;
        let clean_after = loop {
            let after = self.holdings();
            if no_more(&after, &before) {
                break cleaning.elapsed();
            }
            if cleaning.elapsed() > CLEAN_LIMIT {
                return Err(format!(
                    "{CLEAN_LIMIT:?} later the daemon holds\n{after:?}, before\n{before:?}"
                ));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        };
        let now = resident_kib(self.daemon.pid());
        if now > memory + CASE_MEMORY_KIB {
            return Err(format!("the daemon grew from {memory} to {now} KiB"));
        }
        Ok(Seen {
            honest,
            clean_after,
            memory_kib: now.cast_signed() - memory.cast_signed(),
        })
    }

    async fn only_the_honest_session_is_left(&self) -> Result<(), String> {
        let mut sessions = self.client.sessions();
        let list = sessions.list_sessions(ListSessionsRequest::default());
        let list = tokio::time::timeout(ANSWER_LIMIT, list)
            .await
            .map_err(|_| format!("the daemon did not answer within {ANSWER_LIMIT:?}"))?
            .map_err(|status| status.to_string())?
            .into_inner();
        let left: Vec<_> = list
            .sessions
            .into_iter()
            .filter(|session| session.state() == SessionState::Ready)
            .map(|session| session.id)
            .filter(|id| *id != self.honest.id())
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("it did not stop its sessions {left:?}"))
        }
    }
}

/// The honest session may have lost something meanwhile, so less is fine.
fn no_more(after: &Holdings, before: &Holdings) -> bool {
    after.processes <= before.processes
        && after.mounts <= before.mounts
        && after.cgroups <= before.cgroups
        && after.descriptors <= before.descriptors
        && after.temporary_files <= before.temporary_files
}

/// The last lines of the daemon's log that are not about the honest session.
fn log_tail(ground: &Ground) -> String {
    let log = ground.daemon.log();
    let lines = log.lines();
    let lines: Vec<&str> = lines
        .filter(|line| !line.contains(ground.honest.id()))
        .collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
