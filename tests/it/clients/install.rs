//! `git clone`, `npm install` and `pip install` from real servers, and who can use what they installed.

use pagebox::grpc::v1::Language::{Bash, Node, Python};

use super::net::{INSIDE, SITES, Shopper, everything, net};
use super::packages::{PACKAGE, README, SAYS};

#[tokio::test]
async fn git_clones_over_http_and_https() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    for site in SITES {
        let code =
            format!("rm -rf shore; git clone --quiet {site}/git/shore.git && cat shore/README");
        let said = shopper.good(Bash, &code).await;
        assert!(said.contains(README), "{said}");
        let code = "cd shore && git fetch && git log --format=%s";
        let said = shopper.good(Bash, code).await;
        assert!(said.contains("first"), "{said}");
    }
    // git shows the text of an http answer, and of a refused tunnel what curl says.
    let reply = shopper
        .run(Bash, &format!("git clone http://{INSIDE}/x"))
        .await;
    let said = everything(&reply);
    assert_eq!(reply.exit_code, 128, "{said}");
    let why = "refused by rule \"private-use 10.0.0.0/8\": inside.sites.example:80";
    assert!(said.contains(why), "{said}");
    let code = format!("git clone https://{INSIDE}/x");
    let reply = shopper.run(Bash, &code).await;
    let said = everything(&reply);
    assert_eq!(reply.exit_code, 128, "{said}");
    assert!(
        said.contains("CONNECT tunnel failed, response 403"),
        "{said}"
    );
    let said = everything(
        &shopper
            .run(Bash, &format!("GIT_CURL_VERBOSE=1 {code}"))
            .await,
    );
    assert!(
        said.contains("403 Forbidden: private-use 10.0.0.0/8"),
        "{said}"
    );
    shopper.session.stop().await;
}

#[tokio::test]
async fn what_npm_installs_is_there_for_node() {
    let Some(world) = net() else { return };
    for site in SITES {
        let shopper = Shopper::new(world).await;
        let install = format!("npm install --registry {site}/npm/ {PACKAGE}");
        let said = shopper.good(Bash, &install).await;
        assert!(said.contains("added 2 packages"), "{said}");
        let ask =
            format!("node -e 'console.log(require(\"{PACKAGE}\").say())'; npx --no {PACKAGE}");
        assert_eq!(shopper.session.bash(&ask).await, format!("{SAYS}\n{SAYS}"));
        for ask in [
            format!("require('{PACKAGE}').say()"),
            format!("import tide from '{PACKAGE}'; tide.say()"),
        ] {
            assert_eq!(shopper.session.node(&ask).await, SAYS, "{ask}");
        }
        // A project elsewhere, and a program for all.
        let code = format!(
            "mkdir -p /tmp/one/two && cd /tmp/one && npm init -y >/dev/null && cd two && \
             npm install --registry {site}/npm/ {PACKAGE} >/dev/null && ls /tmp/one && \
             npm install -g --registry {site}/npm/ {PACKAGE} >/dev/null && {PACKAGE}"
        );
        let said = shopper.good(Bash, &code).await;
        let files = "node_modules\npackage-lock.json\npackage.json\ntwo";
        assert!(said.contains(&format!("{files}\n{SAYS}\n")), "{said}");
        shopper.session.stop().await;
    }
}

#[tokio::test]
async fn npm_says_which_rule_refused() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    for scheme in ["http", "https"] {
        let code = format!("npm install --registry {scheme}://{INSIDE}/ {PACKAGE}");
        let reply = shopper.run(Bash, &code).await;
        let said = everything(&reply);
        assert_ne!(reply.exit_code, 0, "{said}");
        let why = "403 Forbidden: private-use 10.0.0.0/8 - GET";
        assert!(said.contains(why), "{said}");
    }
    shopper.session.stop().await;
}

