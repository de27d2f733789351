//! Chromium's command line and environment.
//!
//! `--no-sandbox` is not here and never will be; nor is any debugging port.

use crate::sandbox::Sandbox;

use super::LaunchOptions;

/// Features that talk to the network on their own, or need a desktop; `RenderDocument`, with
/// which a page that opens dialogs all the time can navigate into a state where none of them can be
/// closed any more, and the next client that leaves it crashes the whole browser; and the renderer that
/// stands by for the next site, 9 MiB of every browser for some 15 ms of a page on another site.
const DISABLED_FEATURES: &str = "AcceptCHFrame,AutofillServerCommunication,\
CertificateTransparencyComponentUpdater,DialMediaRouteProvider,GlobalMediaControls,\
HttpsUpgrades,MediaRouter,NetworkTimeServiceQuerying,OptimizationHints,PaintHolding,\
RenderDocument,SpareRendererForSitePerProcess,Translate";

/// What every browser is started with.
const FIXED: [&str; 30] = [
    "--headless",
    "--remote-debugging-pipe",
    // A tmpfs of its own: neither the code nor another session can read it.
    "--user-data-dir=/browser/profile",
    "--disk-cache-dir=/browser/cache",
    "--disable-dev-shm-usage",
    // Headless shell has it off: a frame of another site would share the page's process, and a
    // renderer that is taken over would hold the data of both.
    "--site-per-process",
    // Without this, loopback addresses bypass the proxy.
    "--proxy-bypass-list=<-loopback>",
    "--disable-quic",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--dns-prefetch-disable",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-client-side-phishing-detection",
    "--disable-component-extensions-with-background-pages",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-domain-reliability",
    "--disable-sync",
    "--metrics-recording-only",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-pings",
    "--password-store=basic",
];

/// The arguments after the program.
pub(super) fn flags(options: &LaunchOptions) -> Vec<String> {
    let (width, height) = options.viewport;
    let mut flags: Vec<String> = FIXED.iter().map(|&flag| flag.to_owned()).collect();
    flags.push(format!("--disable-features={DISABLED_FEATURES}"));
    flags.push(format!(
        "--proxy-server=http://127.0.0.1:{}",
        options.proxy_port
    ));
    flags.push(format!("--window-size={width},{height}"));
    if let Some(user_agent) = &options.user_agent {
        flags.push(format!("--user-agent={user_agent}"));
    }
    flags.push("about:blank".to_owned());
    flags
}

/// The whole environment.
pub(super) fn env() -> Vec<(String, String)> {
    [
        ("HOME", "/browser"),
        ("XDG_CONFIG_HOME", "/browser"),
        ("XDG_CACHE_HOME", "/browser"),
        ("TMPDIR", "/browser"),
        ("LANG", "C.UTF-8"),
        ("PATH", "/usr/bin:/bin"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// Chromium logs page content to stderr; nobody may see that. The read ends are kept open and
/// emptied, so that it never blocks or gets SIGPIPE.
pub(super) fn discard_output(sandbox: &mut Sandbox) {
    for fd in [sandbox.stdout.take(), sandbox.stderr.take()]
        .into_iter()
        .flatten()
    {
        let Ok(mut pipe) = tokio::net::unix::pipe::Receiver::from_owned_fd(fd) else {
            continue;
        };
        tokio::spawn(async move {
            // Ends with the browser: its end of the pipe closes.
            let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dangerous_flags_are_absent_and_the_needed_ones_there() {
        let flags = flags(&LaunchOptions {
            viewport: (800, 600),
            user_agent: Some("Mozilla/5.0 (test)".into()),
            proxy_port: 3128,
        });
        let all = flags.join("\n");
        for banned in [
            "no-sandbox",
            "remote-debugging-port",
            "remote-debugging-address",
        ] {
            assert!(!all.contains(banned), "{banned}");
        }
        for needed in [
            "--remote-debugging-pipe",
            "--proxy-server=http://127.0.0.1:3128",
            "--proxy-bypass-list=<-loopback>",
            "--site-per-process",
            "--disable-quic",
            "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
            "--dns-prefetch-disable",
            "--disable-background-networking",
            "--window-size=800,600",
            "--user-agent=Mozilla/5.0 (test)",
        ] {
            assert!(flags.iter().any(|flag| flag == needed), "{needed}");
        }
    }
}
