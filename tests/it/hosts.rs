//! Hosts of every kind that can be made here: what doctor says of each, and that the daemon says
//! the same. Each is made of this host by unshare, setpriv and mounts of its own.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use pagebox::grpc::v1::HostProbeState;
use pagebox::grpc::v1::daemon_service_client::DaemonServiceClient;
use pagebox::grpc::v1::{GetDaemonRequest, Language};
use serde_json::Value;

use crate::client::Client;
use crate::daemon::Daemon;
use crate::daemon::host::{host, skip};
use crate::shared::{binary, daemon};

/// A user that is nobody's.
const USER: &str = "61234";

/// What doctor said of a host.
struct Said {
    code: Option<i32>,
    verdict: String,
    probes: BTreeMap<String, Value>,
}

impl Said {
    fn of(output: &Output) -> Self {
        let said: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(output)));
        let probes = said["probes"].as_array().unwrap().iter();
        let named = |probe: &Value| {
            (
                probe["mechanism"].as_str().unwrap().to_owned(),
                probe.clone(),
            )
        };
        Self {
            code: output.status.code(),
            verdict: said["verdict"].as_str().unwrap().to_owned(),
            probes: probes.map(named).collect(),
        }
    }

    fn state(&self, mechanism: &str) -> &str {
        self.probes[mechanism]["state"].as_str().unwrap()
    }

    fn remedy(&self, mechanism: &str) -> &str {
        self.probes[mechanism]["remedy"].as_str().unwrap()
    }

    /// Names of those in a state.
    fn all(&self, state: &str) -> Vec<&str> {
        let found = self
            .probes
            .iter()
            .filter(|(_, probe)| probe["state"] == state);
        found.map(|(name, _)| name.as_str()).collect()
    }

    fn cannot_run(&self) {
        assert_eq!((self.code, &*self.verdict), (Some(2), "cannot-run"));
        for name in self.all("refused") {
            assert!(!self.remedy(name).is_empty(), "{name} says what to do");
        }
    }
}

fn text(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Runs `pagebox ARGUMENTS` after `script` has changed the world of its own that `unshare` gives it.
fn in_world(unshare: &[&str], script: &str, arguments: &[&str]) -> Output {
    Command::new("unshare")
        .args(unshare)
        .args(["--", "sh", "-ec", &format!("{script}\nexec \"$@\"")])
        .arg("sh")
        .arg(binary())
        .args(arguments)
        .env_remove("PAGEBOX_SERVER")
        .output()
        .unwrap()
}

fn doctor_in(unshare: &[&str], script: &str) -> Said {
    Said::of(&in_world(unshare, script, &["doctor", "--json"]))
}

/// `serve` on a host that cannot: it ends at once, with doctor's own words.
fn serve_refuses(unshare: &[&str], script: &str, words: &[&str]) {
    let output = in_world(unshare, script, &["serve", "--listen", "127.0.0.1:0"]);
    let said = text(&output);
    assert!(!output.status.success(), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
}

/// Whether this process may make such hosts; else the test is skipped aloud.
fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip(test, "only root makes this kind of host out of this one");
    }
    root
}

#[test]
fn root_isolates_fully_and_the_daemon_is_not_root() {
    if !is_root("root_isolates_fully_and_the_daemon_is_not_root") {
        return;
    }
    let said = doctor_in(&["--uts"], "");
    assert_eq!(said.all("refused"), [] as [&str; 0]);
    assert_eq!(said.all("unknown"), [] as [&str; 0]);
    assert_eq!(said.state("session-uids"), "works");
    assert_eq!(said.state("daemon-uid"), "works");
    assert_ne!(said.probes["daemon-uid"]["detail"], "0");
    assert!(said.code.is_some_and(|code| code <= 1), "{:?}", said.code);
}

