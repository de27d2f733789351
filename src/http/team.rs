//! What a caller has used, and how much of the daemon is in use.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Failures;
use super::extract::Caller;
use super::time::iso;
use super::{ApiError, Gateway};
use crate::session::State as S;
use crate::tenant::month_of;

/// Said to be left where nothing limits what may be used: clients want a number.
const NO_BUDGET: u64 = 1_000_000_000;
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
pub(super) async fn credit_usage(
    State(gateway): State<Gateway>,
    Caller(caller): Caller,
) -> Result<Json<CreditUsage>, ApiError> {
    let now = SystemTime::now();
    let (start, end) = month_of(now);
    let data = match caller.budget {
        None => Credits {
            remaining_credits: NO_BUDGET,
            plan_credits: NO_BUDGET,
            billing_period_start: None,
            billing_period_end: None,
        },
        Some(budget) => {
            let used = gateway.registry.usage(&caller.owner, now).await?.credits;
            let plan_credits = u64::from(budget);
            Credits {
                remaining_credits: plan_credits.saturating_sub(used),
                plan_credits,
                billing_period_start: Some(iso(start)),
                billing_period_end: Some(iso(end)),
            }
        }
    };
    Ok(Json(CreditUsage {
        success: true,
        data,
    }))
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
    /// Calls waiting for room for their session.
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
    let waiting = registry.waiting(&caller.owner);
    let stopped = known.iter().filter(|view| view.state == S::Stopped);
    Json(QueueStatus {
        success: true,
        jobs_in_queue: active + waiting,
        active_jobs_in_queue: active,
        waiting_jobs_in_queue: waiting,
        max_concurrency: registry.max_sessions().min(caller.max_sessions),
        most_recent_success: stopped.filter_map(|view| view.end_time).max().map(iso),
    })
}
