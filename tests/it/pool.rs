//! Sessions that stand ready before anybody asks for them, in a real daemon.

mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::{Duration, SystemTime};

use pagebox::grpc::v1::daemon_service_client::DaemonServiceClient;
use pagebox::grpc::v1::{
    GetDaemonRequest, ListSessionsRequest, NetworkOptions, ProfileOptions, Session, SessionLimits,
    SessionOptions, Viewport,
};

use crate::client::{Client, OpenSession, seconds};
use crate::daemon::Daemon;
use crate::leaks::{Process, cgroups, descendants, eventually};
use crate::shared::{binary, site};

/// Much longer than a kit takes on a busy machine.
const BUILT: Duration = Duration::from_secs(60);

fn pool(more: &str) -> String {
    format!("{more}\n[pool]\nsize = 1\nmemory_left = \"0\"\n")
}

fn start(config: &str) -> (Daemon, Client) {
    let daemon = Daemon::start(binary(), config);
    let client = Client::new(&daemon.url());
    (daemon, client)
}

/// How many kits the daemon has built so far.
fn built(daemon: &Daemon) -> usize {
    daemon.log().matches("kit ready").count()
}

async fn has_built(daemon: &Daemon, count: usize) {
    eventually(BUILT, async || {
        let built = built(daemon);
        let log = || format!("{built} kits built\n{}", daemon.log());
        (built >= count).then_some(()).ok_or_else(log)
    })
    .await;
}

/// A daemon whose one kit is ready.
async fn with_a_kit(config: &str) -> (Daemon, Client) {
    let (daemon, client) = start(config);
    has_built(&daemon, 1).await;
    (daemon, client)
}

async fn create(client: &Client, options: SessionOptions) -> (Session, OpenSession) {
    let session = client.create(options).await.unwrap();
    let open = OpenSession::new(client.clone(), session.id.clone());
    (session, open)
}

async fn plain(client: &Client) -> (Session, OpenSession) {
    create(client, SessionOptions::default()).await
}

fn browsers(daemon: &Daemon) -> Vec<Process> {
    let all = descendants(daemon.pid()).into_iter();
    all.filter(|process| process.name.starts_with("chromium") || process.name.contains("headless"))
        .collect()
}

/// What pages and code can tell of their surroundings.
async fn surroundings(session: &OpenSession) -> String {
    let page = session
        .node(
            "JSON.stringify(await page.evaluate(() => [innerWidth, innerHeight, outerWidth, \
             outerHeight, screen.width, screen.height, devicePixelRatio, navigator.userAgent, \
             navigator.language, history.length, document.visibilityState, document.hasFocus()]))",
        )
        .await;
    let code = "pwd; ls -A /workspace; id; env | grep -v SHLVL | sort | cut -d= -f1 | tr '\\n' ' '";
    let code = session.bash(code).await;
    format!("{page}\n{code}")
}

#[tokio::test]
async fn a_session_from_a_kit_is_as_one_that_was_built_for_it() {
    let (daemon, client) = with_a_kit(&pool("")).await;
    let (warm, session) = plain(&client).await;
    assert!(warm.warm, "{}", daemon.log());
    assert!(session.now().await.warm);
    assert_eq!(session.node("2 + 2").await, "4");
    assert_eq!(session.python("await page.title()").await, "");
    let title =
        "agent-browser open data:text/html,%3Ctitle%3Eseen >/dev/null; agent-browser get title";
    assert_eq!(session.bash(title).await.trim(), "seen");
    assert_eq!(session.python("await page.title()").await, "seen");
    assert_eq!(session.node("await page.title()").await, "seen");
    session.stop().await;

    has_built(&daemon, 2).await;
    let (warm, from_kit) = plain(&client).await;
    let (cold, from_nothing) = plain(&client).await;
    assert_eq!((warm.warm, cold.warm), (true, false));
    assert_eq!(
        surroundings(&from_kit).await,
        surroundings(&from_nothing).await
    );
}

