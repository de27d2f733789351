//! What a caller has used, and how much of the daemon is in use.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Gateway;
use super::error::Failures;
use super::extract::Caller;
use super::time::{iso, millis};
use crate::session::{SessionView, State as S};
use crate::tenant;

/// Said to be left where nothing limits what may be used: clients want a number.
const NO_BUDGET: u64 = 1_000_000_000;
/// Credits for an hour of a session, and at least.
const CREDITS_PER_HOUR: u64 = 120;
const LEAST_CREDITS: u64 = 2;
const HOUR_MILLIS: u64 = 3_600_000;

/// What a session has cost, in credits.
pub(super) fn credits(view: &SessionView) -> u64 {
    let used = lived_millis(view).saturating_mul(CREDITS_PER_HOUR);
    used.div_ceil(HOUR_MILLIS).max(LEAST_CREDITS)
}

/// How long a session lived, or lives already, in milliseconds.
pub(super) fn lived_millis(view: &SessionView) -> u64 {
    let end = view.end_time.unwrap_or_else(std::time::SystemTime::now);
    // A clock set back in between gives zero.
    millis(end.duration_since(view.create_time).unwrap_or_default())
}

/// What a caller may use in credits; `None` without a bound.
fn budget(_: &tenant::Caller) -> Option<u64> {
    None
}

/// What a caller may still use.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreditUsage {
    success: bool,
    data: Credits,
}

/// Credits; a thousand million where there is no budget.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Credits {
    remaining_credits: u64,
    plan_credits: u64,
    billing_period_start: Option<String>,
    billing_period_end: Option<String>,
}

/// What the caller may still use.
#[utoipa::path(
    get, path = "/v2/team/credit-usage", tag = "team",
    responses((status = 200, body = CreditUsage), Failures)
)]
pub(super) async fn credit_usage(Caller(caller): Caller) -> Json<CreditUsage> {
    let budget = budget(&caller).unwrap_or(NO_BUDGET);
    Json(CreditUsage {
        success: true,
        data: Credits {
            remaining_credits: budget,
            plan_credits: budget,
            billing_period_start: None,
            billing_period_end: None,
        },
    })
}

/// The caller's sessions as a queue.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueueStatus {
    success: bool,
    /// Active and waiting ones.
    jobs_in_queue: usize,
    /// Live sessions.
    active_jobs_in_queue: usize,
    /// Callers waiting for room.
    waiting_jobs_in_queue: usize,
    /// Sessions at once at most.
    max_concurrency: usize,
    /// When the last session ended well.
    most_recent_success: Option<String>,
}

/// How many sessions the caller has open, and may have.
#[utoipa::path(
    get, path = "/v2/team/queue-status", tag = "team",
    responses((status = 200, body = QueueStatus), Failures)
)]
pub(super) async fn queue_status(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
) -> Json<QueueStatus> {
    let registry = &gateway.registry;
    let (known, _) = registry.list(&caller.owner, &[], None, usize::MAX);
    let active = known.iter().filter(|view| !view.state.ended()).count();
    let stopped = known.iter().filter(|view| view.state == S::Stopped);
    Json(QueueStatus {
        success: true,
        jobs_in_queue: active,
        active_jobs_in_queue: active,
        waiting_jobs_in_queue: 0,
        max_concurrency: registry.max_sessions().min(caller.max_sessions),
        most_recent_success: stopped.filter_map(|view| view.end_time).max().map(iso),
    })
}
