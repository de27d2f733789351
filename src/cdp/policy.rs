//! What a client may ask of the browser: pure, one decision per request.
//!
//! The same table holds for every session depth, since sessions of pages take browser-wide methods
//! too. It keeps clients of one browser from breaking each other and from stepping round the hub.
//! It is no boundary against the host: that is the browser's sandbox, which holds no file worth
//! reading (a page under `file:` may link to another one without asking here).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Config;
use super::heavy::{self, Recording};
use super::message::code;

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Pass it on.
    Forward,
    /// Pass it on with these parameters in the place of the client's.
    Instead(Vec<u8>),
    /// Pass it on; when answered, the session it names is the client's.
    Attach,
    /// Pass it on; then the client sees targets, the active page first.
    Enumerate,
    /// Pass it on; the answer lists targets: the active page first.
    ListTargets,
    /// Pass it on; the answer names a browser context, whose downloads the hub takes over.
    CreateContext,
    /// Pass it on; the target it names becomes the active page.
    Activate(String),
    /// Pass it on; the page of its session becomes the active page.
    BringToFront,
    /// Pass it on; the target it names closes.
    CloseTarget(String),
    /// Pass it on; the page of its session closes.
    ClosePage,
    /// Pass it on; its session is no longer paused.
    Resume,
    /// Pass it on; it may take long.
    Capture,
    /// Pass it on, with these parameters if there are any; it goes on until it is ended.
    Record(Recording, Option<Vec<u8>>),
    /// Answer with success, then disconnect this client.
    Close,
    /// Answer with success and remember.
    Downloads(DownloadBehavior),
}

/// A client's wish for downloads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DownloadBehavior {
    /// `deny`, `allow`, `allowAndName` or `default`.
    pub(crate) behavior: Behavior,
    /// The browser context; none for the default one.
    pub(crate) browser_context_id: Option<String>,
    /// Where the client looks for files.
    pub(crate) download_path: Option<PathBuf>,
    /// Whether it wants `Browser.download…` events.
    #[serde(default)]
    pub(crate) events_enabled: bool,
}

/// What becomes of a download, in a client's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Behavior {
    /// It is cancelled.
    Deny,
    /// It lies under its suggested name.
    Allow,
    /// It lies under its guid.
    AllowAndName,
    /// The client does not care.
    Default,
}

/// Why a request is not passed on; becomes a CDP error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A JSON-RPC error code.
    pub(crate) code: i64,
    /// For the author of the client.
    pub(crate) message: String,
}

fn refuse<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        code: code::SERVER,
        message: message.into(),
    })
}

/// Browser-wide domains of which only these methods pass.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "Browser",
        &[
            "cancelDownload",
            "close",
            "getHistogram",
            "getHistograms",
            "getVersion",
            "getWindowBounds",
            "getWindowForTarget",
            "grantPermissions",
            "resetPermissions",
            "setContentsSize",
            "setDownloadBehavior",
            "setPermission",
            "setWindowBounds",
        ],
    ),
    (
        "Target",
        &[
            "activateTarget",
            "attachToBrowserTarget",
            "attachToTarget",
            "autoAttachRelated",
            "closeTarget",
            "createBrowserContext",
            "createTarget",
            "detachFromTarget",
            "disposeBrowserContext",
            "getBrowserContexts",
            "getTargetInfo",
            "getTargets",
            "setAutoAttach",
            "setDiscoverTargets",
        ],
    ),
    // `getInfo` answers with the browser's whole command line.
    ("SystemInfo", &["getFeatureState", "getProcessInfo"]),
    ("Cast", &[]),
    ("Extensions", &[]),
    ("PWA", &[]),
    ("Tethering", &[]),
];

/// Longest request body an event tells, in bytes. Chromium's own default is "all of it", twice and
/// escaped, to every client: one upload of 60 MB from a page made 400 MB of events for each of them,
/// which no browser's memory limit holds. Clients that want more ask `Network.getRequestPostData`.
const POST_DATA_TOLD: u64 = 4 << 20;

