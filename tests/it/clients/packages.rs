//! What package managers fetch from: a git repository behind git's own `http-backend`, an npm registry
//! with a tarball, a PyPI simple index with a wheel. Each is made anew by the tools that make them.

use std::path::Path;
use std::process::{Command, Stdio};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path as Name, Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{any, get};
use base64::Engine as _;
use sha2::{Digest, Sha512};
use tokio::io::AsyncWriteExt as _;

use crate::site::sha256;

/// What the repository's only file says.
pub(super) const README: &str = "Tides come in.";
/// The package's name in npm and on PyPI, its command in both, and what that prints.
pub(super) const PACKAGE: &str = "tidepool";
/// What a function of the package, or its command, says.
pub(super) const SAYS: &str = "a limpet";
const WHEEL: &str = "tidepool-1.0.0-py3-none-any.whl";
/// A package of npm's that the first needs.
const NEEDED: &str = "limpet";
/// Largest request git sends here.
const GIT_BYTES: usize = 1 << 20;

/// Files that are served; the directory goes with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Packages {
    root: std::sync::Arc<tempfile::TempDir>,
}

impl Packages {
    /// Makes repository, tarballs and wheel.
    pub(super) fn make() -> Self {
        let root = tempfile::tempdir().unwrap();
        make_repository(root.path());
        let needed = "exports.name = 'limpet';";
        make_tarball(root.path(), NEEDED, needed, &[]);
        let module = format!("exports.say = () => `a ${{require('{NEEDED}').name}}`;");
        make_tarball(root.path(), PACKAGE, &module, &[NEEDED]);
        make_wheel(root.path());
        Self {
            root: std::sync::Arc::new(root),
        }
    }

    /// Serves `/git/shore.git`, `/npm/` and `/simple/`.
    pub(super) fn router(&self) -> Router {
        Router::new()
            .route("/git/{*path}", any(git))
            .route("/npm/{name}", get(packument))
            .route("/npm/-/{file}", get(file))
            .route("/simple/tidepool/", get(simple))
            .route("/files/{file}", get(file))
            .with_state(self.clone())
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let safe = name.ends_with(".tgz") || name == WHEEL;
        safe.then(|| std::fs::read(self.root.path().join(name)).ok())
            .flatten()
    }
}

/// Runs a program of the host, that must succeed, with nothing of the caller's settings.
fn run(directory: &Path, program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", directory)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn make_repository(root: &Path) {
    let work = root.join("work");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("README"), README).unwrap();
    let author = ["-c", "user.name=Test", "-c", "user.email=test@example.com"];
    run(&work, "git", &["init", "--quiet", "--initial-branch=main"]);
    run(&work, "git", &["add", "README"]);
    let commit = [&author[..], &["commit", "--quiet", "-m", "first"]].concat();
    run(&work, "git", &commit);
    run(
        root,
        "git",
        &["clone", "--quiet", "--bare", "work", "shore.git"],
    );
}

/// A package as `npm pack` makes it.
fn make_tarball(root: &Path, name: &str, module: &str, needs: &[&str]) {
    let package = root.join("package");
    std::fs::create_dir_all(&package).unwrap();
    let manifest = manifest(name, needs);
    std::fs::write(package.join("package.json"), manifest.to_string()).unwrap();
    std::fs::write(package.join("index.js"), module).unwrap();
    let command = "#!/usr/bin/env node\nconsole.log(require('.').say())";
    std::fs::write(package.join("cli.js"), command).unwrap();
    let file = format!("{name}-1.0.0.tgz");
    run(root, "tar", &["-czf", &file, "package"]);
    std::fs::remove_dir_all(package).unwrap();
}

fn manifest(name: &str, needs: &[&str]) -> serde_json::Value {
    let needs: std::collections::BTreeMap<_, _> =
        needs.iter().map(|name| (*name, "^1.0.0")).collect();
    serde_json::json!({
        "name": name,
        "version": "1.0.0",
        "main": "index.js",
        "bin": { name: "cli.js" },
        "dependencies": needs,
    })
}

/// A wheel with a module and a command.
fn make_wheel(root: &Path) {
    let script = format!(
        "import zipfile\n\
         info = '{PACKAGE}-1.0.0.dist-info/'\n\
         files = {{\n\
         \x20   '{PACKAGE}.py': 'def say():\\n    return \"{SAYS}\"\\ndef main():\\n    print(say())\\n',\n\
         \x20   info + 'METADATA': 'Metadata-Version: 2.1\\nName: {PACKAGE}\\nVersion: 1.0.0\\n',\n\
         \x20   info + 'WHEEL': 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n',\n\
         \x20   info + 'entry_points.txt': '[console_scripts]\\n{PACKAGE} = {PACKAGE}:main\\n',\n\
         }}\n\
         record = info + 'RECORD'\n\
         files[record] = ''.join(name + ',,\\n' for name in [*files, record])\n\
         with zipfile.ZipFile('{WHEEL}', 'w') as wheel:\n\
         \x20   for name, text in files.items():\n\
         \x20       wheel.writestr(name, text)\n"
    );
    run(root, "/usr/bin/python3", &["-I", "-c", &script]);
}

async fn packument(State(packages): State<Packages>, Name(name): Name<String>) -> Response {
    let file = format!("{name}-1.0.0.tgz");
    let Some(content) = packages.read(&file) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let hash = base64::prelude::BASE64_STANDARD.encode(Sha512::digest(&content));
    let needs: &[&str] = if name == PACKAGE { &[NEEDED] } else { &[] };
    let mut version = manifest(&name, needs);
    version["dist"] = serde_json::json!({
        // As in a mirror's copy: npm asks the registry it was given instead.
        "tarball": format!("https://registry.npmjs.org/npm/-/{file}"),
        "integrity": format!("sha512-{hash}"),
    });
    Json(serde_json::json!({
        "name": name,
        "dist-tags": { "latest": "1.0.0" },
        "versions": { "1.0.0": version },
    }))
    .into_response()
}

async fn simple(State(packages): State<Packages>) -> Html<String> {
    let hash = sha256(&packages.read(WHEEL).unwrap());
    Html(format!(
        "<!doctype html><a href=\"../../files/{WHEEL}#sha256={hash}\">{WHEEL}</a>"
    ))
}

async fn file(State(packages): State<Packages>, Name(name): Name<String>) -> Response {
    match packages.read(&name) {
        Some(content) => content.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// git's smart protocol, by git's own program (git-http-backend(1)).
async fn git(State(packages): State<Packages>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, GIT_BYTES).await.unwrap();
    let field = |name: &str| {
        let value = parts.headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    };
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", packages.root.path())
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", parts.uri.path().trim_start_matches("/git"))
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("CONTENT_TYPE", field("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", field("content-encoding"))
        .env("GIT_PROTOCOL", field("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&body).await.unwrap();
    let output = child.wait_with_output().await.unwrap().stdout;
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let mut response = Body::from(output[end + 4..].to_vec()).into_response();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            *response.status_mut() = value[..3].parse().unwrap();
        } else {
            let name: HeaderName = name.parse().unwrap();
            response.headers_mut().insert(name, value.parse().unwrap());
        }
    }
    response
}
