//! Who may call, whose a session is, how much of it there may be, and what a restart leaves known.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use pagebox::grpc::v1::{
    CreateSessionRequest, GetSessionRequest, ListSessionsRequest, Session, SessionOptions,
    StopSessionRequest,
};
use serde_json::Value;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::client::{Client, fields, reason, seconds};
use crate::daemon::Daemon;
use crate::daemon::host::command;
use crate::leaks::eventually;
use crate::shared::binary;

/// What comes back when a change of the keys is waited for.
const SOON: Duration = Duration::from_secs(10);

/// `pagebox key …` on a data directory; its stdout.
pub(crate) fn key(data_dir: &Path, arguments: &[&str]) -> String {
    let output = command(binary())
        .arg("key")
        .args(arguments)
        .env("PAGEBOX_DATA_DIR", data_dir)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn id_of(data_dir: &Path, tenant: &str) -> String {
    let list: Value = serde_json::from_str(&key(data_dir, &["list", "--json"])).unwrap();
    let keys = list["keys"].as_array().unwrap();
    let of_tenant = keys.iter().find(|key| key["tenant"] == tenant).unwrap();
    of_tenant["id"].as_str().unwrap().to_owned()
}

/// Someone who calls with a key, and perhaps for somebody.
#[derive(Clone, Copy)]
struct Who<'a> {
    client: &'a Client,
    key: &'a str,
    owner: Option<&'a str>,
}

impl Who<'_> {
    fn sign<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        if !self.key.is_empty() {
            let bearer = format!("Bearer {}", self.key);
            metadata.insert("authorization", bearer.parse().unwrap());
        }
        if let Some(owner) = self.owner {
            metadata.insert("pagebox-owner", owner.parse().unwrap());
        }
        request
    }

    async fn create_for(&self, ttl: i64) -> Result<Session, Status> {
        let request = self.sign(CreateSessionRequest {
            options: Some(SessionOptions {
                ttl: seconds(ttl),
                ..SessionOptions::default()
            }),
            idempotency_key: String::new(),
        });
        let reply = self.client.sessions().create_session(request).await?;
        Ok(reply.into_inner().session.unwrap())
    }

    async fn create(&self) -> Result<Session, Status> {
        self.create_for(600).await
    }

    async fn get(&self, id: &str) -> Result<Session, Status> {
        let session_id = id.to_owned();
        let request = self.sign(GetSessionRequest { session_id });
        let reply = self.client.sessions().get_session(request).await?;
        Ok(reply.into_inner().session.unwrap())
    }

    async fn stop(&self, id: &str) -> Result<(), Status> {
        let session_id = id.to_owned();
        let request = self.sign(StopSessionRequest { session_id });
        let reply = self.client.sessions().stop_session(request).await;
        reply.map(drop)
    }

    async fn list(&self) -> Result<Vec<String>, Status> {
        let request = self.sign(ListSessionsRequest::default());
        let reply = self.client.sessions().list_sessions(request).await?;
        let sessions = reply.into_inner().sessions;
        Ok(sessions.into_iter().map(|session| session.id).collect())
    }
}

