//! 2: every process below the daemon but its spawner is confined, at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::Client;
use crate::daemon::Daemon;
use crate::leaks::descendants;
use crate::shared::{binary, site};

/// The spawner, and the copies of it that build a sandbox or are its pid 1: our code. A program is
/// untrusted from its execve on, which gives it another name; all that confines it comes before.
const OURS: &str = "pagebox-spawner";
const NAMESPACES: [&str; 7] = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"];

fn namespace(pid: u32, kind: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}

/// What was seen while sessions came and went.
#[derive(Debug, Default)]
struct Seen {
    looks: u32,
    /// How often each program was looked at.
    programs: BTreeMap<String, u32>,
    namespaces: u32,
    wrong: BTreeSet<String>,
}

impl Seen {
    fn look(&mut self, daemon: u32, host: &BTreeMap<&str, PathBuf>) {
        self.looks += 1;
        for process in descendants(daemon) {
            let file = format!("/proc/{}/status", process.pid);
            // Gone already, or only its shell is left: nothing runs in it.
            let Ok(status) = std::fs::read_to_string(file) else {
                continue;
            };
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.map_or("", |value| value.trim_start_matches(':').trim())
            };
            let name = field("Name");
            if name == OURS || field("State").starts_with(['Z', 'X']) {
                continue;
            }
            *self.programs.entry(name.to_owned()).or_default() += 1;
            let mut wrong = |what: &str| {
                self.wrong.insert(format!("{name}: {what}"));
            };
            if field("Seccomp") != "2" {
                wrong(&format!("Seccomp {}", field("Seccomp")));
            }
            if field("NoNewPrivs") != "1" {
                wrong("no_new_privs is not set");
            }
            // Chromium's own sandbox makes user namespaces below ours and has rights in them;
            // only the browser image lets it.
            let is_chromium = name.starts_with("chrom") || name.starts_with("headless");
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                let empty = field(set).trim_start_matches('0').is_empty();
                if !empty && !is_chromium {
                    wrong(&format!("{set} {}", field(set)));
                }
            }
            for (kind, of_host) in host {
                // What may not be looked at is in a user namespace of somebody else's.
                let Some(own) = namespace(process.pid, kind) else {
                    continue;
                };
                self.namespaces += 1;
                if own == *of_host {
                    let file = format!("/proc/{}/status", process.pid);
                    // The link of a process that ends meanwhile is no longer its own.
                    if std::fs::metadata(file).is_ok() {
                        self.wrong
                            .insert(format!("{name}: the host's {kind} namespace"));
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_nothing_untrusted_runs_unconfined_at_any_moment() {
    let daemon = Daemon::start(binary(), "");
    let client = Client::new(&daemon.url());
    let host: BTreeMap<_, _> = NAMESPACES
        .into_iter()
        .map(|kind| (kind, namespace(std::process::id(), kind).unwrap()))
        .collect();
    let done = Arc::new(AtomicBool::new(false));
    let sampler = {
        let (done, daemon) = (Arc::clone(&done), daemon.pid());
        std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !done.load(Ordering::Relaxed) {
                seen.look(daemon, &host);
            }
            seen
        })
    };
    let article = site().url("/article.html");
    for _ in 0..3 {
        let (one, two) = tokio::join!(client.open(&article), client.open("about:blank"));
        let python = one.python(
            "import subprocess, sys\n\
             subprocess.run([sys.executable, '-c', 'import time; time.sleep(0.2)']).returncode",
        );
        let bash = two.bash("sleep 0.2 & (sleep 0.2; true) | cat; agent-browser get url; wait");
        let node = one.node("await page.title()");
        let (zero, _, title) = tokio::join!(python, bash, node);
        assert_eq!((&*zero, &*title), ("0", "How a tide table is made"));
        tokio::join!(one.stop(), two.stop());
    }
    done.store(true, Ordering::Relaxed);
    let seen = sampler.join().unwrap();
    println!("{seen:?}");
    assert_eq!(seen.wrong, BTreeSet::new());
    assert!(seen.looks >= 20 && seen.namespaces >= 100, "{seen:?}");
    let names: Vec<_> = seen.programs.keys().collect();
    for program in ["python3", "bash", "node", "chrom"] {
        let among = |name: &&String| {
            name.starts_with(program)
                || program == "chrom" && name.starts_with("headless")
                || program == "node" && name.starts_with("MainThread")
        };
        assert!(names.iter().any(among), "{program}: {names:?}");
    }
}