#[tokio::test]
async fn a_user_without_root_needs_settings_by_name_and_then_runs() {
    if !is_root("a_user_without_root_needs_settings_by_name_and_then_runs") {
        return;
    }
    let drop = format!("set -- setpriv --reuid {USER} --regid {USER} --clear-groups \"$@\"");
    let said = doctor_in(&["--uts"], &drop);
    said.cannot_run();
    // Nothing is refused that no setting allows.
    let mut allowed = Vec::new();
    for name in said.all("refused") {
        allowed.push(said.probes[name]["weakening"].as_str().unwrap());
    }
    assert!(allowed.contains(&"shared-uid"), "{allowed:?}");
    assert_eq!(said.state("session-uids"), "refused");
    assert_eq!(said.state("sandboxes"), "works");
    serve_refuses(
        &["--uts"],
        &drop,
        &["session-uids", said.remedy("session-uids"), "shared-uid"],
    );

    allowed.dedup();
    let allow = format!(
        "export PAGEBOX_SANDBOX__ALLOW_DEGRADED={}",
        allowed.join(",")
    );
    let said = doctor_in(&["--uts"], &format!("{allow}\n{drop}"));
    assert_eq!((said.code, &*said.verdict), (Some(1), "degraded"));
    assert_eq!(said.state("session-uids"), "degraded");
    assert_eq!(said.state("chromium-sandbox"), "works");
    let exec = ["exec", "-l", "bash", "-e", "id -u"];
    let ran = in_world(&["--uts"], &format!("{allow}\n{drop}"), &exec);
    assert_eq!((ran.status.code(), &*text(&ran)), (Some(0), "1000\n"));
}

/// As docker does: own mounts and pids, parts of /proc mounted over.
#[test]
fn a_container_that_masks_proc_is_refused_with_what_to_type() {
    if !is_root("a_container_that_masks_proc_is_refused_with_what_to_type") {
        return;
    }
    let container = ["--mount", "--pid", "--fork", "--mount-proc"];
    let mask = "mount -t tmpfs tmpfs /proc/fs\nmount --bind /dev/null /proc/version";
    let unmasked = doctor_in(&container, "");
    assert_eq!(unmasked.state("private-proc"), "works");
    let said = doctor_in(&container, mask);
    said.cannot_run();
    assert_eq!(said.all("refused"), ["private-proc"]);
    let remedy = said.remedy("private-proc");
    assert!(
        remedy.contains("--security-opt systempaths=unconfined"),
        "{remedy}"
    );
    assert_eq!(said.state("sandboxes"), "unknown");
    assert_eq!(said.state("seccomp"), "works");
    serve_refuses(&container, mask, &["private-proc", remedy]);
}

#[test]
fn a_host_without_user_namespaces_is_refused_with_what_to_type() {
    if !is_root("a_host_without_user_namespaces_is_refused_with_what_to_type") {
        return;
    }
    let below = ["--user", "--map-root-user"];
    let none = "echo 0 > /proc/sys/user/max_user_namespaces";
    let said = doctor_in(&below, none);
    said.cannot_run();
    assert_eq!(said.state("user-namespaces"), "refused");
    let remedy = "sysctl -w user.max_user_namespaces=10000";
    assert_eq!(said.remedy("user-namespaces"), remedy);
    // Those that need it are not reached; what root can do without it is tried all the same.
    for name in ["id-maps", "private-proc", "sandboxes", "chromium-sandbox"] {
        assert_eq!(said.state(name), "unknown", "{name}");
        let detail = said.probes[name]["detail"].as_str().unwrap();
        assert!(detail.starts_with("not reached: "), "{detail}");
    }
    for name in ["network-namespaces", "detached-mounts", "seccomp", "pidfd"] {
        assert_eq!(said.state(name), "works", "{name}");
    }
    serve_refuses(&below, none, &["user-namespaces", remedy]);
}

#[test]
fn a_host_without_network_namespaces_is_refused_with_what_to_type() {
    if !is_root("a_host_without_network_namespaces_is_refused_with_what_to_type") {
        return;
    }
    let below = ["--user", "--map-root-user"];
    let none = "echo 0 > /proc/sys/user/max_net_namespaces";
    let said = doctor_in(&below, none);
    said.cannot_run();
    assert_eq!(said.state("network-namespaces"), "refused");
    assert_eq!(said.state("passed-listeners"), "refused");
    assert_eq!(said.state("user-namespaces"), "works");
    let remedy = "sysctl -w user.max_net_namespaces=10000";
    assert_eq!(said.remedy("network-namespaces"), remedy);
    serve_refuses(&below, none, &["network-namespaces", remedy]);
}

