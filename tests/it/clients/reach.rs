//! By name over http and https; and what each client says of a refusal.

use pagebox::grpc::v1::Language;

use super::net::{INSIDE, SITES, Shopper, everything, net};
use super::table::WAYS;

#[tokio::test]
async fn every_client_reaches_public_names_over_http_and_https() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    for way in WAYS {
        for site in SITES {
            let url = format!("{site}/as/{}", way.name.replace([' ', ',', '.', '\''], "-"));
            let said = shopper
                .good(way.language, &way.code.replace("@URL@", &url))
                .await;
            let port = if site.starts_with("https") { 443 } else { 80 };
            let reached = format!("reached 93.184.216.60:{port} as shop.sites.example");
            assert!(said.contains(&reached), "{} {site}: {said}", way.name);
        }
    }
    shopper.session.stop().await;
}

#[tokio::test]
async fn every_client_checks_certificates() {
    let Some(world) = net() else { return };
    let session = world.client().open("about:blank").await;
    for way in WAYS.iter().filter(|way| !way.trusts_all) {
        let code = way.code.replace("@URL@", SITES[1]);
        let reply = session.exec(way.language, &code).await;
        let said = everything(&reply).to_lowercase();
        assert!(!reply.success, "{}: {said}", way.name);
        assert!(said.contains("certificate"), "{}: {said}", way.name);
    }
    session.stop().await;
}

#[tokio::test]
async fn every_client_shows_the_rule_that_refused() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    let private = "private-use 10.0.0.0/8";
    for way in WAYS {
        for (url, rule) in [
            (format!("http://{INSIDE}/"), private),
            (format!("https://{INSIDE}/"), private),
            ("http://10.0.0.5/".to_owned(), private),
            (format!("{}:6379/", SITES[0]), "port 6379"),
            (format!("{}:6379/", SITES[1]), "port 6379"),
        ] {
            let reply = shopper
                .run(way.language, &way.code.replace("@URL@", &url))
                .await;
            let said = everything(&reply);
            assert!(said.contains(rule), "{} {url}: {said}", way.name);
            assert!(!said.contains("reached"), "{} {url}: {said}", way.name);
            // What the proxy answers itself over https is a failure to every client.
            assert!(
                url.starts_with("http:") || !reply.success,
                "{} {url}: {said}",
                way.name
            );
        }
    }
    assert!(
        !world
            .sites()
            .connections()
            .iter()
            .any(|to| to.ip().to_string() == "10.0.0.5"),
        "a refused address was connected to"
    );
    shopper.session.stop().await;
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_told_by_every_client() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    for way in WAYS {
        let url = "https://nowhere.sites.example/";
        let reply = shopper
            .run(way.language, &way.code.replace("@URL@", url))
            .await;
        let said = everything(&reply);
        assert!(!reply.success, "{}: {said}", way.name);
        let why = "cannot resolve nowhere.sites.example: no such host";
        assert!(said.contains(why), "{}: {said}", way.name);
    }
    shopper.session.stop().await;
}

#[tokio::test]
async fn agent_browser_opens_public_names_and_is_told_of_refusals() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    let open = format!(
        "agent-browser open {}/ && agent-browser get text body",
        SITES[0]
    );
    let said = shopper.good(Language::Bash, &open).await;
    let reached = "reached 93.184.216.60:80 as shop.sites.example";
    assert!(said.contains(reached), "{said}");
    let open = format!("agent-browser open http://{INSIDE}/ && agent-browser get text body");
    let said = everything(&shopper.run(Language::Bash, &open).await);
    assert!(said.contains("private-use 10.0.0.0/8"), "{said}");
    shopper.session.stop().await;
}

/// Without a variable that names one, programs trust whom the host trusts.
#[tokio::test]
async fn the_hosts_certificates_are_where_openssl_looks() {
    let Some(world) = net() else { return };
    let session = world.client().open("about:blank").await;
    let code =
        "import ssl\npaths = ssl.get_default_verify_paths()\nbool(paths.cafile or paths.capath)";
    assert_eq!(session.python(code).await, "true");
    let code = "python3 -c 'import ssl; paths = ssl.get_default_verify_paths(); \
                print(bool(paths.cafile or paths.capath))'; grep -c BEGIN /etc/ssl/certs/ca-certificates.crt";
    let said = session.bash(code).await;
    let (paths, count) = said.split_once('\n').unwrap();
    assert_eq!(paths, "True");
    assert!(count.parse::<u32>().unwrap() > 50, "{count}");
    // The host's keys are not among it.
    let reply = session.exec(Language::Bash, "ls /etc/ssl/private").await;
    assert_ne!(reply.exit_code, 0);
    session.stop().await;
}
