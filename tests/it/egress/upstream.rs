//! Everything through another proxy: the daemon's, a session's, and both.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use pagebox::grpc::v1::execution_options::Place;
use pagebox::grpc::v1::{ExecutionOptions, NetworkOptions, Proxy, SessionOptions};

use crate::client::{Client, OpenSession, fields, reason};
use crate::daemon::Daemon;
use crate::daemon::host::command;
use crate::internet::proxies::{self, Asked, CREDENTIALS};
use crate::internet::{PROXY, PUBLIC_V4, World};
use crate::shared::{binary, site};

/// A session's way through a proxy of the internet.
fn through(scheme: &str, host: &str, port: u16, credentials: (&str, &str)) -> SessionOptions {
    let (username, password) = credentials;
    SessionOptions {
        network: Some(NetworkOptions {
            proxy: Some(Proxy {
                server: format!("{scheme}://{host}:{port}"),
                username: username.to_owned(),
                password: password.to_owned(),
            }),
            ..NetworkOptions::default()
        }),
        ..SessionOptions::default()
    }
}

/// What the proxy at `port` was asked for, and whether by name.
fn asked(world: &World, port: u16) -> Vec<(String, u16, bool)> {
    let all = world.proxies().asked().into_iter();
    all.filter(|asked| asked.port == port)
        .map(|asked| (asked.host, asked.target_port, asked.by_name))
        .collect()
}

/// The sites took no more connections than proxies made: none came past them.
fn assert_no_way_past(world: &World) {
    let seen = world.sites().connections().len();
    let is_made = |asked: &&Asked| asked.granted && asked.host != PROXY;
    let made = world.proxies().asked().iter().filter(is_made).count();
    assert!(0 < seen && seen <= made, "{seen} of {made}");
}

/// Loads a page and asks with each client; all of it must arrive.
async fn use_it(session: &OpenSession, mark: &str) {
    let page = format!(
        "const r = await page.goto('http://public.example/page-{mark}');
         `${{r.status()}} ${{await page.title()}}`"
    );
    assert_eq!(session.node(&page).await, "200 reached");
    let fetch = format!("(await fetch('http://public.example/fetch-{mark}')).status");
    assert_eq!(session.node(&fetch).await, "200");
    let curl = format!("curl -sS -m 60 http://public.example/curl-{mark} | grep -c reached");
    assert_eq!(session.bash(&curl).await, "1");
    let tls = format!("curl -sSk -m 60 https://public.example/tls-{mark} | grep -c reached");
    assert_eq!(session.bash(&tls).await, "1");
    let urllib = format!(
        "import urllib.request\n\
         urllib.request.urlopen('http://public.example/urllib-{mark}', timeout=60).status"
    );
    assert_eq!(session.python(&urllib).await, "200");
}

/// Status and body of what the daemon's proxy answers to a request of code.
async fn answer(session: &OpenSession, url: &str) -> String {
    let code = format!("curl -sS -m 60 -w ' %{{http_code}}' '{url}'");
    session.bash(&code).await.replace('\n', "")
}