/// What a width or height is taken for that a request leaves as it is, in pixels.
const SIZE_UNKNOWN: f64 = 1000.0;

/// Methods of other domains that do not pass. The first stops a page's timers for every client, and
/// they stay stopped when the client has gone; the others crash the page they are sent to.
const REFUSED: &[&str] = &[
    "Emulation.setVirtualTimePolicy",
    "Memory.prepareForLeakDetection",
    "Page.crash",
];

/// Decides on one request. `params` is the JSON text; `allowed` says which files code may name.
pub(crate) fn check(
    method: &str,
    params: Option<&[u8]>,
    config: &Config,
    allowed: &dyn Fn(&Path) -> bool,
) -> Result<Verdict, Refusal> {
    if !passes(method) {
        return refuse(format!("{method} is not allowed here"));
    }
    let params = params.unwrap_or(b"{}");
    match method {
        "Browser.close" => Ok(Verdict::Close),
        "Browser.setDownloadBehavior" => Ok(Verdict::Downloads(read(method, params)?)),
        "Page.setDownloadBehavior" => {
            let wish: DownloadBehavior = read(method, params)?;
            // The page's form has no context and no events.
            Ok(Verdict::Downloads(DownloadBehavior {
                browser_context_id: None,
                ..wish
            }))
        }
        "Target.attachToBrowserTarget" => Ok(Verdict::Attach),
        "Target.attachToTarget" => {
            flat(method, read::<Flatten>(method, params)?.flatten)?;
            Ok(Verdict::Attach)
        }
        "Target.setAutoAttach" => {
            let asked: Flatten = read(method, params)?;
            if asked.auto_attach {
                flat(method, asked.flatten)?;
            }
            Ok(Verdict::Enumerate)
        }
        "Target.setDiscoverTargets" => Ok(Verdict::Enumerate),
        "Target.getTargets" => Ok(Verdict::ListTargets),
        "Target.createBrowserContext" => {
            let asked: Context = read(method, params)?;
            if !blank(asked.proxy_server.as_deref()) || !blank(asked.proxy_bypass_list.as_deref()) {
                return refuse(
                    "a browser context cannot have a proxy of its own here: all traffic goes \
                     through the session's",
                );
            }
            Ok(Verdict::CreateContext)
        }
        "Target.activateTarget" => Ok(Verdict::Activate(
            read::<TargetId>(method, params)?.target_id,
        )),
        "Page.bringToFront" => Ok(Verdict::BringToFront),
        "Target.closeTarget" => Ok(Verdict::CloseTarget(
            read::<TargetId>(method, params)?.target_id,
        )),
        "Page.close" => Ok(Verdict::ClosePage),
        "Network.enable" => network_enable(read(method, params)?, config),
        "Tracing.start" => tracing_start(read(method, params)?, config),
        "Page.captureScreenshot" => {
            let asked: Screenshot = read(method, params)?;
            if let Some(clip) = asked.clip {
                size(method, &clip, config)?;
            }
            Ok(Verdict::Capture)
        }
        "Browser.setWindowBounds" => {
            size(method, &read::<Bounds>(method, params)?.bounds, config)?;
            Ok(Verdict::Forward)
        }
        "Browser.setContentsSize"
        | "Emulation.setDeviceMetricsOverride"
        | "Emulation.setVisibleSize"
        | "Page.setDeviceMetricsOverride" => {
            size(method, &read(method, params)?, config)?;
            Ok(Verdict::Forward)
        }
        "Runtime.runIfWaitingForDebugger" => Ok(Verdict::Resume),
        "Page.navigate" | "Target.createTarget" | "Network.loadNetworkResource" => {
            if method == "Target.createTarget" {
                size(method, &read(method, params)?, config)?;
            }
            url(&read::<Url>(method, params)?.url, allowed)?;
            Ok(Verdict::Forward)
        }
        "DOM.setFileInputFiles" => {
            files(&read::<FileList>(method, params)?.files, allowed)?;
            Ok(Verdict::Forward)
        }
        "Input.dispatchDragEvent" => {
            files(&read::<Drag>(method, params)?.data.files, allowed)?;
            Ok(Verdict::Forward)
        }
        _ if heavy::is_capture(method) => Ok(Verdict::Capture),
        _ => match Recording::started(method) {
            Some(kind) => Ok(Verdict::Record(kind, None)),
            None => Ok(Verdict::Forward),
        },
    }
}

