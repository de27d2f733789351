//! One session's own rules, as its clients meet them.

use super::support::{Internet, Proxy, echo_host};
use crate::egress::{Config, Limits, NetworkOptions};

async fn proxy(internet: Internet, allow: &[&str], deny: &[&str], offline: bool) -> Proxy {
    let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let options = NetworkOptions {
        allow: rules(allow),
        deny: rules(deny),
        offline,
        ..NetworkOptions::default()
    };
    Proxy::start_session(internet, &Config::default(), options, Limits::default()).await
}

fn refused(answer: &str, rule: &str, host: &str) {
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden: "), "{answer}");
    let header = format!("x-pagebox-egress: {rule}\r\n");
    assert!(answer.contains(&header), "{answer}");
    let text = format!("\r\n\r\npagebox: refused by rule \"{rule}\": {host}\n");
    assert!(answer.ends_with(&text), "{answer}");
}

async fn connect(proxy: &Proxy, authority: &str) -> String {
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    proxy.once(&request).await
}

#[tokio::test]
async fn refusals_name_the_sessions_rule_and_ask_no_name_server() {
    let site = echo_host().await;
    let internet = Internet::site(site).name("b.site.test", &["93.184.216.34"]);
    let proxy = proxy(
        internet,
        &["*.site.test", "site.test"],
        &["ads.site.test"],
        false,
    )
    .await;
    let answer = proxy.get("http://site.test/").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let answer = proxy.get("http://b.site.test/").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let denied = "session deny ads.site.test";
    refused(
        &proxy.get("http://ads.site.test/").await,
        denied,
        "ads.site.test:80",
    );
    refused(
        &connect(&proxy, "ads.site.test:443").await,
        denied,
        "ads.site.test:443",
    );
    let other = proxy.get("http://other.test/?secret").await;
    refused(&other, "session allow", "other.test:80");
    refused(
        &connect(&proxy, "other.test:443").await,
        "session allow",
        "other.test:443",
    );
    refused(
        &proxy.get("http://8.8.8.8/").await,
        "session allow",
        "8.8.8.8:80",
    );
    assert_eq!(
        *proxy.looked_up.lock().unwrap(),
        ["site.test", "b.site.test"]
    );
}

#[tokio::test]
async fn addresses_are_checked_after_one_lookup() {
    let internet = Internet::site(echo_host().await)
        .name("mixed.test", &["93.184.216.34", "8.8.8.8"])
        .name("bad.test", &["93.184.216.66"])
        .name("private.test", &["10.0.0.1"]);
    let allow = ["93.184.216.0/24", "10.0.0.0/8"];
    let proxy = proxy(internet, &allow, &["93.184.216.66"], false).await;
    let answer = proxy.get("http://site.test/").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for (host, rule) in [
        ("mixed.test", "session allow"),
        ("bad.test", "session deny 93.184.216.66"),
        ("private.test", "private-use 10.0.0.0/8"),
    ] {
        let answer = proxy.get(&format!("http://{host}/")).await;
        refused(&answer, rule, &format!("{host}:80"));
    }
    assert_eq!(
        *proxy.looked_up.lock().unwrap(),
        ["site.test", "mixed.test", "bad.test", "private.test"]
    );
    assert_eq!(
        *proxy.connected.lock().unwrap(),
        ["93.184.216.34:80".parse().unwrap()]
    );
}

#[tokio::test]
async fn offline_asks_nobody_anything() {
    let proxy = proxy(Internet::site(echo_host().await), &[], &[], true).await;
    for url in ["http://site.test/", "http://93.184.216.34/"] {
        let answer = proxy.get(url).await;
        assert!(answer.contains("x-pagebox-egress: offline\r\n"), "{answer}");
    }
    refused(
        &connect(&proxy, "site.test:443").await,
        "offline",
        "site.test:443",
    );
    assert!(proxy.looked_up.lock().unwrap().is_empty());
    assert!(proxy.connected.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_browsers_newest_failure_is_kept() {
    let internet = Internet::site(echo_host().await);
    let proxy = proxy(internet, &[], &["bad.test"], false).await;
    let why = |port: u16| {
        Some(format!(
            r#"refused by rule "session deny bad.test": bad.test:{port}"#
        ))
    };
    assert_eq!(proxy.egress.failed_tunnel(), None);

    proxy.get("http://bad.test/a?b=c").await;
    assert_eq!(proxy.egress.failed_page("http://bad.test/a?b=c"), why(80));
    assert_eq!(
        proxy.egress.failed_page("http://bad.test/a?b=c#part"),
        why(80)
    );
    assert_eq!(proxy.egress.failed_page("http://bad.test/"), None);
    assert_eq!(proxy.egress.failed_tunnel(), None);

    // An answer of the host changes nothing.
    proxy.get("http://site.test/").await;
    assert_eq!(proxy.egress.failed_page("http://site.test/"), None);
    assert_eq!(proxy.egress.failed_page("http://bad.test/a?b=c"), why(80));

    connect(&proxy, "bad.test:443").await;
    assert_eq!(proxy.egress.failed_tunnel(), why(443));
    assert_eq!(proxy.egress.failed_page("http://bad.test/a?b=c"), None);

    connect(&proxy, "missing.test:443").await;
    let why = Some("cannot resolve missing.test: no such host".to_owned());
    assert_eq!(proxy.egress.failed_tunnel(), why);
}