#[tokio::test]
async fn what_pip_installs_is_there_for_python() {
    let Some(world) = net() else { return };
    let ask = format!("import {PACKAGE}\n{PACKAGE}.say()");
    for site in SITES {
        let shopper = Shopper::new(world).await;
        // The context is there before the package is.
        let reply = shopper.run(Python, &ask).await;
        assert_eq!(reply.error.unwrap().name, "ModuleNotFoundError");
        // pip takes no index over http for safe, unless told to.
        let install = format!(
            "pip install --trusted-host shop.sites.example -i {site}/simple/ {PACKAGE} && {PACKAGE}"
        );
        let install = match site.starts_with("https") {
            true => install.replace("--trusted-host shop.sites.example ", ""),
            false => install,
        };
        let said = shopper.good(Bash, &install).await;
        assert!(said.contains(&format!("\n{SAYS}\n")), "{said}");
        assert_eq!(shopper.session.python(&ask).await, SAYS);
        let mut fresh = shopper.session.options(Python, &ask);
        fresh.fresh = true;
        let reply = shopper.session.run(fresh).await;
        assert_eq!(reply.result.as_deref(), Some(SAYS));
        shopper.session.stop().await;
    }
}

#[tokio::test]
async fn pip_works_in_every_way_it_is_called() {
    let Some(world) = net() else { return };
    let shopper = Shopper::new(world).await;
    let index = format!("-i {}/simple/", SITES[1]);
    let say = format!("-c 'import {PACKAGE}; print({PACKAGE}.say())'");
    for code in [
        format!("pip3 install --user {index} {PACKAGE} && python3 {say}"),
        format!("pip uninstall -y {PACKAGE}"),
        format!("python3 -m pip install {index} {PACKAGE} && python {say}"),
        format!("pip uninstall -y {PACKAGE}"),
        format!(
            "python -m venv own && own/bin/pip install {index} {PACKAGE} && own/bin/python {say}"
        ),
    ] {
        let said = shopper.good(Bash, &code).await;
        assert!(
            code.contains("uninstall") || said.contains(SAYS),
            "{code}: {said}"
        );
    }
    let said = everything(&shopper.run(Bash, &format!("python {say}")).await);
    assert!(said.contains("ModuleNotFoundError"), "{said}");
    // From a running python, as scripts do it.
    let code = format!(
        "import subprocess, sys\n\
         subprocess.run([sys.executable, '-m', 'pip', 'install', *'{index} {PACKAGE}'.split()], check=True)\n\
         import {PACKAGE}\n{PACKAGE}.say()"
    );
    let reply = shopper.run(Python, &code).await;
    assert_eq!(
        reply.result.as_deref(),
        Some(SAYS),
        "{}",
        everything(&reply)
    );
    for scheme in ["http", "https"] {
        let code = format!(
            "pip -vv install --retries 1 --trusted-host {INSIDE} -i {scheme}://{INSIDE}/simple/ other"
        );
        let reply = shopper.run(Bash, &code).await;
        let said = everything(&reply);
        assert_eq!(reply.exit_code, 1, "{said}");
        assert!(said.contains("private-use 10.0.0.0/8"), "{said}");
    }
    shopper.session.stop().await;
}

#[tokio::test]
async fn the_users_packages_win_over_those_that_come_with_python() {
    let Some(world) = net() else { return };
    let session = world.client().open("about:blank").await;
    assert_eq!(
        session
            .python("import idna\nidna.__file__.split('/')[1]")
            .await,
        "usr"
    );
    session
        .bash(
            "mkdir -p ~/.local/lib/python3.*/ 2>/dev/null; \
             at=$(python3 -m site --user-site); mkdir -p \"$at\"; echo \"mine = True\" >\"$at/httpx.py\"; \
             echo /workspace/extra >\"$at/extra.pth\"; mkdir extra; echo 'here = 1' >extra/tidal.py",
        )
        .await;
    assert_eq!(session.python("import httpx\nhttpx.mine").await, "true");
    assert_eq!(session.python("import tidal\ntidal.here").await, "1");
    assert_eq!(
        session
            .bash("python -c 'import httpx, tidal; print(httpx.mine)'")
            .await,
        "True"
    );
    // Node has nothing of it to fear.
    assert_eq!(
        session.good(Node, "1 + 1").await.result.as_deref(),
        Some("2")
    );
    session.stop().await;
}