/// Waits until a running daemon has read the keys, of which this is the newest, an ordinary one.
async fn keys_are_read(client: &Client, newest: &str) {
    let code = async |key| {
        let owner = None;
        let listed = Who { client, key, owner }.list().await;
        listed.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    eventually(SOON, async || match (code("").await, code(newest).await) {
        (Code::Unauthenticated, Code::Ok) => Ok(()),
        other => Err(format!("without a key, and with the newest: {other:?}")),
    })
    .await;
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

fn is(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

/// Status, `Retry-After`, body.
async fn http(daemon: &Daemon, path: &str, headers: &[(&str, &str)]) -> (u16, Option<u64>, Value) {
    let client = Http::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let mut request = hyper::Request::get(format!("{}{path}", daemon.url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.request(request.body(Empty::new()).unwrap()).await;
    let (parts, body) = response.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let retry = parts.headers.get("retry-after");
    let retry = retry.map(|value| value.to_str().unwrap().parse().unwrap());
    (
        parts.status.as_u16(),
        retry,
        serde_json::from_slice(&body).unwrap_or_default(),
    )
}

#[tokio::test]
async fn keys_hold_from_when_they_are_made_until_they_are_revoked() {
    let daemon = Daemon::start(binary(), "");
    let client = Client::new(&daemon.url());
    let nobody = Who {
        client: &client,
        key: "",
        owner: None,
    };
    let guess = Who {
        key: "pb_guess",
        ..nobody
    };
    // No key yet: whatever is sent, everyone is the same one.
    for authorization in ["", "Bearer", "Bearer ", "Bearer x"] {
        let (status, ..) = http(&daemon, "/no/path", &[("authorization", authorization)]).await;
        assert_eq!(status, 404, "{authorization:?}");
    }
    assert_eq!(guess.list().await.unwrap(), Vec::<String>::new());

    let data_dir = daemon.data_dir();
    let [acme, other] =
        ["acme", "other"].map(|tenant| key(&data_dir, &["create", "--tenant", tenant]));
    keys_are_read(&client, &other).await;
    assert_eq!(
        refused(nobody.list().await),
        is(Code::Unauthenticated, "KEY_MISSING")
    );
    assert_eq!(
        refused(guess.list().await),
        is(Code::Unauthenticated, "KEY_UNKNOWN")
    );
    for headers in [&[][..], &[("authorization", "Bearer pb_guess")]] {
        let (status, _, body) = http(&daemon, "/v2/browser", headers).await;
        assert_eq!((status, &body["success"]), (401, &Value::Bool(false)));
        let error = body["error"].as_str().unwrap();
        assert!(error.starts_with("Unauthorized: "), "{error}");
    }
    let bearer = format!("bearer {acme}");
    let (status, ..) = http(&daemon, "/no/path", &[("authorization", &bearer)]).await;
    assert_eq!(status, 404);
    assert_eq!(http(&daemon, "/health", &[]).await.0, 200);
    let mut health = tonic_health::pb::health_client::HealthClient::new(client.channel());
    health
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await
        .unwrap();

    // What one tenant has is not another's.
    let ours = Who {
        key: &acme,
        ..nobody
    };
    let theirs = Who {
        key: &other,
        ..nobody
    };
    let session = ours.create().await.unwrap();
    assert_eq!(
        ours.list().await.unwrap(),
        std::slice::from_ref(&session.id)
    );
    assert_eq!(theirs.list().await.unwrap(), Vec::<String>::new());
    let foreign = is(Code::PermissionDenied, "FOREIGN_SESSION");
    assert_eq!(refused(theirs.get(&session.id).await), foreign);
    assert_eq!(refused(theirs.stop(&session.id).await), foreign);
    ours.stop(&session.id).await.unwrap();

    for tenant in ["acme", "other"] {
        key(&data_dir, &["revoke", &id_of(&data_dir, tenant)]);
    }
    eventually(SOON, async || {
        let listed = ours.list().await;
        listed.map_or(Ok(()), |_| Err("the key still holds".to_owned()))
    })
    .await;
    // The last one is gone, and the daemon is closed, not open.
    assert_eq!(
        refused(ours.list().await),
        is(Code::Unauthenticated, "KEY_UNKNOWN")
    );
    assert_eq!(
        refused(nobody.list().await),
        is(Code::Unauthenticated, "KEY_MISSING")
    );
    assert!(!daemon.log().contains(&acme), "{}", daemon.log());
    let kept = std::fs::read(data_dir.join("pagebox.db")).unwrap();
    let secret = acme.as_bytes();
    assert!(!kept.windows(secret.len()).any(|bytes| bytes == secret));
}

#[tokio::test]
async fn a_gateway_names_the_owner_of_each_request_and_nobody_else_does() {
    let daemon = Daemon::start(binary(), "");
    let data_dir = daemon.data_dir();
    let create = ["create", "--tenant", "acme", "--max-sessions", "1"];
    let gateway = key(&data_dir, &[&create[..], &["--gateway"]].concat());
    let own = key(&data_dir, &["create", "--tenant", "acme"]);
    let client = Client::new(&daemon.url());
    let ada = Who {
        client: &client,
        key: &gateway,
        owner: Some("ada"),
    };
    keys_are_read(&client, &own).await;
    let bob = Who {
        owner: Some("bob"),
        ..ada
    };
    let nobody = Who { owner: None, ..ada };
    let status = nobody.list().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(fields(&status), ["pagebox-owner"]);
    let ordinary = Who { key: &own, ..ada };
    assert_eq!(
        refused(ordinary.list().await),
        is(Code::PermissionDenied, "OWNER_NOT_ALLOWED")
    );
    let of = |key: &str| format!("Bearer {key}");
    for (key, owners, expected) in [
        (&gateway, &[][..], 400),
        (&gateway, &["ada", "bob"], 400),
        (&own, &["ada"], 403),
        (&gateway, &["ada"], 404),
    ] {
        let bearer = of(key);
        let mut headers = vec![("authorization", &*bearer)];
        headers.extend(owners.iter().map(|owner| ("pagebox-owner", *owner)));
        let (status, _, body) = http(&daemon, "/no/path", &headers).await;
        assert_eq!((status, &body["success"]), (expected, &Value::Bool(false)));
    }
    // Limits and sessions are each owner's own, and the tenant's other key sees neither.
    let session = ada.create().await.unwrap();
    let full = is(Code::ResourceExhausted, "OWNER_SESSION_LIMIT");
    assert_eq!(refused(ada.create().await), full);
    let other = bob.create().await.unwrap();
    let foreign = is(Code::PermissionDenied, "FOREIGN_SESSION");
    assert_eq!(refused(bob.get(&session.id).await), foreign);
    let tenant = Who {
        key: &own,
        owner: None,
        ..ada
    };
    assert_eq!(refused(tenant.get(&session.id).await), foreign);
    bob.stop(&other.id).await.unwrap();
    ada.stop(&session.id).await.unwrap();
    ada.stop(&ada.create().await.unwrap().id).await.unwrap();
}

#[tokio::test]
async fn rate_and_budget_are_refused_with_what_to_do() {
    let daemon = Daemon::start(binary(), "");
    let data_dir = daemon.data_dir();
    let slow = key(
        &data_dir,
        &["create", "--tenant", "slow", "--rate", "2/min"],
    );
    let poor = key(&data_dir, &["create", "--tenant", "poor", "--budget", "20"]);
    let brief = key(
        &data_dir,
        &["create", "--tenant", "brief", "--session-minutes", "15"],
    );
    let client = Client::new(&daemon.url());
    let poor = Who {
        client: &client,
        key: &poor,
        owner: None,
    };
    let brief = Who {
        key: &brief,
        ..poor
    };
    keys_are_read(&client, brief.key).await;

    let bearer = format!("Bearer {slow}");
    let bearer = [("authorization", &*bearer)];
    for _ in 0..2 {
        assert_eq!(http(&daemon, "/no/path", &bearer).await.0, 404);
    }
    let (status, retry, body) = http(&daemon, "/no/path", &bearer).await;
    assert_eq!((status, &body["success"]), (429, &Value::Bool(false)));
    assert!(matches!(retry, Some(1..=30)), "{retry:?}");
    let slow = Who { key: &slow, ..poor };
    let status = slow.list().await.unwrap_err();
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::ResourceExhausted, "RATE_LIMIT")
    );
    let retry = status
        .get_details_retry_info()
        .unwrap()
        .retry_delay
        .unwrap();
    assert!(retry <= Duration::from_secs(30), "{retry:?}");

    // 600 s may cost 20 credits; a stopped one has cost 2.
    let first = poor.create().await.unwrap();
    let spent = is(Code::ResourceExhausted, "BUDGET_SPENT");
    assert_eq!(refused(poor.create_for(30).await), spent);
    poor.stop(&first.id).await.unwrap();
    assert_eq!(refused(poor.create().await), spent);
    let second = poor.create_for(300).await.unwrap();
    poor.stop(&second.id).await.unwrap();

    let first = brief.create().await.unwrap();
    let spent = is(Code::ResourceExhausted, "SESSION_MINUTES_SPENT");
    assert_eq!(refused(brief.create().await), spent);
    brief.stop(&first.id).await.unwrap();
}

#[tokio::test]
async fn a_restart_knows_what_ended_and_whose_it_was() {
    let shared = tempfile::tempdir().unwrap();
    let data_dir = shared.path().join("data");
    let place = data_dir.to_str().unwrap();
    let start = || Daemon::start_in(binary(), "", &[], &[("PAGEBOX_DATA_DIR", place)]);
    // Without a daemon too.
    let [ours, theirs] =
        ["ours", "theirs"].map(|tenant| key(&data_dir, &["create", "--tenant", tenant]));

    let daemon = start();
    let client = Client::new(&daemon.url());
    let us = Who {
        client: &client,
        key: &ours,
        owner: None,
    };
    let stopped = us.create().await.unwrap().id;
    us.stop(&stopped).await.unwrap();
    let killed = us.create().await.unwrap().id;
    // The first is ended in order; the second dies with its daemon.
    daemon.signal("KILL");
    drop(daemon);

    let daemon = start();
    let client = Client::new(&daemon.url());
    let us = Who {
        client: &client,
        ..us
    };
    let them = Who { key: &theirs, ..us };
    for id in [&stopped, &killed] {
        let ended = is(Code::FailedPrecondition, "SESSION_ENDED");
        assert_eq!(refused(us.get(id).await), ended);
        assert_eq!(refused(us.stop(id).await), ended);
        let foreign = is(Code::PermissionDenied, "FOREIGN_SESSION");
        assert_eq!(refused(them.get(id).await), foreign);
    }
    let unknown = us.get("01890000-0000-7000-8000-000000000000").await;
    assert_eq!(refused(unknown), is(Code::NotFound, "SESSION_UNKNOWN"));
    let said = us.get(&killed).await.unwrap_err().message().to_owned();
    assert!(said.contains("its daemon was killed"), "{said}");

    // A second daemon would close the first one's sessions.
    let output = command(binary())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("PAGEBOX_DATA_DIR", place)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("another running daemon"), "{stderr}");
}

#[tokio::test]
async fn an_address_others_reach_needs_a_key() {
    let shared = tempfile::tempdir().unwrap();
    let data_dir = shared.path().join("data");
    let place = data_dir.to_str().unwrap();
    let serve = |place: &str| {
        let mut serve = command(binary());
        serve
            .args(["serve", "--listen", "0.0.0.0:0"])
            .env("PAGEBOX_DATA_DIR", place);
        serve
    };
    let output = serve(place).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("pagebox key create"), "{stderr}");
    key(&data_dir, &["create", "--tenant", "acme"]);
    let mut child = serve(place)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        line.starts_with("pagebox listening on http://0.0.0.0:"),
        "{line:?}"
    );

    // A directory that is not one is named with its key.
    let output = serve("/proc/version").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("data_dir: /proc/version"), "{stderr}");
}