#[tokio::test]
async fn the_daemons_upstream_is_the_only_way_and_gets_checked_addresses() {
    if !World::possible() {
        return;
    }
    let (username, password) = CREDENTIALS;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{password}").unwrap();
    // For root alone, which the daemon is no longer once it runs.
    let only_owner = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(file.path(), only_owner).unwrap();
    let config = format!(
        "[log]\nfilter = \"debug\"\n\
         [egress]\nallow = [\"{PROXY}:1080\", \"{PROXY}:1082\"]\n\
         [egress.upstream]\nserver = \"http://{PROXY}:{}\"\nusername = \"{username}\"\n\
         password_file = \"{}\"\n",
        proxies::CONNECT_PRIVATE,
        file.path().display(),
    );
    let world = World::start(binary(), &config);
    let session = world.client().open_with(SessionOptions::default()).await;
    use_it(&session, "daemon").await;
    for mark in ["page", "fetch", "curl", "urllib", "tls"] {
        let mark = format!("/{mark}-daemon");
        assert!(!world.sites().of_request(&mark).is_empty(), "{mark}");
    }
    // The site's second address may have been tried beside a slow first.
    let asked_for = asked(&world, proxies::CONNECT_PRIVATE);
    assert!(
        asked_for.iter().all(|(_, _, by_name)| !by_name),
        "{asked_for:?}"
    );
    for port in [80, 443] {
        assert!(
            asked_for.contains(&(PUBLIC_V4.to_owned(), port, false)),
            "{asked_for:?}"
        );
    }
    assert_no_way_past(&world);

    let before = world.proxies().asked().len();
    for url in [
        "http://10.0.0.5/",
        "http://private.example/",
        "http://169.254.169.254/",
    ] {
        let refused = answer(&session, url).await;
        assert!(refused.ends_with(" 403"), "{url} {refused}");
    }
    assert_eq!(world.proxies().asked().len(), before);
    let isolation = session.now().await.isolation.unwrap();
    assert!(
        !isolation
            .degraded
            .iter()
            .any(|line| line.contains("egress")),
        "{isolation:?}"
    );
    session.stop().await;

    // A session's own proxy is reached through it too.
    let chained = world
        .client()
        .open_with(through("socks5", PROXY, proxies::SOCKS, ("", "")))
        .await;
    use_it(&chained, "chain").await;
    let to_proxy = (PROXY.to_owned(), proxies::SOCKS, false);
    let asked_for = asked(&world, proxies::CONNECT_PRIVATE);
    assert!(asked_for.contains(&to_proxy), "{asked_for:?}");
    let asked_for = asked(&world, proxies::SOCKS);
    assert!(
        asked_for.contains(&(PUBLIC_V4.to_owned(), 80, false)),
        "{asked_for:?}"
    );
    assert!(
        asked_for.iter().all(|(_, _, by_name)| !by_name),
        "{asked_for:?}"
    );
    assert_no_way_past(&world);
    chained.stop().await;
    let log = world.daemon().log();
    assert!(!log.contains(password), "{log}");
}