/// A JSON object.
type Object = serde_json::Map<String, serde_json::Value>;

fn text(object: &Object) -> Vec<u8> {
    serde_json::to_vec(object).expect("a map of JSON values is JSON")
}

/// Lowers a number to a bound.
fn lower(object: &mut Object, key: &str, bound: u64) {
    let wanted = object.get(key).and_then(serde_json::Value::as_u64);
    if wanted.is_none_or(|wanted| !(1..=bound).contains(&wanted)) {
        object.insert(key.to_owned(), bound.into());
    }
}

/// Bounds how much of request bodies the events of `Network` carry, and how much of responses is
/// kept; Chromium's own bounds of the latter hold where none are named.
fn network_enable(mut asked: Object, config: &Config) -> Result<Verdict, Refusal> {
    lower(&mut asked, "maxPostDataSize", POST_DATA_TOLD);
    for key in ["maxTotalBufferSize", "maxResourceBufferSize"] {
        if asked.contains_key(key) {
            lower(&mut asked, key, config.network_buffer.0);
        }
    }
    // Also when nothing has changed: a key named twice is named once now.
    Ok(Verdict::Instead(text(&asked)))
}

/// Bounds the buffer of a trace.
fn tracing_start(mut asked: Object, config: &Config) -> Result<Verdict, Refusal> {
    const SIZE: &str = "traceBufferSizeInKb";
    if ["perfettoConfig", "tracingBackend"]
        .iter()
        .any(|key| asked.contains_key(*key))
    {
        return refuse("Tracing.start takes traceConfig here, no perfettoConfig or tracingBackend");
    }
    let mut settings = match asked.remove("traceConfig") {
        None => Object::new(),
        Some(serde_json::Value::Object(settings)) => settings,
        Some(_) => return refuse("Tracing.start: traceConfig is no object"),
    };
    lower(&mut settings, SIZE, config.trace_buffer.0 >> 10);
    // The one mode that takes no notice of the size.
    const MODE: &str = "recordMode";
    if settings.get(MODE).and_then(serde_json::Value::as_str) == Some("recordAsMuchAsPossible") {
        settings.insert(MODE.to_owned(), "recordUntilFull".into());
    }
    asked.insert("traceConfig".to_owned(), settings.into());
    Ok(Verdict::Record(Recording::Trace, Some(text(&asked))))
}

/// Refuses a size of too many pixels.
fn size(method: &str, asked: &Size, config: &Config) -> Result<(), Refusal> {
    // Left out or 0: as it is, of which nothing is known here.
    let given = |number: Option<f64>, else_: f64| match number {
        Some(number) if number > 0.0 => number,
        _ => else_,
    };
    let scale = given(asked.scale, 1.0) * given(asked.device_scale_factor, 1.0);
    let width = given(asked.width, SIZE_UNKNOWN) * scale;
    let height = given(asked.height, SIZE_UNKNOWN) * scale;
    #[allow(clippy::cast_precision_loss, reason = "a bound, not a count")]
    if width * height <= config.capture_pixels as f64 {
        return Ok(());
    }
    refuse(heavy::too_large(method, width, height, config))
}

