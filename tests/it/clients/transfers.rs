//! What passes the proxy arrives as it was sent: long bodies either way, with and without a length,
//! compressed ones, answers of old servers, redirects, and many requests over one connection.

use pagebox::grpc::v1::Language::{self, Bash, Node, Python};

use super::net::{COUNTED, INSIDE, OLD_PORT, SITES, Shopper, TEXT, everything, net, noise};
use super::table::WAYS;
use crate::site::sha256;

/// Of a long body: longer than all buffers on its way together.
const LONG: usize = 3_000_000;

/// Code that gets `@SITE@/numbers/LONG` and prints its hash, then sends it to `@SITE@/sum`: with a length,
/// then in chunks.
const BOTH_WAYS: [(&str, Language, &str); 6] = [
    (
        "curl",
        Bash,
        "curl -sS -o /tmp/long @SITE@/numbers/3000000 && sha256sum </tmp/long\n\
         curl -sS --data-binary @/tmp/long @SITE@/sum; echo\n\
         curl -sS -T - @SITE@/sum </tmp/long",
    ),
    (
        "wget",
        Bash,
        "as=${SSL_CERT_FILE:+--ca-certificate=$SSL_CERT_FILE}\n\
         wget -q $as -O /tmp/long @SITE@/numbers/3000000 && sha256sum </tmp/long\n\
         wget -q $as -O - --post-file=/tmp/long @SITE@/sum; echo",
    ),
    (
        "requests",
        Python,
        "import hashlib, requests\n\
         long = requests.get('@SITE@/numbers/3000000').content\n\
         print(hashlib.sha256(long).hexdigest())\n\
         print(requests.post('@SITE@/sum', data=long).text)\n\
         parts = (long[at:at + 50_000] for at in range(0, len(long), 50_000))\n\
         print(requests.post('@SITE@/sum', data=parts).text)",
    ),
    (
        "httpx",
        Python,
        "import hashlib, httpx\n\
         seen = hashlib.sha256()\n\
         long = b''\n\
         with httpx.stream('GET', '@SITE@/numbers/3000000') as answer:\n\
         \x20   for part in answer.iter_bytes():\n\
         \x20       long += part\n\
         print(hashlib.sha256(long).hexdigest())\n\
         print(httpx.post('@SITE@/sum', content=long).text)\n\
         parts = (long[at:at + 50_000] for at in range(0, len(long), 50_000))\n\
         print(httpx.post('@SITE@/sum', content=parts).text)",
    ),
    (
        "fetch",
        Node,
        "const { createHash } = require('crypto'); \
         const long = Buffer.from(await (await fetch('@SITE@/numbers/3000000')).arrayBuffer()); \
         console.log(createHash('sha256').update(long).digest('hex')); \
         const send = async (options) => \
         console.log(await (await fetch('@SITE@/sum', { method: 'POST', ...options })).text()); \
         await send({ body: long }); await send({ body: new Blob([long]).stream(), duplex: 'half' })",
    ),
    (
        "http and https",
        Node,
        "const hash = require('crypto').createHash('sha256'); \
         const from = require(new URL('@SITE@').protocol.slice(0, -1)); \
         const read = (answer) => new Promise((end) => { const parts = []; \
         answer.on('data', (part) => parts.push(part)).on('end', () => end(Buffer.concat(parts))) }); \
         const ask = (path, options, write) => new Promise((end, fail) => write(from.request(\
         '@SITE@' + path, options, (answer) => end(read(answer))).on('error', fail))); \
         const whole = await ask('/numbers/3000000', {}, (request) => request.end()); \
         console.log(hash.update(whole).digest('hex')); \
         const headers = { 'content-length': whole.length }; \
         console.log(String(await ask('/sum', { method: 'POST', headers }, (r) => r.end(whole)))); \
         console.log(String(await ask('/sum', { method: 'POST' }, (request) => { \
         request.write(whole.subarray(0, 1000)); request.end(whole.subarray(1000)) })))",
    ),
];

#[tokio::test]
async fn long_bodies_arrive_whole_either_way() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    let hash = sha256(&noise(LONG));
    for (name, language, code) in BOTH_WAYS {
        for site in SITES {
            let said = shopper.good(language, &code.replace("@SITE@", site)).await;
            assert!(said.matches(&hash).count() >= 2, "{name} {site}: {said}");
            let sums = [
                format!("{LONG} {hash} length"),
                format!("{LONG} {hash} chunked"),
            ];
            // wget knows no other way.
            let sums = if name == "wget" { &sums[..1] } else { &sums };
            for sum in sums {
                assert!(said.contains(sum), "{name} {site}: no {sum} in {said}");
            }
        }
    }
    shopper.session.stop().await;
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    for site in SITES {
        let code = format!(
            "head -c 2000000 /dev/zero >/tmp/zeros; curl -sS -v --expect100-timeout 60 \
             -H 'Expect: 100-continue' --data-binary @/tmp/zeros {site}/sum"
        );
        let said = shopper.good(Bash, &code).await;
        assert!(said.contains("< HTTP/1.1 100 Continue"), "{site}: {said}");
        assert!(said.contains("2000000 "), "{site}: {said}");
    }
    // Who is refused is told so instead, and sends nothing.
    let code = format!(
        "curl -sS -v --expect100-timeout 60 -H 'Expect: 100-continue' --data-binary @/tmp/zeros \
         http://{INSIDE}/sum"
    );
    let said = everything(&shopper.run(Bash, &code).await);
    assert!(
        said.contains("< HTTP/1.1 403 Forbidden: private-use"),
        "{said}"
    );
    assert!(!said.contains("100 Continue"), "{said}");
    shopper.session.stop().await;
}

