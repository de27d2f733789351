//! What a client may ask of the browser: pure, one decision per request.
//!
//! The same table holds for every session depth, since sessions of pages take browser-wide methods
//! too. It keeps clients of one browser from breaking each other and from stepping round the hub.
//! It is no boundary against the host: that is the browser's sandbox, which holds no file worth
//! reading (a page under `file:` may link to another one without asking here).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

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
    /// Pass it on; its session is no longer paused.
    Resume,
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
const POST_DATA_TOLD: i64 = 4 << 20;

/// Methods of other domains that do not pass: each crashes the page it is sent to.
const REFUSED: &[&str] = &["Memory.prepareForLeakDetection", "Page.crash"];

/// Decides on one request. `params` is the JSON text; `allowed` says which files code may name.
pub(crate) fn check(
    method: &str,
    params: Option<&[u8]>,
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
        "Network.enable" => network_enable(read(method, params)?),
        "Runtime.runIfWaitingForDebugger" => Ok(Verdict::Resume),
        "Page.navigate" | "Target.createTarget" | "Network.loadNetworkResource" => {
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
        _ => Ok(Verdict::Forward),
    }
}

/// Bounds how much of request bodies the events of `Network` carry.
fn network_enable(
    mut asked: serde_json::Map<String, serde_json::Value>,
) -> Result<Verdict, Refusal> {
    const KEY: &str = "maxPostDataSize";
    let wanted = asked.get(KEY).and_then(serde_json::Value::as_i64);
    if wanted.is_some_and(|wanted| (1..=POST_DATA_TOLD).contains(&wanted)) {
        return Ok(Verdict::Forward);
    }
    asked.insert(KEY.to_owned(), POST_DATA_TOLD.into());
    let text = serde_json::to_vec(&asked).expect("a map of JSON values is JSON");
    Ok(Verdict::Instead(text))
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