fn passes(method: &str) -> bool {
    let Some((domain, name)) = method.split_once('.') else {
        return true;
    };
    match ALLOWED.iter().find(|(listed, _)| *listed == domain) {
        Some((_, names)) => names.contains(&name),
        None => !REFUSED.contains(&method),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Flatten {
    #[serde(default)]
    auto_attach: bool,
    #[serde(default)]
    flatten: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    proxy_server: Option<String>,
    proxy_bypass_list: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetId {
    target_id: String,
}

/// Of a window, a page or a part of one.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Size {
    width: Option<f64>,
    height: Option<f64>,
    scale: Option<f64>,
    device_scale_factor: Option<f64>,
}

#[derive(Deserialize)]
struct Bounds {
    #[serde(default)]
    bounds: Size,
}

#[derive(Deserialize)]
struct Screenshot {
    clip: Option<Size>,
}

#[derive(Deserialize)]
struct Url {
    #[serde(default)]
    url: String,
}

#[derive(Default, Deserialize)]
struct FileList {
    #[serde(default)]
    files: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Drag {
    #[serde(default)]
    data: FileList,
}

/// A key named twice, or of another type, is refused here rather than read in two ways.
fn read<T: DeserializeOwned>(method: &str, params: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(params).map_err(|error| Refusal {
        code: code::INVALID_PARAMS,
        message: format!("invalid parameters of {method}: {error}"),
    })
}

fn flat(method: &str, flatten: bool) -> Result<(), Refusal> {
    if flatten {
        return Ok(());
    }
    refuse(format!("{method} needs flatten: true here"))
}

fn blank(text: Option<&str>) -> bool {
    text.is_none_or(str::is_empty)
}

fn files(paths: &[PathBuf], allowed: &dyn Fn(&Path) -> bool) -> Result<(), Refusal> {
    match paths.iter().find(|path| !(plain(path) && allowed(path))) {
        None => Ok(()),
        Some(path) => refuse(format!(
            "{} is not a file of this session: only /tmp and /workspace are shared with the browser",
            path.display()
        )),
    }
}

/// Whether a path means what it says: absolute, without `..`.
fn plain(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|part| part != std::path::Component::ParentDir)
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}

/// Checks a URL a client sends a page to, as the browser's own parser would read it.
pub(crate) fn url(text: &str, allowed: &dyn Fn(&Path) -> bool) -> Result<(), Refusal> {
    // The URL standard cuts these before it looks for a scheme.
    let text: String = text
        .trim_matches(|c: char| c <= ' ')
        .chars()
        .filter(|c| !matches!(c, '\t' | '\n' | '\r'))
        .collect();
    if text.is_empty() {
        return Ok(());
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        // Chromium's words; some of its entry points would guess a scheme instead.
        return refuse("Cannot navigate to invalid URL");
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" | "data" | "blob" | "javascript" => Ok(()),
        "about" if ["blank", "srcdoc"].contains(&rest.split(['?', '#']).next().unwrap_or("")) => {
            Ok(())
        }
        "file" => match file_path(rest) {
            Some(path) if plain(&path) && allowed(&path) => Ok(()),
            _ => refuse("file: URLs are allowed below /tmp and /workspace only"),
        },
        // The scheme is the client's own text; a short one is worth repeating.
        scheme if scheme.len() <= 20 => refuse(format!("{scheme}: URLs are not allowed here")),
        _ => refuse("this URL's scheme is not allowed here"),
    }
}

/// The path of a `file:` URL without its scheme; `None` when it names a host.
fn file_path(rest: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let rest = rest.split(['?', '#']).next()?.replace('\\', "/");
    let path = match rest.strip_prefix("//") {
        Some(rest) => {
            let (host, _) = rest.split_once('/')?;
            if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
                return None;
            }
            &rest[host.len()..]
        }
        None => rest.as_str(),
    };
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.bytes();
    while let Some(byte) = left.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [left.next()?, left.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    // `%5c` would be a separator to nobody on Linux, but nobody needs it either.
    (!bytes.contains(&b'\\')).then(|| PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests;