#[tokio::test]
async fn old_servers_and_chunked_answers_are_read_by_every_client() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    let old = format!("{}:{OLD_PORT}/", SITES[0]);
    let pieces = SITES.map(|site| (format!("{site}/pieces"), "one two three"));
    for way in WAYS {
        for (url, text) in [(old.clone(), "old times")].iter().chain(&pieces) {
            let code = way.code.replace("@URL@", url);
            let said = shopper.good(way.language, &code).await;
            assert!(said.contains(text), "{} {url}: {said}", way.name);
        }
    }
    shopper.session.stop().await;
}

#[tokio::test]
async fn compressed_answers_are_left_to_the_client() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    for site in SITES {
        for (language, code) in [
            (Bash, "curl -sS --compressed @SITE@/gzip"),
            (Bash, "curl -sS @SITE@/gzip | gzip -dc"),
            (Python, "import requests\nrequests.get('@SITE@/gzip').text"),
            (Python, "import httpx\nhttpx.get('@SITE@/gzip').text"),
            (
                Python,
                "import gzip, urllib.request\n\
                 gzip.decompress(urllib.request.urlopen('@SITE@/gzip').read()).decode()",
            ),
            (Node, "await (await fetch('@SITE@/gzip')).text()"),
        ] {
            let said = shopper.good(language, &code.replace("@SITE@", site)).await;
            assert!(said.contains(TEXT), "{code} {site}: {said}");
        }
    }
    shopper.session.stop().await;
}

#[tokio::test]
async fn redirects_lead_to_other_schemes_and_are_checked_again() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    let elsewhere = format!("{}/redirect?status=307&to={}/there", SITES[0], SITES[1]);
    let inside = format!("{}/redirect?to=http://{INSIDE}/", SITES[1]);
    for (language, code) in [
        (Bash, "curl -sS -L '@URL@'"),
        (
            Bash,
            "wget -nv -t 1 --ca-certificate=$SSL_CERT_FILE -O - '@URL@'",
        ),
        (Python, "import requests\nrequests.get('@URL@').text"),
        (
            Python,
            "import httpx\nhttpx.get('@URL@', follow_redirects=True).text",
        ),
        (
            Python,
            "import urllib.request\nurllib.request.urlopen('@URL@').read().decode()",
        ),
        (Node, "await (await fetch('@URL@')).text()"),
        (Node, "await (await page.request.get('@URL@')).text()"),
    ] {
        let said = shopper
            .good(language, &code.replace("@URL@", &elsewhere))
            .await;
        assert!(said.contains("reached 93.184.216.60:443"), "{code}: {said}");
        let reply = shopper.run(language, &code.replace("@URL@", &inside)).await;
        let said = everything(&reply);
        assert!(said.contains("private-use 10.0.0.0/8"), "{code}: {said}");
        assert!(!said.contains("reached"), "{code}: {said}");
    }
    // A body goes along.
    let code = format!(
        "import requests\nrequests.post('{}/redirect?status=307&to={}/sum', data='tide').text",
        SITES[0], SITES[1]
    );
    let said = shopper.good(Python, &code).await;
    let sum = format!("4 {} length", sha256(b"tide"));
    assert!(said.contains(&sum), "{said}");
    shopper.session.stop().await;
}

#[tokio::test]
async fn many_requests_of_a_client_take_one_connection() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    let connections = || {
        let all = world.sites().connections();
        all.iter()
            .filter(|to| to.ip().to_string() == COUNTED)
            .count()
    };
    for (name, language, code) in [
        ("curl", Bash, "curl -sS '@URL@/[1-5]'"),
        (
            "wget",
            Bash,
            "wget -q --ca-certificate=$SSL_CERT_FILE -O - @URL@/{1..5}",
        ),
        (
            "requests",
            Python,
            "import requests\nwith requests.Session() as session:\n    \
             ''.join(session.get('@URL@').text for _ in range(5))",
        ),
        (
            "httpx",
            Python,
            "import httpx\nwith httpx.Client() as client:\n    \
             ''.join(client.get('@URL@').text for _ in range(5))",
        ),
        (
            "fetch",
            Node,
            "for (let i = 0; i < 5; i++) await (await fetch('@URL@')).text()",
        ),
        (
            "http and https",
            Node,
            "const by = require(new URL('@URL@').protocol.slice(0, -1)); \
             const agent = new by.Agent({ keepAlive: true, maxSockets: 1 }); \
             for (let i = 0; i < 5; i++) await new Promise((end, fail) => \
             by.get('@URL@', { agent }, (answer) => answer.on('end', end).resume()).on('error', fail))",
        ),
    ] {
        for scheme in ["http", "https"] {
            let before = connections();
            let url = format!("{scheme}://counted.sites.example");
            shopper.good(language, &code.replace("@URL@", &url)).await;
            // undici takes a second one when asked again before it has put the first back.
            let most = if name == "fetch" { 2 } else { 1 };
            let made = connections() - before;
            assert!((1..=most).contains(&made), "{name} {scheme}: {made}");
        }
    }
    shopper.session.stop().await;
}