#[tokio::test]
async fn a_kit_is_used_once_and_shares_nothing() {
    let (daemon, client) = with_a_kit(&pool("")).await;
    let options = SessionOptions {
        start_url: site().url("/article.html"),
        ..SessionOptions::default()
    };
    let (first, one) = create(&client, options.clone()).await;
    let (second, other) = create(&client, options.clone()).await;
    assert_eq!((first.warm, second.warm), (true, false));
    assert_eq!(first.url, site().url("/article.html"));
    let mark = "document.cookie = 'kit=1'; localStorage.kit = 1; document.cookie";
    let mark = format!("await page.evaluate(() => {{ {mark}; return document.cookie; }})");
    assert_eq!(one.node(&mark).await, "kit=1");
    one.bash("echo 1 > /workspace/kit; echo 1 > /tmp/kit").await;
    has_built(&daemon, 2).await;
    let (third, last) = create(&client, options).await;
    assert!(third.warm);
    for session in [&other, &last] {
        let look = "await page.evaluate(() => `${document.cookie}${localStorage.kit ?? ''}`)";
        assert_eq!(session.node(look).await, "");
        assert_eq!(
            session
                .bash("ls -A /workspace; ls /tmp/kit 2>&1 | wc -l")
                .await
                .trim(),
            "1"
        );
    }
    one.stop().await;
    if nix_is_root() {
        let owners = spaces_of_browsers(&daemon);
        let all: BTreeSet<u32> = owners.values().flatten().copied().collect();
        assert!(owners.len() >= 2, "{owners:?}");
        assert_eq!(all.len(), owners.len(), "{owners:?}");
    }
}

fn nix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt as _;
        own.uid() == 0
    })
}

fn uid(process: &Process) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The spaces that browsers run in, each with the users they run as.
fn spaces_of_browsers(daemon: &Daemon) -> BTreeMap<OsString, BTreeSet<u32>> {
    let mut owners: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (space, uid) in browsers(daemon).iter().filter_map(space_and_uid) {
        owners.entry(space).or_default().insert(uid);
    }
    owners
}

/// The space a process is in and the user it is of; none for one that has just gone.
fn space_and_uid(process: &Process) -> Option<(OsString, u32)> {
    let space = spaces(&BTreeSet::from([process.clone()])).pop_first()?;
    Some((space.file_name()?.to_owned(), uid(process)?))
}

/// The control groups of the spaces these processes are in.
fn spaces(processes: &BTreeSet<Process>) -> BTreeSet<std::path::PathBuf> {
    let groups = cgroups(processes);
    let all = groups.iter().flat_map(|group| group.ancestors());
    all.filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("space-"))
    })
    .map(std::path::Path::to_owned)
    .collect()
}

#[tokio::test]
async fn what_does_not_fit_is_built_as_asked_and_leaves_the_kit() {
    let (daemon, client) = with_a_kit(&pool("")).await;
    let viewport = SessionOptions {
        viewport: Some(Viewport {
            width: 801,
            height: 602,
        }),
        ..SessionOptions::default()
    };
    let agent = SessionOptions {
        user_agent: "Kit/1".to_owned(),
        ..SessionOptions::default()
    };
    let limits = SessionOptions {
        limits: Some(SessionLimits {
            processes: 900,
            ..SessionLimits::default()
        }),
        ..SessionOptions::default()
    };
    for (options, look, seen) in [
        (viewport, "`${innerWidth} ${innerHeight}`", "801 602"),
        (agent, "navigator.userAgent", "Kit/1"),
        (limits, "location.href", "about:blank"),
    ] {
        let (made, session) = create(&client, options).await;
        assert!(!made.warm, "{look}");
        let look = format!("await page.evaluate(() => {look})");
        assert_eq!(session.node(&look).await, seen);
        session.stop().await;
    }
    assert_eq!(built(&daemon), 1);
    assert!(plain(&client).await.0.warm);
}

