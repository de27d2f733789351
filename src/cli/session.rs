//! `pagebox session`: sessions of a running daemon.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

mod watch;

use super::limits::{self, SessionLimitArgs};
use super::output::{self, harmless, table};
use super::{Error, NetworkArgs, pair, runtime, seconds};
use crate::config::DEFAULT_LISTEN;
use crate::grpc::{Client, to_json, v1};

/// Sessions asked for in one page of a list.
const PAGE_SIZE: u32 = 500;
/// Characters of a title or URL in a table.
const CELL: usize = 40;

/// Manage the sessions of a running daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  id=$(pagebox session create --url https://example.com)
  pagebox session list --state ready
  pagebox session show $id --json
  pagebox session watch $id
  pagebox session live $id
  pagebox session stop $id
  pagebox session --server http://10.0.0.5:7370 list")]
pub(super) struct Args {
    /// The daemon
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "PAGEBOX_SERVER",
        hide_env_values = true,
        default_value = DEFAULT_LISTEN
    )]
    server: String,
    /// Print the reply as one JSON object; watch prints one on each line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Box<CreateArgs>),
    List(ListArgs),
    Show(IdArgs),
    Watch(WatchArgs),
    Live(LiveArgs),
    Stop(StopArgs),
}

/// Open a session and print its id.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  id=$(pagebox session create)
  pagebox session create --url https://example.com --ttl 20m --idle-ttl 5m --json
  pagebox session create --viewport 390x844 --user-agent 'Mozilla/5.0 (iPhone)' --label team=qa
  pagebox session create --allow example.com --allow '*.example.com' --deny ads.example.com
  pagebox session create --deny 93.184.216.0/24 --max-bytes '100 MiB'
  pagebox session create --memory '1 GiB' --execution-memory '256 MiB' --scratch '64 MiB'
  pagebox session create --profile work --url https://example.com/login
  pagebox session create --offline")]
