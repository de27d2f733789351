//! What each language's runner is: its image, program and environment.

use crate::execution::Language;

use super::{CDP_PORT, PROXY_PORT};

/// Directory every runner starts in; part of the scratch.
pub(super) const WORKSPACE: &str = "/workspace";

const NODE: &str = "/usr/local/bin/node";

const NODE_PRELOAD: &str = "--import=/opt/pagebox/runners/node/proxy-preload.mjs";

/// For every program in Python.
const PYTHON: [(&str, &str); 3] = [
    // Playwright's driver: the same binary as the node runner's, so its pages are shared.
    ("PLAYWRIGHT_NODEJS_PATH", NODE),
    // Debian's pip refuses to install anything; here there is no system to break.
    ("PIP_BREAK_SYSTEM_PACKAGES", "1"),
    ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
];

/// Name of the image a language runs in.
pub(super) fn image(language: Language) -> &'static str {
    language.as_str()
}

/// The program of a language's runner and its arguments, as paths inside its sandbox.
#[must_use]
pub fn argv(language: Language) -> Vec<String> {
    let argv: &[&str] = match language {
        Language::Node => &[
            NODE,
            "--no-warnings",
            "/opt/pagebox/runners/node/runner.mjs",
        ],
        Language::Python => &[
            "/usr/bin/python3",
            "-I",
            "-B",
            "-u",
            "-X",
            "utf8",
            "/opt/pagebox/runners/python/runner.py",
        ],
        Language::Bash => &["/bin/bash", "/opt/pagebox/runners/bash/runner.sh"],
    };
    argv.iter().map(|&part| part.to_owned()).collect()
}

/// The whole environment of a runner.
pub(super) fn env(language: Language, cdp_url: &str) -> Vec<(String, String)> {
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let local = "localhost,127.0.0.1,::1";
    let mut env = vec![
        ("PATH", path(language)),
        ("HOME", WORKSPACE),
        ("USER", "pagebox"),
        ("LANG", "C.UTF-8"),
        ("TMPDIR", "/tmp"),
        ("CDP_URL", cdp_url),
        ("HTTP_PROXY", &proxy),
        ("HTTPS_PROXY", &proxy),
        ("NO_PROXY", local),
        ("http_proxy", &proxy),
        ("https_proxy", &proxy),
        ("no_proxy", local),
    ];
    match language {
        Language::Node => {}
        Language::Python => env.extend(PYTHON),
        Language::Bash => env.extend(PYTHON.into_iter().chain([
            // `fetch`, `http` and `https` of a node program take the proxy, which Node 20 cannot.
            ("NODE_OPTIONS", NODE_PRELOAD),
            // `npm install -g` goes where the user may write, and nothing asks for a newer npm.
            ("NPM_CONFIG_PREFIX", "/workspace/.local"),
            ("NPM_CONFIG_UPDATE_NOTIFIER", "false"),
            ("AGENT_BROWSER_SOCKET_DIR", super::agent::SOCKET_DIR),
            ("AGENT_BROWSER_SCREENSHOT_DIR", "/tmp"),
            ("AGENT_BROWSER_NO_VERSION_CHECK", "1"),
        ])),
    }
    env.into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn path(language: Language) -> &'static str {
    // With the programs that pip and npm install.
    match language {
        Language::Node | Language::Python => "/workspace/.local/bin:/usr/local/bin:/usr/bin:/bin",
        Language::Bash => {
            "/opt/pagebox/runners/bash/bin:/workspace/.local/bin:/usr/local/bin:/usr/bin:/bin"
        }
    }
}

/// The CDP endpoint as a client with this token reaches it from inside.
pub(super) fn cdp_url(token: &str) -> String {
    format!("ws://127.0.0.1:{CDP_PORT}/devtools/browser/{token}")
}
