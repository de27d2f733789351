//! Chromium, really started in a sandbox as for a session: is its own sandbox on, has it fonts?

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::programs::SETUP;
use crate::browser::{Browser, LaunchOptions};
use crate::cdp::ClientKind;
use crate::config::Config;
use crate::limits::Bytes;
use crate::runner::PROXY_PORT;
use crate::sandbox::{GroupLimits, Probe, Sandboxes, Space, SpaceSpec};

const SANDBOX: &str = "chromium-sandbox";
/// A character of each kind, and what pages in it look like without a font.
const FONTS: [(&str, &str, &str); 3] = [
    ("fonts", "a", "pages show no text"),
    (
        "fonts-cjk",
        "\u{4e2d}",
        "Chinese, Japanese and Korean text shows as boxes",
    ),
    ("fonts-emoji", "\u{1f600}", "emoji show as boxes"),
];
/// Draws it, and a character no font has; whether there is ink, and other ink.
const DRAW: &str = "(text) => {
    const draw = (text) => {
        const canvas = document.createElement('canvas');
        canvas.width = canvas.height = 64;
        const pen = canvas.getContext('2d');
        pen.font = '32px sans-serif';
        pen.fillText(text, 8, 48);
        return pen.getImageData(0, 0, 64, 64).data.join();
    };
    return draw(text) !== draw('') && draw(text) !== draw('\\u{f0f0f}');
}";

/// Its own sandbox, then the fonts; not reached without a spawner.
pub(super) async fn probe(config: &Config, sandboxes: Option<&Sandboxes>) -> Vec<Probe> {
    let not_reached = |why: &str| {
        let fonts = FONTS.iter().map(|(name, ..)| *name);
        fonts
            .map(|name| Probe::unknown(name, why))
            .collect::<Vec<_>>()
    };
    let Some(sandboxes) = sandboxes else {
        let why = "not reached: needs what is refused above";
        return [vec![Probe::unknown(SANDBOX, why)], not_reached(why)].concat();
    };
    match examine(config, sandboxes).await {
        Ok(probes) => probes,
        Err(error) => {
            let error = format!("no session opens: {error}");
            let failed = Probe::refused(SANDBOX, error, SETUP);
            [vec![failed], not_reached("not reached: needs chromium")].concat()
        }
    }
}

async fn examine(config: &Config, sandboxes: &Sandboxes) -> anyhow::Result<Vec<Probe>> {
    let space = sandboxes
        .create_space(SpaceSpec {
            scratch: Bytes::mib(16),
            scratch_inodes: 1000,
            browser_data: config.browser.data,
            browser_data_inodes: config.browser.data_inodes,
            limits: GroupLimits {
                memory: config.browser.memory,
                processes: config.browser.processes,
                cpu_percent: config.browser.cpu_percent,
            },
            runner_ports: Vec::new(),
            browser_ports: vec![PROXY_PORT],
        })
        .await?;
    let examined = in_space(config, &space).await;
    space.close().await?;
    examined
}

async fn in_space(config: &Config, space: &Space) -> anyhow::Result<Vec<Probe>> {
    let options = LaunchOptions {
        viewport: (800, 600),
        user_agent: None,
        proxy_port: PROXY_PORT,
    };
    let browser = Browser::launch(space, &config.browser, &config.cdp, &options).await?;
    let fonts = fonts(&browser).await;
    let sandbox = sandbox(&processes());
    browser.end().await;
    let mut probes = vec![sandbox];
    probes.extend(fonts?);
    Ok(probes)
}

async fn fonts(browser: &Browser) -> anyhow::Result<Vec<Probe>> {
    let client = browser.hub.client(ClientKind::Internal).await?;
    let session = client.attach(&browser.hub.active_page().target_id).await?;
    let mut probes = Vec::new();
    for (name, text, lost) in FONTS {
        let parameters = json!({
            "expression": format!("({DRAW})({})", json!(text)), "returnByValue": true,
        });
        let answer = client
            .call_raw(Some(&session), "Runtime.evaluate", &parameters)
            .await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        probes.push(match answer["result"]["value"].as_bool() {
            Some(true) => Probe::works(name, ""),
            Some(false) => Probe::degraded(name, lost, SETUP),
            None => anyhow::bail!("a page cannot draw text: {answer}"),
        });
    }
    Ok(probes)
}

/// What /proc says of one process below this one.
#[derive(Debug, Default)]
struct Process {
    parent: u32,
    arguments: String,
    /// seccomp filters it is under.
    filters: u32,
    /// Pid namespaces it is in, the host's too.
    depth: usize,
}

/// Every process that can be seen.
fn processes() -> BTreeMap<u32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim())
        };
        let process = Process {
            parent: field("PPid")?.parse().ok()?,
            arguments: String::from_utf8_lossy(&arguments).replace('\0', " "),
            filters: field("Seccomp_filters")?.parse().ok()?,
            depth: field("NSpid")?.split_whitespace().count(),
        };
        Some((pid, process))
    })
    .collect()
}

/// A renderer of ours has more filters than Chromium itself, which are Chromium's own, and is in a
/// pid namespace below Chromium's.
fn sandbox(all: &BTreeMap<u32, Process>) -> Probe {
    let ours = |pid: u32| {
        let mut at = pid;
        // Bounded, in case a pid was given anew while this was read.
        for _ in 0..all.len() {
            match all.get(&at) {
                Some(process) if process.parent == std::process::id() => return true,
                Some(process) => at = process.parent,
                None => return false,
            }
        }
        false
    };
    let find = |wanted: fn(&str) -> bool| {
        all.iter()
            .find(|(pid, process)| wanted(&process.arguments) && ours(**pid))
            .map(|(_, process)| process)
    };
    let main = find(|text| text.contains("--remote-debugging-pipe") && !text.contains("--type="));
    let renderer = find(|text| text.contains("--type=renderer"));
    let (Some(main), Some(renderer)) = (main, renderer) else {
        let why = "cannot look at its processes in /proc";
        return Probe::degraded(
            SANDBOX,
            why,
            "mount /proc without hidepid for the daemon's uid",
        );
    };
    if renderer.filters > main.filters && renderer.depth > main.depth {
        let (own, ours) = (renderer.filters - main.filters, main.filters);
        return Probe::works(
            SANDBOX,
            format!("renderer under {own} seccomp filters of its own, {ours} of ours"),
        );
    }
    let why = format!("the renderer is confined no more than Chromium itself: {renderer:?}");
    Probe::refused(SANDBOX, why, "report this")
}