#[tokio::test]
async fn an_upstream_that_resolves_is_a_weakening_everyone_is_told_of() {
    if !World::possible() {
        return;
    }
    let (username, password) = CREDENTIALS;
    let config = format!(
        "[egress]\ndeny = [\"other.example\"]\n\
         [egress.upstream]\nserver = \"socks5://{PROXY}:{}\"\nusername = \"{username}\"\n\
         password = \"{password}\"\nresolve = \"upstream\"\n",
        proxies::SOCKS_PRIVATE,
    );
    let world = World::start(binary(), &config);
    let session = world.client().open_with(SessionOptions::default()).await;
    use_it(&session, "names").await;
    assert_eq!(world.dns().asked("public.example"), 0);
    let asked_for = asked(&world, proxies::SOCKS_PRIVATE);
    for port in [80, 443] {
        let by_name = ("public.example".to_owned(), port, true);
        assert!(asked_for.contains(&by_name), "{asked_for:?}");
    }
    assert_no_way_past(&world);
    // What is weaker: the address of a name is the proxy's affair.
    let inside = answer(&session, "http://private.example/inside").await;
    assert!(inside.ends_with(" 200"), "{inside}");
    // What still holds.
    let before = world.proxies().asked().len();
    for url in [
        "http://10.0.0.5/",
        "http://169.254.169.254/",
        "http://other.example/",
        "http://public.example:8080/",
    ] {
        let refused = answer(&session, url).await;
        assert!(refused.ends_with(" 403"), "{url} {refused}");
    }
    assert_eq!(world.proxies().asked().len(), before);

    let isolation = session.now().await.isolation.unwrap();
    let is_told = |text: &str| text.contains("egress.upstream.resolve = \"upstream\"");
    assert!(
        isolation.degraded.iter().any(|line| is_told(line)),
        "{isolation:?}"
    );
    assert!(!isolation.full);
    assert!(is_told(&world.daemon().log()), "{}", world.daemon().log());
    session.stop().await;

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &config).unwrap();
    for (subcommand, expected) in [
        ("doctor", "degraded  egress"),
        ("config", "password = \"***\""),
    ] {
        let mut run = command(binary());
        let output = run
            .args([subcommand, "--config"])
            .arg(file.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        // Lines are broken for the terminal.
        let words: Vec<_> = said.split_whitespace().collect();
        let told = is_told(&words.join(" "));
        assert!(
            said.contains(expected) && told == (subcommand == "doctor"),
            "{said}"
        );
        assert!(!said.contains(password), "{said}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_down_is_said_to_sessions_and_once_to_the_operator() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let config = format!(
        "[egress.upstream]\nserver = \"{server}\"\nusername = \"u\"\npassword = \"s3cret\"\n"
    );
    let daemon = Daemon::start(binary(), &config);
    let session = Client::new(&daemon.url()).open(&site().url("/")).await;
    // No name server is needed, and nothing but the upstream would be asked.
    for _ in 0..3 {
        let said = answer(&session, "http://93.184.216.34/").await;
        assert_eq!(
            said,
            "pagebox: cannot connect to 93.184.216.34:80: the daemon's upstream proxy \
             cannot be reached: Connection refused (os error 111) 502"
        );
    }
    session.stop().await;
    let log = daemon.log();
    let warnings = log
        .lines()
        .filter(|line| line.contains("cannot be reached"));
    let warnings: Vec<_> = warnings.collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(
        warnings[0].contains("WARN") && warnings[0].contains(&server),
        "{log}"
    );
    assert!(!log.contains("s3cret"), "{log}");

    // A session whose first page it was to load.
    let why = |port: u16| {
        format!(
            "cannot connect to 93.184.216.34:{port}: the daemon's upstream proxy cannot be \
             reached: Connection refused (os error 111)"
        )
    };
    for (url, error) in [
        ("http://93.184.216.34/", why(80)),
        (
            "https://93.184.216.34/",
            format!("net::ERR_TUNNEL_CONNECTION_FAILED: {}", why(443)),
        ),
    ] {
        let options = SessionOptions {
            start_url: url.to_owned(),
            ..SessionOptions::default()
        };
        let client = Client::new(&daemon.url());
        let session = client.create(options).await.unwrap();
        assert_eq!(
            session.start_error,
            format!("the page could not be loaded: {error}")
        );
        client.stop(&session.id).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_brings_its_own_proxy_within_the_daemons_rules() {
    if !World::possible() {
        return;
    }
    let config = format!(
        "[egress]\nallow = [\"{PROXY}:1080-3999\", \"proxy.example:3128\", \"trap.example:3128\"]\n\
         deny = [\"{PROXY}:3999\"]\n"
    );
    let world = World::start(binary(), &config);
    world.dns().fixed("proxy.example", &[PROXY]);
    // A name a rule opens for private networks, but not for metadata services.
    world.dns().fixed("trap.example", &["169.254.169.254"]);
    let (username, password) = CREDENTIALS;

    for (scheme, host, port, credentials) in [
        ("http", "proxy.example", proxies::CONNECT, ("", "")),
        ("http", PROXY, proxies::CONNECT_PRIVATE, CREDENTIALS),
        ("socks5", PROXY, proxies::SOCKS, ("", "")),
        ("socks5", PROXY, proxies::SOCKS_PRIVATE, CREDENTIALS),
    ] {
        let session = world
            .client()
            .open_with(through(scheme, host, port, credentials))
            .await;
        use_it(&session, &format!("own-{port}")).await;
        let asked_for = asked(&world, port);
        assert!(
            asked_for.contains(&(PUBLIC_V4.to_owned(), 80, false)),
            "{asked_for:?}"
        );
        assert!(
            asked_for.iter().all(|(_, _, by_name)| !by_name),
            "{asked_for:?}"
        );
        assert_no_way_past(&world);
        session.stop().await;
    }

    for (scheme, host, port, credentials, expected) in [
        (
            "http",
            PROXY,
            proxies::CONNECT_PRIVATE,
            ("", ""),
            "wants credentials 502",
        ),
        (
            "http",
            PROXY,
            proxies::CONNECT_PRIVATE,
            ("tide", "wr0ng"),
            "does not accept the credentials 502",
        ),
        (
            "http",
            PROXY,
            proxies::CONNECT_REFUSING,
            ("", ""),
            "answered 403 Not here 502",
        ),
        (
            "http",
            PROXY,
            proxies::SILENT,
            ("", ""),
            "did not answer in time 504",
        ),
        (
            "http",
            PROXY,
            3998,
            ("", ""),
            "cannot be reached: Connection refused (os error 111) 502",
        ),
        (
            "socks5",
            PROXY,
            proxies::SOCKS_PRIVATE,
            ("tide", "wr0ng"),
            "does not accept the credentials 502",
        ),
        (
            "socks5",
            PROXY,
            proxies::SOCKS_REFUSING,
            ("", ""),
            "answered \"connection not allowed by ruleset\" 502",
        ),
        (
            "http",
            "nowhere.example",
            80,
            ("", ""),
            "cannot be resolved: no such host 502",
        ),
    ] {
        let session = world
            .client()
            .open_with(through(scheme, host, port, credentials))
            .await;
        let said = answer(&session, "http://v4.example/").await;
        let port = if port == 80 {
            String::new()
        } else {
            format!(":{port}")
        };
        let expected = format!(
            "pagebox: cannot connect to v4.example:80: the session's proxy \
             {scheme}://{host}{port} {expected}"
        );
        assert_eq!(said.replace(":80 cannot be", " cannot be"), expected);
        assert!(!said.contains("wr0ng"), "{said}");
        session.stop().await;
    }

    // Refused once its name is looked up.
    let options = through("http", "trap.example", 3128, (username, password));
    let session = world.client().open_with(options).await;
    let said = answer(&session, "http://v4.example/").await;
    assert_eq!(
        said,
        "pagebox: refused by rule \"metadata 169.254.169.254/32\": \
         the session's proxy http://trap.example:3128 403"
    );
    let page = "(await page.goto('http://v4.example/')).headers()['x-pagebox-egress']";
    assert_eq!(session.node(page).await, "metadata 169.254.169.254/32");
    session.stop().await;
    assert_no_way_past(&world);

    // Refused at once where no look-up is needed to tell.
    for (server, rule) in [
        (format!("http://{PROXY}:3999"), format!("deny {PROXY}:3999")),
        (
            "http://proxy.example:8080".to_owned(),
            "port 8080".to_owned(),
        ),
        (
            "socks5://10.0.0.5:1080".to_owned(),
            "private-use 10.0.0.0/8".to_owned(),
        ),
        ("http://127.0.0.1:3129".to_owned(), "loopback".to_owned()),
        ("http://0x7f.1:80".to_owned(), "loopback".to_owned()),
        ("http://45.76.10.2:80".to_owned(), "host-address".to_owned()),
    ] {
        let (scheme, rest) = server.split_once("://").unwrap();
        let (host, port) = rest.rsplit_once(':').unwrap();
        let options = through(scheme, host, port.parse().unwrap(), ("u", "s3cret"));
        let status = world.client().create(options).await.unwrap_err();
        assert_eq!(
            fields(&status),
            ["options.network.proxy.server"],
            "{server}"
        );
        assert_eq!(reason(&status), "INVALID_FIELD");
        assert!(
            status.message().contains(&format!("\"{rule}\"")),
            "{server} {status}"
        );
        assert!(!format!("{status:?}").contains("s3cret"), "{status:?}");
    }
    let one_shot = ExecutionOptions {
        place: Some(Place::OneShot(through("http", "10.0.0.5", 80, ("", "")))),
        code: "1".to_owned(),
        ..ExecutionOptions::default()
    };
    let status = world.client().execute(one_shot).await.unwrap_err();
    assert_eq!(fields(&status), ["options.one_shot.network.proxy.server"]);
}
