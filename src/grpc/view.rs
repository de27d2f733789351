//! Domain → wire: sessions, events and reports as a caller sees them.

use std::time::{Duration, SystemTime};

use super::{network, v1};
use crate::cdp::{HubEvent, Page};
use crate::execution::{ExecutionReport, Outcome};
use crate::limits::Bytes;
use crate::profile::ProfileView;
use crate::session::{EndReason, SessionEvent, SessionView, State, Text};

pub(super) fn session(view: SessionView) -> v1::Session {
    v1::Session {
        id: view.id.to_string(),
        state: state(view.state).into(),
        end_reason: view
            .end_reason
            .map_or(v1::EndReason::Unspecified, end_reason)
            .into(),
        end_detail: view.end_detail,
        create_time: Some(timestamp(view.create_time)),
        expire_time: Some(timestamp(view.expire_time)),
        end_time: view.end_time.map(timestamp),
        ttl: Some(duration(view.ttl)),
        idle_ttl: Some(duration(view.idle_ttl)),
        running_executions: view.running_executions,
        total_executions: view.total_executions,
        url: view.url,
        title: view.title,
        labels: view.labels.into_iter().collect(),
        start_error: view.start_error.unwrap_or_default(),
        isolation: Some(v1::Isolation {
            full: view.degraded.is_empty(),
            degraded: view.degraded.to_vec(),
        }),
        network: Some(network::usage(view.network)),
        limits: Some(v1::SessionLimits {
            memory_bytes: view.limits.memory.0,
            processes: view.limits.processes,
            cpu_percent: view.limits.cpu_percent,
            scratch_bytes: view.limits.scratch.0,
            scratch_inodes: view.limits.scratch_inodes,
        }),
        execution_limits: Some(v1::ExecutionLimits {
            memory_bytes: view.execution_limits.memory.0,
            processes: view.execution_limits.processes,
            cpu_percent: view.execution_limits.cpu_percent,
            open_files: view.execution_limits.open_files,
            file_size_bytes: view.execution_limits.file_size.0,
        }),
        profile: view.profile.map(|profile| v1::SessionProfile {
            name: profile.using.name.to_string(),
            save_changes: profile.using.save_changes,
            save_time: profile.saved_at.map(timestamp),
            save_error: profile.save_error.unwrap_or_default(),
        }),
        human_control: view.human_control,
        warm: view.warm,
    }
}