#[tokio::test]
async fn the_rules_and_the_log_are_the_sessions() {
    let (daemon, client) = with_a_kit(&pool("")).await;
    let url = site().url("/article.html");
    let goto = format!(
        "const r = await page.goto('{url}'); r.headers()['x-pagebox-egress'] ?? `${{r.status()}}`"
    );
    let options = SessionOptions {
        network: Some(NetworkOptions {
            deny: vec![format!("localhost:{}", site().port())],
            ..NetworkOptions::default()
        }),
        ..SessionOptions::default()
    };
    let (made, session) = create(&client, options).await;
    assert!(made.warm);
    let before = session.now().await.network.unwrap();
    assert_eq!((before.requests, before.refused), (0, 0));
    let said = session.node(&goto).await;
    assert!(said.contains("deny"), "{said}");
    let after = session.now().await.network.unwrap();
    assert!(
        after.refused > 0 && after.refused == after.requests,
        "{after:?}"
    );
    session.stop().await;
    has_built(&daemon, 2).await;
    let (made, session) = plain(&client).await;
    assert!(made.warm);
    assert_eq!(session.now().await.network.unwrap().requests, 0);
    assert_eq!(session.node(&goto).await, "200");
    assert_eq!(session.now().await.network.unwrap().refused, 0);
}

#[tokio::test]
async fn a_profile_that_is_new_fits_and_one_that_was_saved_does_not() {
    let (daemon, client) = with_a_kit(&pool("")).await;
    let options = SessionOptions {
        profile: Some(ProfileOptions {
            name: "kit".to_owned(),
            save_changes: Some(true),
        }),
        start_url: site().url("/article.html"),
        ..SessionOptions::default()
    };
    let (made, session) = create(&client, options.clone()).await;
    assert!(made.warm);
    let mark =
        "await page.evaluate(() => { document.cookie = 'kit=1; max-age=600'; return 'set' })";
    assert_eq!(session.node(mark).await, "set");
    let ended = session.stop().await.session.unwrap();
    assert_eq!(ended.profile.unwrap().save_error, "");
    has_built(&daemon, 2).await;
    let (made, session) = create(&client, options).await;
    assert!(!made.warm);
    let look = "await page.evaluate(() => document.cookie)";
    assert_eq!(session.node(look).await, "kit=1");
}

#[tokio::test]
async fn a_life_begins_when_it_is_asked_for_and_a_kit_is_no_session() {
    let (daemon, client) = with_a_kit(&pool("")).await;
    let request = ListSessionsRequest::default();
    let list = client.sessions().list_sessions(request).await.unwrap();
    assert_eq!(list.into_inner().sessions, []);
    let mut daemons = DaemonServiceClient::new(client.channel());
    let now = daemons.get_daemon(GetDaemonRequest {}).await.unwrap();
    let now = now.into_inner().daemon.unwrap();
    assert_eq!((now.live_sessions, now.kits_ready), (0, 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = SystemTime::now();
    let options = SessionOptions {
        ttl: seconds(60),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..SessionOptions::default()
    };
    let (made, session) = create(&client, options).await;
    assert!(made.warm);
    let created = SystemTime::try_from(made.create_time.unwrap()).unwrap();
    let expires = SystemTime::try_from(made.expire_time.unwrap()).unwrap();
    assert!(
        created >= asked - Duration::from_millis(1),
        "{created:?} {asked:?}"
    );
    assert_eq!(expires.duration_since(created).unwrap().as_secs(), 60);
    assert_eq!(made.labels["a"], "b");
    // What its tasks log, which were there before it, is the session's.
    assert_eq!(session.node("1 + 1").await, "2");
    eventually(Duration::from_secs(5), async || {
        let log = daemon.log();
        let mut lines = log.lines().filter(|line| line.contains("execution ended"));
        let is_its = lines.any(|line| line.contains(&made.id));
        is_its.then_some(()).ok_or(log)
    })
    .await;
}

#[tokio::test]
async fn python_and_agent_browser_stand_ready_when_asked_to() {
    let (daemon, client) =
        with_a_kit(&pool("").replace("size", "python = true\nagent_browser = true\nsize")).await;
    let names: BTreeSet<_> = descendants(daemon.pid())
        .into_iter()
        .map(|p| p.name)
        .collect();
    for wanted in ["python", "agent-browser"] {
        assert!(
            names.iter().any(|name| name.starts_with(wanted)),
            "{names:?}"
        );
    }
    let (made, session) = plain(&client).await;
    assert!(made.warm);
    assert_eq!(session.python("await page.evaluate('1 + 1')").await, "2");
    assert_eq!(
        session.bash("agent-browser get url").await.trim(),
        "about:blank"
    );
}
