//! Standalone sessions, under `/v2/browser` and `/v2/interact` alike.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::base::Base;
use super::cdp::cdp_url;
use super::error::{Failures, NoSession, NotStarted, ProfileInUse};
use super::execution::{Code, Ran, run};
use super::extract::{Body, Caller, Params, Session, query_value};
use super::live_view::{LiveUrls, live_urls};
use super::time::iso;
use super::time::millis;
use super::{ApiError, Gateway};
use crate::profile::{Name, Use};
use crate::session::{SessionOptions, SessionView, Settled, State as S};
use crate::store::SessionKind;
use crate::{profile, session};

pub(super) const TTL_SECONDS: (u64, u64) = (30, 3600);
pub(super) const ACTIVITY_TTL_SECONDS: (u64, u64) = (10, 3600);
/// Longest number of a replay's page.
const MAX_PAGE_DIGITS: usize = 3;

/// What a new session is to be. Keys that are not listed are ignored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateRequest {
    /// Total life in seconds; 600 when left out.
    #[schema(minimum = 30, maximum = 3600)]
    ttl: Option<u64>,
    /// Longest time without an execution or a CDP command, in seconds; 300 when left out.
    #[schema(minimum = 10, maximum = 3600)]
    activity_ttl: Option<u64>,
    /// Whether there is a live view of it; true when left out. Without, both its URLs are empty.
    stream_web_view: Option<bool>,
    /// Accepted; nothing is recorded yet, and asking for a replay is answered with 501.
    #[allow(dead_code, reason = "checked for its type only")]
    record_session: Option<bool>,
    /// The saved state its browser begins with.
    profile: Option<Profile>,
    /// Not taken here: a session is made first, then a prompt is sent to its `execute`.
    prompt: Option<Value>,
    /// Where requests are to come from. A `country` is not applied, and the reply says so.
    location: Option<Location>,
}

/// A saved state, by its name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    /// One that does not exist begins empty.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// Whether it is saved when the session ends; true when left out. One session at a time may.
    #[serde(alias = "save_changes")]
    save_changes: Option<bool>,
}

impl Profile {
    fn using(&self) -> Result<Use, ApiError> {
        Ok(Use {
            name: profile_name("profile.name", self.name.clone())?,
            save_changes: self.save_changes.unwrap_or(true),
        })
    }
}

fn profile_name(field: &str, name: String) -> Result<Name, ApiError> {
    Name::try_from(name).map_err(|error| {
        let message = error.to_string();
        ApiError::bad_field(field, &message).message(&message)
    })
}

#[derive(Debug, Deserialize, ToSchema)]
struct Location {
    country: Option<String>,
}

impl CreateRequest {
    fn options(&self) -> Result<SessionOptions, ApiError> {
        let defaults = SessionOptions::default();
        let options = SessionOptions {
            ttl: seconds("ttl", self.ttl, TTL_SECONDS, defaults.ttl)?,
            idle_ttl: seconds(
                "activityTtl",
                self.activity_ttl,
                ACTIVITY_TTL_SECONDS,
                defaults.idle_ttl,
            )?,
            profile: self.profile.as_ref().map(Profile::using).transpose()?,
            kind: SessionKind::Standalone,
            live_view: self.stream_web_view.unwrap_or(true),
            ..defaults
        };
        if self.prompt.is_some() {
            let message = "is not taken here: make the session, then send it to {id}/execute";
            return Err(ApiError::bad_field("prompt", message));
        }
        Ok(options)
    }

    fn warning(&self) -> Option<&'static str> {
        let country = self.location.as_ref().and_then(|l| l.country.as_ref());
        country.map(|_| "location.country is not applied: requests leave from where the daemon is")
    }
}

pub(super) fn seconds(
    field: &str,
    asked: Option<u64>,
    (least, most): (u64, u64),
    default: Duration,
) -> Result<Duration, ApiError> {
    match asked {
        None => Ok(default),
        Some(asked) if (least..=most).contains(&asked) => Ok(Duration::from_secs(asked)),
        Some(asked) => {
            let message = format!("is {asked}, must be {least} to {most} seconds");
            Err(ApiError::bad_field(field, &message))
        }
    }
}

/// Where a session is reached.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Links {
    /// For CDP clients; a secret. Empty once the session has ended.
    cdp_url: String,
    /// A page to watch it; a secret. Empty once the session has ended, and without a live view.
    live_view_url: String,
    /// A page to watch it and to act on it; likewise.
    interactive_live_view_url: String,
}