/// Root of a user namespace in which no other uid exists cannot give sessions uids of their own.
#[test]
fn root_of_a_user_namespace_with_one_uid_is_refused() {
    if !is_root("root_of_a_user_namespace_with_one_uid_is_refused") {
        return;
    }
    let said = doctor_in(&["--user", "--map-root-user"], "");
    said.cannot_run();
    assert_eq!(said.state("id-maps"), "refused");
    assert!(said.remedy("id-maps").contains("another user than root"));
}

#[test]
fn few_open_files_are_degraded_and_too_few_are_refused() {
    let doctor = |limit: &str| {
        let mut pagebox = crate::daemon::host::command(binary());
        pagebox.args(["doctor", "--json"]);
        let set = pagebox
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        let output = Command::new("prlimit")
            .arg(format!("--nofile={limit}:{limit}"))
            .arg(pagebox.get_program())
            .args(pagebox.get_args())
            .envs(set)
            .output()
            .unwrap();
        Said::of(&output)
    };
    let said = doctor("8192");
    assert_eq!((said.code, said.state("open-files")), (Some(1), "degraded"));
    let remedy = said.remedy("open-files");
    assert!(remedy.contains("ulimit -Hn "), "{remedy}");
    assert_eq!(said.state("chromium-sandbox"), "works");
    let said = doctor("512");
    said.cannot_run();
    assert_eq!(said.state("open-files"), "refused");
}

#[test]
fn missing_programs_and_fonts_are_named_and_the_kernel_is_not_blamed() {
    if !is_root("missing_programs_and_fonts_are_named_and_the_kernel_is_not_blamed") {
        return;
    }
    let hide = |path: &str| format!("mount -t tmpfs tmpfs {path}");
    let said = doctor_in(&["--mount"], &hide("/usr/lib/chromium"));
    said.cannot_run();
    assert_eq!(said.state("chromium"), "refused");
    let programs = ["chromium", "chromium-sandbox", "sandboxes"];
    let refused = said.all("refused");
    assert!(
        refused.iter().all(|name| programs.contains(name)),
        "{refused:?}"
    );
    assert!(said.remedy("chromium").contains("setup.sh"));
    assert_eq!(said.state("fonts"), "unknown");

    let said = doctor_in(&["--mount"], &hide("/usr/share/fonts"));
    said.cannot_run();
    assert_eq!(said.all("refused"), ["sandboxes"]);
    assert!(said.remedy("sandboxes").contains("setup.sh"));
}

#[tokio::test]
async fn the_daemon_says_what_doctor_says() {
    let ask = |client: Client| async move {
        let mut daemon = DaemonServiceClient::new(client.channel());
        let reply = daemon.get_daemon(GetDaemonRequest {}).await.unwrap();
        reply.into_inner().daemon.unwrap()
    };
    let own = Daemon::start(binary(), "[session]\nmax_sessions = 3\n");
    let client = Client::new(&own.url());
    let before = ask(client.clone()).await;
    assert_eq!(before.version, env!("CARGO_PKG_VERSION"));
    assert_eq!((before.live_sessions, before.max_sessions), (0, 3));
    assert!(!before.draining && before.start_time.is_some());
    let session = client.open("about:blank").await;
    assert_eq!(ask(client.clone()).await.live_sessions, 1);
    assert_eq!(session.now().await.isolation, before.isolation);
    for probe in &before.probes {
        let works = probe.state() == HostProbeState::Works;
        // The shared daemon's own limits are others.
        if probe.mechanism != "open-files" {
            assert_eq!(works, host(binary()).has(&probe.mechanism), "{probe:?}");
        }
        assert!(works || !probe.remedy.is_empty(), "{probe:?}");
    }
    session.good(Language::Node, "1").await;
    session.stop().await;

    let output = crate::daemon::host::command(binary())
        .args(["doctor", "--server", &daemon().url(), "--json"])
        .output()
        .unwrap();
    let said = Said::of(&output);
    let names: Vec<_> = before.probes.iter().map(|probe| &probe.mechanism).collect();
    assert!(names.iter().all(|name| said.probes.contains_key(*name)));
    assert_eq!(said.probes.len(), names.len());
}