pub(super) fn profile(view: ProfileView) -> v1::Profile {
    v1::Profile {
        name: view.name.to_string(),
        size_bytes: view.size.0,
        save_time: Some(timestamp(view.saved_at)),
        cookies: view.cookies.into_iter().collect(),
        browser: view.browser,
        writer_session_id: view.writer.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// From created to ended; nothing while it lives.
pub(super) fn lifetime(view: &SessionView) -> Option<prost_types::Duration> {
    let end = view.end_time?;
    // A clock set back in between gives zero.
    Some(duration(
        end.duration_since(view.create_time).unwrap_or_default(),
    ))
}

fn state(state: State) -> v1::SessionState {
    match state {
        State::Starting => v1::SessionState::Starting,
        State::Ready => v1::SessionState::Ready,
        State::Stopping => v1::SessionState::Stopping,
        State::Stopped => v1::SessionState::Stopped,
        State::Failed => v1::SessionState::Failed,
    }
}

fn end_reason(reason: EndReason) -> v1::EndReason {
    match reason {
        EndReason::Stopped => v1::EndReason::Stopped,
        EndReason::TtlExpired => v1::EndReason::TtlExpired,
        EndReason::IdleExpired => v1::EndReason::IdleExpired,
        EndReason::OneShotDone => v1::EndReason::OneShotDone,
        EndReason::Drained => v1::EndReason::Drained,
        EndReason::BrowserCrashed => v1::EndReason::BrowserCrashed,
        EndReason::StartFailed => v1::EndReason::StartFailed,
        EndReason::Abandoned => v1::EndReason::Abandoned,
    }
}

pub(super) fn session_event(event: SessionEvent) -> v1::WatchSessionResponse {
    use v1::watch_session_response::Event;
    let (time, event) = match event {
        SessionEvent::State(view) => (SystemTime::now(), Event::Session(session(*view))),
        SessionEvent::Page(time, HubEvent::PageOpened(page)) => {
            (time, Event::PageOpened(page_event(page)))
        }
        SessionEvent::Page(time, HubEvent::PageChanged(page)) => {
            (time, Event::PageChanged(page_event(page)))
        }
        SessionEvent::Page(time, HubEvent::PageClosed(page)) => {
            (time, Event::PageClosed(page_event(page)))
        }
        SessionEvent::Page(time, HubEvent::PageActivated(page)) => {
            (time, Event::PageActivated(page_event(page)))
        }
        SessionEvent::Request(request) => {
            let time = request.end_time.unwrap_or(request.start_time);
            (time, Event::NetworkRequest(network::request(request)))
        }
        SessionEvent::Asked { time, reason } => {
            let reason = reason.unwrap_or_default();
            (time, Event::HumanAsked(v1::HumanAsked { reason }))
        }
        SessionEvent::Control { time, human } => {
            (time, Event::ControlChanged(v1::ControlChanged { human }))
        }
        SessionEvent::Dropped(count) => (
            SystemTime::now(),
            Event::EventsDropped(v1::EventsDropped { count }),
        ),
    };
    v1::WatchSessionResponse {
        time: Some(timestamp(time)),
        event: Some(event),
    }
}

fn page_event(page: Page) -> v1::PageEvent {
    v1::PageEvent {
        target_id: page.target_id,
        url: page.url,
        title: page.title,
    }
}

/// The reply of an execution; a stream gives its output apart and leaves it empty here.
pub(super) fn report(report: ExecutionReport, stdout: Text, stderr: Text) -> v1::ExecuteResponse {
    v1::ExecuteResponse {
        execution_id: report.execution_id.to_string(),
        session_id: report.session_id.to_string(),
        outcome: outcome(report.outcome).into(),
        success: report.outcome == Outcome::Completed,
        exit_code: report.exit_code,
        killed: report.killed,
        stdout: stdout.text,
        stderr: stderr.text,
        result: report.result,
        error: report.error.map(|error| v1::ExecutionError {
            name: error.name,
            message: error.message,
        }),
        stdout_truncated: report.stdout_truncated,
        stderr_truncated: report.stderr_truncated,
        result_truncated: report.result_truncated,
        stdout_lossy: stdout.lossy,
        stderr_lossy: stderr.lossy,
        start_time: Some(timestamp(report.start_time)),
        end_time: Some(timestamp(report.end_time)),
        duration: Some(duration(report.duration)),
        peak_memory_bytes: report.peak_memory.map_or(0, |Bytes(bytes)| bytes),
        cpu_time: Some(duration(report.cpu_time)),
        context_restarted: report.context_restarted,
        page_replaced: report.page_replaced,
        url: report.url,
        title: report.title,
        limits_hit: Some(v1::LimitsHit {
            oom_kills: report.limits_hit.oom_kills,
            forks_refused: report.limits_hit.forks_refused,
            cpu_throttled: Some(duration(report.limits_hit.cpu_throttled)),
        }),
    }
}

fn outcome(outcome: Outcome) -> v1::Outcome {
    match outcome {
        Outcome::Completed => v1::Outcome::Completed,
        Outcome::Failed => v1::Outcome::Failed,
        Outcome::TimedOut => v1::Outcome::TimedOut,
        Outcome::OutOfMemory => v1::Outcome::OutOfMemory,
        Outcome::OutputLimit => v1::Outcome::OutputLimit,
        Outcome::Cancelled => v1::Outcome::Cancelled,
        Outcome::BrowserCrashed => v1::Outcome::BrowserCrashed,
        Outcome::RunnerCrashed => v1::Outcome::RunnerCrashed,
    }
}

pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::egress::NetworkUsage;
    use crate::execution::{ExecutionError, ExecutionLimits, LimitsHit, SessionLimits};
    use crate::id::{ExecutionId, SessionId};
    use crate::profile::Use;
    use crate::session::ProfileInUse;
    use crate::session::Token;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn wire_time(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn wire_duration(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos })
    }

    fn view() -> SessionView {
        SessionView {
            id: SessionId::generate(),
            state: State::Failed,
            end_reason: Some(EndReason::BrowserCrashed),
            end_detail: "signal 11".into(),
            create_time: at(100),
            expire_time: at(700),
            end_time: Some(at(160)),
            ttl: Duration::from_secs(600),
            idle_ttl: Duration::from_secs(300),
            last_activity: at(150),
            cdp_token: Token::generate(),
            live_tokens: None,
            human_control: false,
            running_executions: 1,
            total_executions: 2,
            url: "https://a/".into(),
            title: "A".into(),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            start_error: Some("refused".into()),
            degraded: Arc::from(["no cgroup".to_owned()]),
            network: NetworkUsage {
                requests: 4,
                refused: 3,
                sent: Bytes(2),
                received: Bytes(1),
            },
            limits: SessionLimits {
                memory: Bytes(11),
                processes: 12,
                cpu_percent: 13,
                scratch: Bytes(14),
                scratch_inodes: 15,
            },
            execution_limits: ExecutionLimits {
                memory: Bytes(21),
                processes: 22,
                cpu_percent: 23,
                open_files: 24,
                file_size: Bytes(25),
            },
            profile: Some(ProfileInUse {
                using: Use {
                    name: "p".to_owned().try_into().unwrap(),
                    save_changes: true,
                },
                saved_at: Some(at(150)),
                save_error: Some("full".into()),
            }),
            warm: true,
        }
    }

    #[test]
    fn a_session_arrives_whole() {
        let view = view();
        assert_eq!(lifetime(&view), wire_duration(60, 0));
        let id = view.id.to_string();
        assert_eq!(
            session(view),
            v1::Session {
                id,
                state: v1::SessionState::Failed.into(),
                end_reason: v1::EndReason::BrowserCrashed.into(),
                end_detail: "signal 11".into(),
                create_time: wire_time(100),
                expire_time: wire_time(700),
                end_time: wire_time(160),
                ttl: wire_duration(600, 0),
                idle_ttl: wire_duration(300, 0),
                running_executions: 1,
                total_executions: 2,
                url: "https://a/".into(),
                title: "A".into(),
                labels: [("k".to_owned(), "v".to_owned())].into(),
                start_error: "refused".into(),
                isolation: Some(v1::Isolation {
                    full: false,
                    degraded: vec!["no cgroup".into()],
                }),
                network: Some(v1::NetworkUsage {
                    requests: 4,
                    refused: 3,
                    sent_bytes: 2,
                    received_bytes: 1,
                }),
                limits: Some(v1::SessionLimits {
                    memory_bytes: 11,
                    processes: 12,
                    cpu_percent: 13,
                    scratch_bytes: 14,
                    scratch_inodes: 15,
                }),
                execution_limits: Some(v1::ExecutionLimits {
                    memory_bytes: 21,
                    processes: 22,
                    cpu_percent: 23,
                    open_files: 24,
                    file_size_bytes: 25,
                }),
                profile: Some(v1::SessionProfile {
                    name: "p".into(),
                    save_changes: true,
                    save_time: wire_time(150),
                    save_error: "full".into(),
                }),
                human_control: false,
                warm: true,
            }
        );
    }

    #[test]
    fn a_report_arrives_whole() {
        let (execution_id, session_id) = (ExecutionId::generate(), SessionId::generate());
        let text = |text: &str, lossy| Text {
            text: text.into(),
            lossy,
        };
        let wire = report(
            ExecutionReport {
                execution_id,
                session_id,
                outcome: Outcome::Failed,
                exit_code: 1,
                killed: false,
                result: Some("r".into()),
                error: Some(ExecutionError {
                    name: "TypeError".into(),
                    message: "m".into(),
                }),
                stdout_truncated: true,
                stderr_truncated: false,
                result_truncated: true,
                start_time: at(1),
                end_time: at(2),
                duration: Duration::from_millis(1500),
                peak_memory: Some(Bytes(9)),
                cpu_time: Duration::from_nanos(7),
                limits_hit: LimitsHit {
                    oom_kills: 31,
                    forks_refused: 32,
                    cpu_throttled: Duration::from_nanos(33),
                },
                context_restarted: true,
                page_replaced: true,
                url: "u".into(),
                title: "t".into(),
            },
            text("o", true),
            text("e", false),
        );
        assert_eq!(
            wire,
            v1::ExecuteResponse {
                execution_id: execution_id.to_string(),
                session_id: session_id.to_string(),
                outcome: v1::Outcome::Failed.into(),
                success: false,
                exit_code: 1,
                killed: false,
                stdout: "o".into(),
                stderr: "e".into(),
                result: Some("r".into()),
                error: Some(v1::ExecutionError {
                    name: "TypeError".into(),
                    message: "m".into(),
                }),
                stdout_truncated: true,
                stderr_truncated: false,
                result_truncated: true,
                stdout_lossy: true,
                stderr_lossy: false,
                start_time: wire_time(1),
                end_time: wire_time(2),
                duration: wire_duration(1, 500_000_000),
                peak_memory_bytes: 9,
                cpu_time: wire_duration(0, 7),
                context_restarted: true,
                page_replaced: true,
                url: "u".into(),
                title: "t".into(),
                limits_hit: Some(v1::LimitsHit {
                    oom_kills: 31,
                    forks_refused: 32,
                    cpu_throttled: wire_duration(0, 33),
                }),
            }
        );
    }

    #[test]
    fn only_completed_is_a_success() {
        for (domain, wire) in [
            (Outcome::Completed, v1::Outcome::Completed),
            (Outcome::TimedOut, v1::Outcome::TimedOut),
            (Outcome::OutOfMemory, v1::Outcome::OutOfMemory),
            (Outcome::OutputLimit, v1::Outcome::OutputLimit),
            (Outcome::Cancelled, v1::Outcome::Cancelled),
            (Outcome::RunnerCrashed, v1::Outcome::RunnerCrashed),
        ] {
            assert_eq!(outcome(domain), wire);
        }
    }
}
