//! Redirects: every hop is a request of its own, and is judged as one.

use super::clients::{curl, goto, is_refused, node_fetch, urllib};
use super::world::{nothing_closed_was_reached, world};

/// A URL on `host` that redirects with `status` to `to`.
fn via(host: &str, status: u16, to: &str) -> String {
    let to: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
    format!("http://{host}/redirect?status={status}&to={to}")
}

#[tokio::test]
async fn chains_among_public_sites_are_followed() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let end = "https://v4.example/chain-end";
    let chain = via(
        "public.example",
        301,
        &via("other.example", 302, &via("v6.example", 307, end)),
    );
    let urls = [chain.as_str()];
    assert_eq!(goto(&session, &urls).await, ["200"]);
    assert_eq!(node_fetch(&session, &urls).await, ["200"]);
    assert_eq!(urllib(&session, &urls).await, ["200"]);
    assert_eq!(curl(&session, &urls).await, ["200"]);
    assert_eq!(world.sites().of_request("/chain-end").len(), 4);
    session.stop().await;
    nothing_closed_was_reached(world);
}

#[tokio::test]
async fn a_hop_to_a_closed_address_is_refused_on_that_hop() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let mut chains = Vec::new();
    for (to, rule) in [
        ("http://10.0.0.5/hop", "private-use 10.0.0.0/8"),
        (
            "http://169.254.169.254/latest/meta-data/hop",
            "metadata 169.254.169.254/32",
        ),
        ("http://0xa9fea9fe/hop", "metadata 169.254.169.254/32"),
        ("http://[::ffff:10.0.0.5]/hop", "ipv4-mapped ::ffff:0:0/96"),
        ("http://private.example/hop", "private-use 10.0.0.0/8"),
        ("http://host.example/hop", "host-address"),
        ("http://other.example:8080/hop", "port 8080"),
        ("https://10.0.0.5/hop", "private-use 10.0.0.0/8"),
        ("https://[fd00::5]/hop", "unique-local fc00::/7"),
    ] {
        chains.push((via("public.example", 302, to), rule));
        chains.push((
            via("public.example", 307, &via("other.example", 301, to)),
            rule,
        ));
    }
    let urls: Vec<&str> = chains.iter().map(|(url, _)| url.as_str()).collect();
    for (client, said) in [
        ("page", goto(&session, &urls).await),
        ("node", node_fetch(&session, &urls).await),
        ("python", urllib(&session, &urls).await),
        ("curl", curl(&session, &urls).await),
    ] {
        for ((url, rule), line) in chains.iter().zip(&said) {
            // urllib cannot write a CONNECT to an IPv6 address.
            let unable = client == "python" && url.contains("fd00") && line.contains("400");
            assert!(
                unable || is_refused(line, rule),
                "{client}, {url}, {rule}: {line}"
            );
        }
        assert_eq!(said[0], format!("403 {}", chains[0].1), "{client}");
    }
    session.stop().await;
    // (The sites that redirect were reached; their paths carry the rest in escaped form.)
    assert!(world.sites().of_request("/hop").is_empty());
    nothing_closed_was_reached(world);
}

/// A page moves on by itself: by meta refresh, by script, by a click.
#[tokio::test]
async fn a_page_that_moves_on_by_itself_is_refused_too() {
    let Some(world) = world() else { return };
    let session = world.client().open("about:blank").await;
    let to = "http://169.254.169.254/moved";
    let moves = [
        format!("<meta http-equiv=refresh content=\"0;url={to}\">"),
        format!("<script>location = '{to}'</script>"),
        format!("<script>onload = () => document.links[0].click()</script><a href='{to}'>x</a>"),
        format!(
            "<form action='{to}' method=post></form><script>document.forms[0].submit()</script>"
        ),
    ];
    for html in moves {
        let html: String = url::form_urlencoded::byte_serialize(html.as_bytes()).collect();
        let code = format!(
            "const [refused] = await Promise.all([
               page.waitForResponse((r) => r.url() === '{to}', {{ timeout: 60000 }}),
               page.goto('http://public.example/page?html={html}').catch(() => {{}}),
             ]);
             refused.status() + ' ' + refused.headers()['x-pagebox-egress']"
        );
        let said = session.node(&code).await;
        assert_eq!(said, "403 metadata 169.254.169.254/32", "{html}");
    }
    session.stop().await;
    assert!(world.sites().of_request("/moved").is_empty());
    nothing_closed_was_reached(world);
}