impl Links {
    fn of(base: &Base, view: &SessionView) -> Self {
        let LiveUrls {
            view: live_view_url,
            control: interactive_live_view_url,
        } = live_urls(base, view);
        Self {
            cdp_url: cdp_url(base, view),
            live_view_url,
            interactive_live_view_url,
        }
    }
}

/// A new session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Created {
    success: bool,
    id: String,
    #[serde(flatten)]
    links: Links,
    /// When its total life ends.
    expires_at: String,
    /// Whether its browser stood ready before it was asked for.
    warm: bool,
    /// What of the request does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
}

/// Opens a session; the reply comes when its browser is ready. A caller that goes away ends it.
#[utoipa::path(
    post, path = "", tag = "sessions", operation_id = "createSession",
    request_body(content = Option<CreateRequest>, description = "May be left out"),
    responses((status = 200, body = Created), Failures, NotStarted, ProfileInUse)
)]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    base: Base,
    Body(request): Body<CreateRequest>,
) -> Result<Json<Created>, ApiError> {
    let options = request.options()?;
    let view = gateway.registry.create(&caller, options, None).await?;
    Ok(Json(Created {
        success: true,
        id: view.id.to_string(),
        links: Links::of(&base, &view),
        expires_at: iso(view.expire_time),
        warm: view.warm,
        warning: request.warning(),
    }))
}

/// The caller's sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listed {
    success: bool,
    /// Newest first.
    sessions: Vec<Item>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: String,
    /// `active`, `destroyed` or `error`.
    status: &'static str,
    #[serde(flatten)]
    links: Links,
    /// Whether it has a live view.
    stream_web_view: bool,
    created_at: String,
    last_activity: String,
}

/// How the list calls a state.
fn list_status(state: S) -> &'static str {
    match state {
        S::Starting | S::Ready => "active",
        S::Stopping | S::Stopped => "destroyed",
        S::Failed => "error",
    }
}

const EVERY_STATE: [S; 5] = [S::Starting, S::Ready, S::Stopping, S::Stopped, S::Failed];

/// Lists the caller's sessions, ended ones too, as far as they are remembered.
#[utoipa::path(
    get, path = "", tag = "sessions", operation_id = "listSessions",
    params(("status" = Option<String>, Query, pattern = "^(active|destroyed|error)$")),
    responses((status = 200, body = Listed), Failures)
)]
pub(super) async fn list(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    base: Base,
    uri: Uri,
) -> Result<Json<Listed>, ApiError> {
    let states: Vec<S> = match query_value(&uri, "status") {
        None => Vec::new(),
        Some(asked) => {
            let named = EVERY_STATE.into_iter();
            named.filter(|state| list_status(*state) == asked).collect()
        }
    };
    if states.is_empty() && query_value(&uri, "status").is_some() {
        let message = "must be active, destroyed or error";
        return Err(ApiError::bad_field("status", message));
    }
    // Bounded by how many sessions there may be, and are remembered.
    let (known, _) = gateway
        .registry
        .list(&caller.owner, &states, None, usize::MAX);
    let item = |view: &SessionView| Item {
        id: view.id.to_string(),
        status: list_status(view.state),
        links: Links::of(&base, view),
        stream_web_view: view.live_tokens.is_some(),
        created_at: iso(view.create_time),
        last_activity: iso(view.last_activity),
    };
    Ok(Json(Listed {
        success: true,
        sessions: known.iter().map(item).collect(),
    }))
}

/// One session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found {
    success: bool,
    id: String,
    /// `starting`, `running`, `stopping`, `stopped` or `failed`.
    status: &'static str,
    #[serde(flatten)]
    links: Links,
    /// Whether its browser stood ready before it was asked for.
    warm: bool,
    /// How long it lived; once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_duration_ms: Option<u64>,
    /// What it cost; once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    credits_billed: Option<u64>,
    /// What ended it, if that was a fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// How everything but the list calls a state.
fn status(state: S) -> &'static str {
    match state {
        S::Starting => "starting",
        S::Ready => "running",
        S::Stopping => "stopping",
        S::Stopped => "stopped",
        S::Failed => "failed",
    }
}

/// Reads one session.
#[utoipa::path(
    get, path = "/{id}", tag = "sessions", operation_id = "getSession",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = Found), Failures, NoSession)
)]
pub(super) async fn get(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Session(id): Session,
    base: Base,
) -> Result<Json<Found>, ApiError> {
    let (view, _) = gateway.registry.get(&caller.owner, id).await?;
    let ended = view.state.ended();
    let bill = gateway.registry.bill(&caller.owner, id).await?;
    Ok(Json(Found {
        success: true,
        id: view.id.to_string(),
        status: status(view.state),
        links: Links::of(&base, &view),
        warm: view.warm,
        session_duration_ms: ended.then(|| millis(bill.lived)),
        credits_billed: ended.then_some(bill.credits),
        error: (view.state == S::Failed).then_some(view.end_detail),
    }))
}