struct CreateArgs {
    /// Page to open first
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Total life, 30 s to 1 h [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    ttl: Option<prost_types::Duration>,
    /// Life without an execution, 10 s to 1 h [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    idle_ttl: Option<prost_types::Duration>,
    /// Page size in CSS pixels [default: 1280x720]
    #[arg(long, value_name = "WxH", value_parser = viewport)]
    viewport: Option<v1::Viewport>,
    /// Replaces the browser's User-Agent
    #[arg(long, value_name = "TEXT")]
    user_agent: Option<String>,
    /// A label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Saved state to begin with, saved again when the session ends
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Begin with the profile, and leave it as it is
    #[arg(long, requires = "profile")]
    no_save_changes: bool,
    /// Give back the same session when called again with this key
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    limits: SessionLimitArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

/// List sessions, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox session list
  pagebox session list --state ready --state starting --json")]
struct ListArgs {
    /// Only sessions in this state; may be repeated
    #[arg(long, value_enum)]
    state: Vec<State>,
}

/// Show a session, live or ended, and its newest network requests.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox session show 01914a5c-6f6e-7cc0-8d3e-5b7f8c1f2a3b
  pagebox session show $id --json | jq -r .session.state")]
struct IdArgs {
    /// The session's id
    id: String,
}

/// Follow a session: its states, pages and network requests, one line each, until it has ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox session watch 01914a5c-6f6e-7cc0-8d3e-5b7f8c1f2a3b
  pagebox session watch $id --json | jq -r '.networkRequest.rule // empty | select(. != \"\")'")]
struct WatchArgs {
    /// The session's id
    id: String,
}

/// Print the links to a session's live view: one to look, one to look and to act.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox session live 01914a5c-6f6e-7cc0-8d3e-5b7f8c1f2a3b
  xdg-open \"$(pagebox session live $id | tail -n 1)\"
  pagebox session live $id --renew")]
struct LiveArgs {
    /// The session's id
    id: String,
    /// Withdraw the links there are, let out whoever came by them, and make others
    #[arg(long)]
    renew: bool,
}

/// End a session; nothing of it is left when this returns.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pagebox session stop 01914a5c-6f6e-7cc0-8d3e-5b7f8c1f2a3b")]
struct StopArgs {
    /// The session's id
    id: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Starting,
    Ready,
    Stopping,
    Stopped,
    Failed,
}

impl State {
    fn wire(self) -> v1::SessionState {
        match self {
            Self::Starting => v1::SessionState::Starting,
            Self::Ready => v1::SessionState::Ready,
            Self::Stopping => v1::SessionState::Stopping,
            Self::Stopped => v1::SessionState::Stopped,
            Self::Failed => v1::SessionState::Failed,
        }
    }
}

fn viewport(text: &str) -> Result<v1::Viewport, String> {
    text.split_once('x')
        .and_then(|(width, height)| {
            Some(v1::Viewport {
                width: width.parse().ok()?,
                height: height.parse().ok()?,
            })
        })
        .ok_or_else(|| "write WIDTHxHEIGHT, such as 1280x720".to_owned())
}

pub(super) fn run(args: Args) -> Result<ExitCode, Error> {
    runtime()?.block_on(async {
        // An empty variable is an unset one.
        let server = Some(args.server.as_str()).filter(|server| !server.is_empty());
        let server = server.unwrap_or(DEFAULT_LISTEN);
        let mut client = Client::connect(server).await?;
        let text = match args.command {
            Command::Create(create) => {
                let session = client.create_session(request(*create)).await?;
                if args.json {
                    to_json("Session", &session)? + "\n"
                } else {
                    session.id + "\n"
                }
            }
            Command::List(list) => {
                let sessions = all_sessions(&mut client, &list).await?;
                if args.json {
                    to_json("ListSessionsResponse", &sessions)? + "\n"
                } else {
                    list_table(&sessions.sessions)
                }
            }
            Command::Show(show) => {
                let reply = client.get_session(show.id).await?;
                if args.json {
                    to_json("GetSessionResponse", &reply)? + "\n"
                } else {
                    let session = reply.session.unwrap_or_default();
                    details(&session) + &watch::requests_table(&reply.network_requests)
                }
            }
            Command::Watch(watch) => {
                let mut events = client.watch_session(watch.id).await?;
                while let Some(event) = events.next().await? {
                    let line = if args.json {
                        to_json("WatchSessionResponse", &event)?
                    } else {
                        watch::line(&event)
                    };
                    if !output::print_to_reader(&(line + "\n"))? {
                        break;
                    }
                }
                String::new()
            }
            Command::Live(live) => {
                let links = client.live_view(live.id, live.renew).await?;
                if args.json {
                    to_json("LiveView", &links)? + "\n"
                } else if links.view_path.is_empty() {
                    return Err(Error::NoLiveView);
                } else {
                    let scheme = if server.contains("://") {
                        ""
                    } else {
                        "http://"
                    };
                    let origin = format!("{scheme}{}", server.trim_end_matches('/'));
                    let v1::LiveView {
                        view_path,
                        control_path,
                    } = links;
                    format!("{origin}{view_path}\n{origin}{control_path}\n")
                }
            }
            Command::Stop(stop) => {
                let reply = client.stop_session(stop.id).await?;
                if args.json {
                    to_json("StopSessionResponse", &reply)? + "\n"
                } else {
                    let lived = reply.duration.map(rounded).unwrap_or_default();
                    let of_profile = reply.session.unwrap_or_default().profile;
                    let profile = of_profile.filter(|profile| profile.save_changes);
                    let profile =
                        profile.map(|saved| format!("; profile {}", self::profile(&saved)));
                    format!("stopped after {lived}{}\n", profile.unwrap_or_default())
                }
            }
        };
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn request(args: CreateArgs) -> v1::CreateSessionRequest {
    let (limits, execution_limits) = args.limits.wire();
    v1::CreateSessionRequest {
        options: Some(v1::SessionOptions {
            ttl: args.ttl,
            idle_ttl: args.idle_ttl,
            start_url: args.url.unwrap_or_default(),
            viewport: args.viewport,
            user_agent: args.user_agent.unwrap_or_default(),
            labels: args.label.into_iter().collect(),
            network: Some(args.network.wire()),
            limits: Some(limits),
            execution_limits: Some(execution_limits),
            profile: args.profile.map(|name| v1::ProfileOptions {
                name,
                save_changes: Some(!args.no_save_changes),
            }),
            live_view: None,
        }),
        idempotency_key: args.idempotency_key.unwrap_or_default(),
    }
}

/// Every page; the daemon remembers a bounded number of sessions.
async fn all_sessions(
    client: &mut Client,
    args: &ListArgs,
) -> Result<v1::ListSessionsResponse, Error> {
    let mut all = v1::ListSessionsResponse::default();
    let mut page_token = String::new();
    loop {
        let page = client
            .list_sessions(v1::ListSessionsRequest {
                states: args.state.iter().map(|state| state.wire().into()).collect(),
                page_size: PAGE_SIZE,
                page_token,
            })
            .await?;
        all.sessions.extend(page.sessions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

fn list_table(sessions: &[v1::Session]) -> String {
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .map(|session| {
            vec![
                session.id.clone(),
                state_name(session),
                time(session.create_time),
                session.running_executions.to_string(),
                session.total_executions.to_string(),
                harmless(&session.url, CELL),
                harmless(&session.title, CELL),
            ]
        })
        .collect();
    let header = ["ID", "STATE", "CREATED", "RUNNING", "TOTAL", "URL", "TITLE"];
    table(&header, &rows)
}

fn details(session: &v1::Session) -> String {
    let mut labels: Vec<String> = session
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={}", harmless(value, usize::MAX)))
        .collect();
    labels.sort();
    let isolation = session.isolation.clone().unwrap_or_default();
    let lifetime =
        |duration: Option<prost_types::Duration>| duration.map(rounded).unwrap_or_default();
    let end_reason = match session.end_reason() {
        v1::EndReason::Unspecified => String::new(),
        reason => short_name(reason.as_str_name(), "END_REASON_"),
    };
    let rows = [
        ("id", session.id.clone()),
        ("state", state_name(session)),
        ("end reason", end_reason),
        ("end detail", session.end_detail.clone()),
        ("created", time(session.create_time)),
        ("expires", time(session.expire_time)),
        ("ended", time(session.end_time)),
        ("ttl", lifetime(session.ttl)),
        ("idle ttl", lifetime(session.idle_ttl)),
        ("running", session.running_executions.to_string()),
        ("executions", session.total_executions.to_string()),
        (
            "network",
            session.network.map_or_else(String::new, watch::usage),
        ),
        (
            "limits",
            session
                .limits
                .as_ref()
                .map_or_else(String::new, limits::session_line),
        ),
        (
            "of contexts",
            session
                .execution_limits
                .as_ref()
                .map_or_else(String::new, limits::execution_line),
        ),
        ("url", session.url.clone()),
        ("title", session.title.clone()),
        ("labels", labels.join(" ")),
        ("start error", session.start_error.clone()),
        (
            "warm",
            if session.warm {
                "yes: it stood ready".to_owned()
            } else {
                String::new()
            },
        ),
        (
            "profile",
            session.profile.as_ref().map_or_else(String::new, profile),
        ),
        (
            "isolation",
            if isolation.full {
                "full".to_owned()
            } else {
                isolation.degraded.join("; ")
            },
        ),
    ];
    rows.iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:<12} {}\n", harmless(value, usize::MAX)))
        .collect()
}

fn profile(profile: &v1::SessionProfile) -> String {
    let saved = match (profile.save_changes, &*profile.save_error) {
        (false, _) => "is not saved".to_owned(),
        (true, "") => match profile.save_time {
            Some(at) => format!("saved {}", time(Some(at))),
            None => "is saved at the end".to_owned(),
        },
        (true, error) => format!("not saved: {error}"),
    };
    format!("{} ({saved})", profile.name)
}

fn state_name(session: &v1::Session) -> String {
    short_name(session.state().as_str_name(), "SESSION_STATE_")
}

/// `SESSION_STATE_READY` → `ready`.
fn short_name(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix)
        .to_ascii_lowercase()
        .replace('_', "-")
}

/// To the millisecond: `9s 360ms`.
fn rounded(duration: prost_types::Duration) -> String {
    let millis = std::time::Duration::try_from(duration)
        .map_or(0, |duration| duration.as_millis())
        .try_into()
        .unwrap_or(u64::MAX);
    humantime::format_duration(std::time::Duration::from_millis(millis)).to_string()
}

/// To the second, in UTC.
pub(super) fn time(time: Option<prost_types::Timestamp>) -> String {
    time.map(|time| prost_types::Timestamp { nanos: 0, ..time }.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> v1::Session {
        v1::Session {
            id: "0190".into(),
            state: v1::SessionState::Ready.into(),
            create_time: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 5,
            }),
            ttl: Some(prost_types::Duration {
                seconds: 600,
                nanos: 0,
            }),
            total_executions: 3,
            url: "https://a/".into(),
            title: "A\x1b]0;x\x07".into(),
            isolation: Some(v1::Isolation {
                full: true,
                degraded: Vec::new(),
            }),
            ..v1::Session::default()
        }
    }

    #[test]
    fn a_list_is_a_table() {
        let text = list_table(&[session()]);
        assert_eq!(
            text,
            "ID    STATE  CREATED               RUNNING  TOTAL  URL         TITLE\n\
             0190  ready  1970-01-01T00:00:00Z  0        3      https://a/  A ]0;x\n"
        );
    }

    #[test]
    fn details_leave_out_what_is_empty() {
        let text = details(&session());
        assert!(
            text.contains("id           0190\nstate        ready\ncreated"),
            "{text}"
        );
        assert!(text.contains("isolation    full\n"), "{text}");
        assert!(!text.contains("start error"), "{text}");
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn viewports_have_two_numbers() {
        let expected = v1::Viewport {
            width: 800,
            height: 600,
        };
        assert_eq!(viewport("800x600"), Ok(expected));
        for text in ["", "800", "x", "-1x5", "800x600x2"] {
            viewport(text).unwrap_err();
        }
    }
}
