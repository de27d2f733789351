//! Servers of the session's own code, which every client finds without the proxy.

use pagebox::grpc::v1::Language::{Bash, Node};

use super::net::{Shopper, net};
use super::table::WAYS;

/// Where the code's server listens, on every address of the sandboxes.
const PORT: u16 = 4711;

#[tokio::test]
async fn every_client_finds_the_sessions_own_servers() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    let serve = format!(
        "const server = require('http').createServer((_, to) => to.end('its own')); \
         await new Promise((up) => server.listen({PORT}, '::', up))"
    );
    shopper.good(Node, &serve).await;
    for way in WAYS {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            // urllib would know `[::1]` in NO_PROXY only in brackets, with which httpx fails altogether.
            if way.name == "urllib" && host == "[::1]" {
                continue;
            }
            let url = format!("http://{host}:{PORT}/");
            let said = shopper
                .good(way.language, &way.code.replace("@URL@", &url))
                .await;
            assert!(said.contains("its own"), "{} {url}: {said}", way.name);
        }
    }
    shopper.session.stop().await;
}

#[tokio::test]
async fn the_way_to_the_sessions_own_servers_is_a_direct_one() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    let serve = format!(
        "const server = require('http').createServer((_, to) => to.end('its own')); \
         await new Promise((up) => server.listen({PORT}, '::', up)); \
         const seen = []; for (const host of ['localhost', '127.0.0.1', '[::1]']) \
         await new Promise((end, fail) => require('http').get(`http://${{host}}:{PORT}/`, (answer) => \
         {{ seen.push(answer.socket.remotePort); answer.on('end', end).resume() }}).on('error', fail)); \
         seen.join()"
    );
    let said = shopper.good(Node, &serve).await;
    assert!(said.contains("4711,4711,4711"), "{said}");
    // With a proxy that does not answer, whoever asked it would fail.
    let dead = "export HTTP_PROXY=http://127.0.0.1:9 http_proxy=http://127.0.0.1:9";
    for way in WAYS.iter().filter(|way| way.language == Bash) {
        let url = format!("http://localhost:{PORT}/");
        let code = format!("{dead}\n{}", way.code.replace("@URL@", &url));
        let said = shopper.good(Bash, &code).await;
        assert!(said.contains("its own"), "{}: {said}", way.name);
    }
    shopper.session.stop().await;
}

#[tokio::test]
async fn git_npm_and_pip_fetch_from_the_sessions_own_servers() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    let code = format!(
        "set -e; mkdir -p site/simple/shell made/package; cd made\n\
         git init -q repo; cd repo; echo kelp >README; git add README\n\
         git -c user.name=a -c user.email=a@b commit -qm one\n\
         cd ..; git clone -q --bare repo ../site/repo.git; git -C ../site/repo.git update-server-info\n\
         echo '{{\"name\":\"shell\",\"version\":\"1.0.0\"}}' >package/package.json\n\
         echo 'module.exports = \"conch\"' >package/index.js; tar czf ../site/shell-1.0.0.tgz package\n\
         cd ../site; echo '{{\"name\":\"shell\",\"dist-tags\":{{\"latest\":\"1.0.0\"}},\"versions\":{{\"1.0.0\":\
         {{\"name\":\"shell\",\"version\":\"1.0.0\",\"dist\":{{\"tarball\":\"http://localhost:{PORT}/shell-1.0.0.tgz\"\
         }}}}}}}}' >shell\n\
         python -m http.server -b 127.0.0.1 {PORT} >/dev/null 2>&1 &\n\
         cd; until curl -sf http://localhost:{PORT}/ >/dev/null; do sleep 0.1; done\n\
         git clone -q http://localhost:{PORT}/repo.git got; cat got/README\n\
         npm install --registry http://localhost:{PORT}/ shell >/dev/null; node -p 'require(\"shell\")'\n\
         pip download -i http://localhost:{PORT}/simple/ shell 2>&1 || true"
    );
    let said = shopper.good(Bash, &code).await;
    assert!(said.contains("kelp\nconch\n"), "{said}");
    // The index was read; it is empty.
    assert!(said.contains("No matching distribution found"), "{said}");
    assert!(!said.contains("WARNING: Retrying"), "{said}");
    shopper.session.stop().await;
}