/// What became of the code; `success` is true however it ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Executed {
    success: bool,
    #[serde(flatten)]
    ran: Ran,
}

/// Runs code in a session. Code that fails is told by `exitCode`, `killed` and `error`. A caller that
/// goes away kills the code; the session goes on.
#[utoipa::path(
    post, path = "/{id}/execute", tag = "sessions", operation_id = "executeInSession",
    params(("id" = uuid::Uuid, Path)),
    request_body = Code,
    responses((status = 200, body = Executed), Failures, NoSession, NotStarted)
)]
pub(super) async fn execute(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Session(id): Session,
    Body(code): Body<Code>,
) -> Result<Json<Executed>, ApiError> {
    let asked = code.asked(gateway.output)?;
    let ran = run(&gateway, &caller, id, asked).await?;
    Ok(Json(Executed { success: true, ran }))
}

/// A session that was ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deleted {
    success: bool,
    /// `stopped` or `failed`.
    status: &'static str,
    /// How long it lived; left out when it had ended before, in this daemon's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_duration_ms: Option<u64>,
    /// What it cost.
    credits_billed: u64,
    /// Why its profile was not saved; what was saved before is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

impl Deleted {
    pub(super) fn of(settled: Settled) -> Self {
        Self {
            success: true,
            status: status(settled.state),
            session_duration_ms: (!settled.was_over).then(|| millis(settled.bill.lived)),
            credits_billed: settled.bill.credits,
            warning: (settled.save_error).map(|why| format!("The profile was not saved: {why}")),
        }
    }
}

/// Ends a session; the reply comes when nothing of it is left. May be repeated.
#[utoipa::path(
    delete, path = "/{id}", tag = "sessions", operation_id = "deleteSession",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = Deleted), Failures, NoSession)
)]
pub(super) async fn delete(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Session(id): Session,
) -> Result<Json<Deleted>, ApiError> {
    let settled = gateway.registry.settle(&caller.owner, id).await?;
    Ok(Json(Deleted::of(settled)))
}

fn no_replay() -> ApiError {
    ApiError::not_there("replay", "nothing is recorded here yet")
}

/// A session's recording: not there yet.
#[utoipa::path(
    get, path = "/{id}/replay", tag = "sessions", operation_id = "getReplay",
    params(("id" = uuid::Uuid, Path)),
    responses(Failures, NoSession, NotStarted)
)]
pub(super) async fn replay(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Session(id): Session,
) -> Result<StatusCode, ApiError> {
    gateway.registry.get(&caller.owner, id).await?;
    Err(no_replay())
}

/// A page of a session's recording: not there yet.
#[utoipa::path(
    get, path = "/{id}/replay/{page}", tag = "sessions", operation_id = "getReplayPage",
    params(("id" = uuid::Uuid, Path), ("page" = String, Path, pattern = "^[0-9]{1,3}$")),
    responses(Failures, NoSession, NotStarted)
)]
pub(super) async fn replay_page(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Params((id, page)): Params<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let digits = page.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || page.is_empty() || page.len() > MAX_PAGE_DIGITS {
        return Err(ApiError::bad_field("page", "is no number").message("Invalid pageId."));
    }
    let Ok(id) = id.parse() else {
        return Err(ApiError::bad_field("id", "is not a UUID"));
    };
    gateway.registry.get(&caller.owner, id).await?;
    Err(no_replay())
}

/// A profile that is gone.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProfileDeleted {
    success: bool,
}

/// Deletes a saved profile; no error when there is none.
#[utoipa::path(
    delete, path = "/profiles/{name}", tag = "sessions", operation_id = "deleteProfile",
    params(("name" = String, Path, min_length = 1, max_length = 128)),
    responses((status = 200, body = ProfileDeleted), Failures, ProfileInUse)
)]
pub(super) async fn delete_profile(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
    Params(name): Params<String>,
) -> Result<Json<ProfileDeleted>, ApiError> {
    let name = profile_name("name", name)?;
    let deleted = gateway.registry.delete_profile(&caller.owner, &name).await;
    deleted.map_err(|error| match error {
        session::Error::Profile(error) if matches!(*error, profile::Error::Store(_)) => {
            ApiError::of_profile(&error).message("Failed to delete profile.")
        }
        error => error.into(),
    })?;
    Ok(Json(ProfileDeleted { success: true }))
}
