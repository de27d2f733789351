//! What a session's own network options let its page, its code and agent-browser reach.

use pagebox::grpc::v1::execution_options::Place;
use pagebox::grpc::v1::{
    CreateSessionRequest, ExecutionOptions, Language, NetworkOptions, Proxy, Session,
    SessionOptions, SessionState,
};
use tonic::Code;

use crate::client::{Client, OpenSession, fields, reason};
use crate::daemon::Daemon;
use crate::shared::{binary, client, site};

/// The site by each name of the host's loopback.
const HOSTS: [&str; 4] = ["localhost", "x.localhost", "127.0.0.1", "[::1]"];

fn rules(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn allow(texts: &[&str]) -> NetworkOptions {
    NetworkOptions {
        allow: rules(texts),
        ..NetworkOptions::default()
    }
}

fn deny(texts: &[&str]) -> NetworkOptions {
    NetworkOptions {
        deny: rules(texts),
        ..NetworkOptions::default()
    }
}

fn offline() -> NetworkOptions {
    NetworkOptions {
        offline: true,
        ..NetworkOptions::default()
    }
}

fn with(network: NetworkOptions, start_url: &str) -> SessionOptions {
    SessionOptions {
        network: Some(network),
        start_url: start_url.to_owned(),
        ..SessionOptions::default()
    }
}

async fn open(client: &Client, network: NetworkOptions) -> OpenSession {
    client.open_with(with(network, "")).await
}

/// What the page sees of `url`: the rule that refused it, or else the status.
async fn page(session: &OpenSession, url: &str) -> String {
    let code = format!(
        "const r = await page.goto('{url}'); r.headers()['x-pagebox-egress'] ?? `${{r.status()}}`"
    );
    session.node(&code).await
}

/// The same for the session's code.
async fn code(session: &OpenSession, url: &str) -> String {
    let code = format!(
        "head=$(curl -s -m 30 --noproxy '' -D - -o /dev/null {url} | tr -d '\\r')
         rule=$(sed -n 's/^x-pagebox-egress: //p' <<<\"$head\")
         echo \"${{rule:-$(sed -n '1s/^[^ ]* \\([0-9]*\\).*/\\1/p' <<<\"$head\")}}\""
    );
    session.bash(&code).await
}

/// What page and code see of the site by each of its names.
async fn verdicts(session: &OpenSession) -> [String; 4] {
    let mut seen = HOSTS.map(|_| String::new());
    for (host, seen) in HOSTS.iter().zip(&mut seen) {
        let url = format!("http://{host}:{}/about.html", site().port());
        *seen = page(session, &url).await;
        assert_eq!(
            code(session, &url).await,
            *seen,
            "page and code differ on {url}"
        );
    }
    seen
}

#[tokio::test]
async fn an_allow_list_narrows_page_and_code() {
    let client = client();
    let port = site().port();
    let refused = "session allow";
    for (rule, expected) in [
        (
            format!("localhost:{port}"),
            ["200", refused, refused, refused],
        ),
        ("*.localhost".to_owned(), [refused, "200", refused, refused]),
        // By address, the host's loopback is one place.
        (format!("127.0.0.1:{port}"), ["200"; 4]),
        (format!("[::1]:{}", port ^ 1), [refused; 4]),
        ("other.test".to_owned(), [refused; 4]),
    ] {
        let session = open(&client, allow(&["good.test", &rule])).await;
        assert_eq!(verdicts(&session).await, expected, "{rule}");
        session.stop().await;
    }
}

#[tokio::test]
async fn a_deny_list_wins() {
    let client = client();
    let port = site().port();
    let denied = format!("session deny localhost:{port}");
    let network = NetworkOptions {
        allow: rules(&["*"]),
        ..deny(&[&format!("localhost:{port}"), "*.localhost"])
    };
    let session = open(&client, network).await;
    let expected = [&denied, "session deny *.localhost", "200", "200"];
    assert_eq!(verdicts(&session).await, expected);
    session.stop().await;

    let session = open(&client, deny(&["127.0.0.0/8"])).await;
    assert_eq!(verdicts(&session).await, ["session deny 127.0.0.0/8"; 4]);
    session.stop().await;
}

#[tokio::test]
async fn offline_means_page_code_and_agent_browser() {
    let session = open(&client(), offline()).await;
    assert_eq!(verdicts(&session).await, ["offline"; 4]);
    let url = site().url("/about.html");
    let opened = format!("agent-browser open {url} >/dev/null; agent-browser get text body");
    let text = session.bash(&opened).await;
    assert!(text.contains(r#"refused by rule "offline""#), "{text}");
    let error = session
        .exec(Language::Node, "await page.goto('https://name.test/')")
        .await
        .error
        .unwrap();
    assert!(
        error.message.contains("ERR_TUNNEL_CONNECTION_FAILED"),
        "{error:?}"
    );
    assert_eq!(code(&session, "http://name.test/").await, "offline");
    // Nothing else changes.
    assert_eq!(session.node("await page.evaluate('1 + 1')").await, "2");
    session.stop().await;
}

#[tokio::test]
async fn nothing_a_session_says_opens_what_the_daemon_keeps_closed() {
    let client = client();
    let wide = [
        "*",
        "*:*",
        "0.0.0.0/0:*",
        "[::/0]:*",
        "10.0.0.1",
        "169.254.169.254",
    ];
    let session = open(&client, allow(&wide)).await;
    for (url, rule) in [
        ("http://10.0.0.1/", "private-use 10.0.0.0/8"),
        ("http://192.168.0.1/", "private-use 192.168.0.0/16"),
        (
            "http://169.254.169.254/latest/",
            "metadata 169.254.169.254/32",
        ),
        ("http://168.63.129.16/", "metadata 168.63.129.16/32"),
        ("http://[fd00:ec2::254]/", "metadata fd00:ec2::/32"),
        ("http://127.0.0.2/", "loopback 127.0.0.0/8"),
        ("http://8.8.8.8:8080/", "port 8080"),
    ] {
        assert_eq!(page(&session, url).await, rule, "{url}");
        assert_eq!(code(&session, url).await, rule, "{url}");
    }
    session.stop().await;

    // Its own loopback port is only the daemon's to open.
    let closed = Daemon::start_with(binary(), "", &[]);
    let session = open(
        &Client::new(&closed.url()),
        allow(&["localhost", "127.0.0.1"]),
    )
    .await;
    let seen = page(&session, &site().url("/")).await;
    assert_ne!(seen, "200");
    session.stop().await;

    // And what the daemon denies, no session gets back.
    let strict = Daemon::start(binary(), "[egress]\ndeny = [\"*.localhost\"]\n");
    let session = open(
        &Client::new(&strict.url()),
        allow(&["*.localhost", "localhost"]),
    )
    .await;
    let by = |host| format!("http://{host}:{}/about.html", site().port());
    assert_eq!(page(&session, &by("x.localhost")).await, "deny *.localhost");
    assert_eq!(page(&session, &by("localhost")).await, "200");
    assert_eq!(page(&session, &by("127.0.0.1")).await, "session allow");
    session.stop().await;
}

#[tokio::test]
async fn each_session_has_its_own_rules() {
    let client = client();
    let (narrow, cut, free) = tokio::join!(
        open(&client, allow(&["localhost"])),
        open(&client, offline()),
        open(&client, NetworkOptions::default()),
    );
    let (of_narrow, of_cut, of_free) =
        tokio::join!(verdicts(&narrow), verdicts(&cut), verdicts(&free));
    assert_eq!(
        of_narrow,
        ["200", "session allow", "session allow", "session allow"]
    );
    assert_eq!(of_cut, ["offline"; 4]);
    assert_eq!(of_free, ["200"; 4]);
    tokio::join!(narrow.stop(), cut.stop(), free.stop());

    // A session of one execution has them as well.
    let url = format!("http://127.0.0.1:{}/", site().port());
    let options = ExecutionOptions {
        place: Some(Place::OneShot(with(allow(&["localhost"]), ""))),
        code: format!("(await page.goto('{url}')).headers()['x-pagebox-egress']"),
        ..ExecutionOptions::default()
    };
    let reply = client.execute(options).await.unwrap();
    assert_eq!(reply.result(), "session allow");
}

/// Opens a session on `url`, and what it says of its start.
async fn start_error(network: NetworkOptions, url: &str) -> String {
    let client = client();
    let session: Session = client.create(with(network, url)).await.unwrap();
    assert_eq!(session.state(), SessionState::Ready, "{url}");
    client.stop(&session.id).await.unwrap();
    session.start_error
}

#[tokio::test]
async fn a_start_url_that_is_refused_names_the_rule() {
    let port = site().port();
    let page = "the page could not be loaded";
    let tunnel = format!("{page}: net::ERR_TUNNEL_CONNECTION_FAILED");
    let to = |url: &str| site().url(&format!("/redirect?to={url}"));
    let localhost = || allow(&["localhost"]);
    for (network, url, expected) in [
        (localhost(), site().url("/#top"), String::new()),
        (
            deny(&["localhost"]),
            site().url("/#top"),
            format!(r#"{page}: refused by rule "session deny localhost": localhost:{port}"#),
        ),
        (
            localhost(),
            "https://other.test/a".to_owned(),
            format!(r#"{tunnel}: refused by rule "session allow": other.test:443"#),
        ),
        (
            offline(),
            "https://localhost:3000".to_owned(),
            format!(r#"{tunnel}: refused by rule "offline": localhost:3000"#),
        ),
        // The daemon's rules have the same way.
        (
            NetworkOptions::default(),
            "http://10.0.0.1/".to_owned(),
            format!(r#"{page}: refused by rule "private-use 10.0.0.0/8": 10.0.0.1:80"#),
        ),
        (
            NetworkOptions::default(),
            "https://10.0.0.1/".to_owned(),
            format!(r#"{tunnel}: refused by rule "private-use 10.0.0.0/8": 10.0.0.1:443"#),
        ),
        // What counts is where it was refused, not where it began.
        (
            localhost(),
            to(&format!("http://127.0.0.1:{port}/about.html")),
            format!(r#"{page}: refused by rule "session allow": 127.0.0.1:{port}"#),
        ),
        (
            localhost(),
            to("https://other.test/"),
            format!(r#"{tunnel}: refused by rule "session allow": other.test:443"#),
        ),
    ] {
        assert_eq!(start_error(network, &url).await, expected, "{url}");
    }
    // Failures that are no refusals are told by the same way.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = nobody.local_addr().unwrap().port();
    drop(nobody);
    let error = start_error(localhost(), &format!("http://localhost:{closed}/")).await;
    let expected = format!("nothing listens on port {closed} of the host");
    assert!(error.contains(&expected), "{error}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_its_path() {
    let client = client();
    let proxy = |server: &str| NetworkOptions {
        proxy: Some(Proxy {
            server: server.to_owned(),
            ..Proxy::default()
        }),
        ..NetworkOptions::default()
    };
    for (network, field) in [
        (allow(&["a.test", "http://a.test"]), "network.allow[1]"),
        (allow(&["224.0.0.1"]), "network.allow[0]"),
        (deny(&["a.test", "b.test", "10.0.0.1/8"]), "network.deny[2]"),
        (deny(&["a.test"; 257]), "network.deny"),
        (allow(&["a.test"; 257]), "network.allow"),
        (
            NetworkOptions {
                deny: rules(&["*.test"]),
                ..allow(&["a.example", "a.test"])
            },
            "network.allow[1]",
        ),
        (
            NetworkOptions {
                offline: true,
                ..allow(&["a.test"])
            },
            "network.offline",
        ),
        (proxy("ftp://proxy.test"), "network.proxy.server"),
        (
            NetworkOptions {
                max_bytes: (10 << 30) + 1,
                ..NetworkOptions::default()
            },
            "network.max_bytes",
        ),
    ] {
        let status = client.create(with(network.clone(), "")).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(reason(&status), "INVALID_FIELD");
        assert_eq!(fields(&status), [format!("options.{field}")]);
        let options = ExecutionOptions {
            place: Some(Place::OneShot(with(network, ""))),
            code: "1".to_owned(),
            ..ExecutionOptions::default()
        };
        let status = client.execute(options).await.unwrap_err();
        assert_eq!(fields(&status), [format!("options.one_shot.{field}")]);
    }
}

#[tokio::test]
async fn an_idempotency_key_stands_for_the_network_too() {
    let client = client();
    let request = |network| CreateSessionRequest {
        options: Some(with(network, "")),
        idempotency_key: "network-harbour".to_owned(),
    };
    let mut sessions = client.sessions();
    let mut create = async |network| sessions.create_session(request(network)).await;
    let first = create(allow(&["a.test", "b.test"])).await.unwrap();
    let first = first.into_inner().session.unwrap();
    // The same rules, spelt otherwise.
    let again = create(allow(&["A.TEST.", "b.test"])).await.unwrap();
    assert_eq!(again.into_inner().session.unwrap().id, first.id);
    for network in [
        allow(&["a.test"]),
        deny(&["a.test", "b.test"]),
        offline(),
        NetworkOptions::default(),
    ] {
        let status = create(network).await.unwrap_err();
        assert_eq!(fields(&status), ["idempotency_key"]);
    }
    client.stop(&first.id).await.unwrap();
}
