//! Wire → domain: reads request fields, and refuses those that are not as they must be by the name
//! a caller knows them by (`options.one_shot.ttl`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Limits, v1};
use crate::egress::{MAX_RULES, NetworkOptions, Proxy, ProxyError, Rule};
use crate::execution::{
    BadRequest, DEFAULT_TIMEOUT, ExecutionLimits, ExecutionOptions, Language, OutputLimits,
    SessionLimits,
};
use crate::id::{ExecutionId, SessionId};
use crate::limits::Bytes;
use crate::session::{Place, SessionOptions, State};

/// Longest idempotency key.
const MAX_KEY_BYTES: usize = 128;
/// Sessions on a page when nothing is said, and at most.
const DEFAULT_PAGE_SIZE: usize = 100;
const MAX_PAGE_SIZE: u32 = 1000;
/// First part of a page token; another meaning gets another one.
const TOKEN_PREFIX: &str = "after:";

/// A request field that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub(super) struct FieldError {
    /// Path of the field from the request's root.
    pub(super) field: String,
    /// What is wrong with it.
    pub(super) message: String,
}

impl FieldError {
    pub(super) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }

    /// A complaint of the layers below about a field of the message at `prefix`.
    fn under(prefix: &str, bad: BadRequest) -> Self {
        Self::new(format!("{prefix}{}", bad.field), bad.message)
    }

    /// From prost's description: `Inner.field: Outer.field: what is wrong`.
    pub(super) fn undecodable(description: &str) -> Self {
        let mut path = Vec::new();
        let mut rest = description;
        while let Some((head, tail)) = rest.split_once(": ") {
            let Some((_, field)) = head.split_once('.').filter(|_| !head.contains(' ')) else {
                break;
            };
            path.insert(0, field);
            rest = tail;
        }
        Self::new(path.join("."), rest)
    }
}

pub(super) fn session_id(field: &str, text: &str) -> Result<SessionId, FieldError> {
    text.parse().map_err(|_| not_a_uuid(field, text))
}

pub(super) fn execution_id(field: &str, text: &str) -> Result<ExecutionId, FieldError> {
    text.parse().map_err(|_| not_a_uuid(field, text))
}

fn not_a_uuid(field: &str, text: &str) -> FieldError {
    let message = if text.is_empty() {
        "must be given"
    } else {
        "is not a UUID"
    };
    FieldError::new(field, message)
}

/// A duration that is not negative; its range is for the layer below to check.
fn duration(
    field: String,
    wire: Option<prost_types::Duration>,
    default: Duration,
) -> Result<Duration, FieldError> {
    let Some(wire) = wire else {
        return Ok(default);
    };
    if wire.seconds < 0 || wire.nanos < 0 {
        return Err(FieldError::new(field, "must not be negative"));
    }
    match (u64::try_from(wire.seconds), u32::try_from(wire.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(FieldError::new(
            field,
            "is not a duration: nanos must be below 1,000,000,000",
        )),
    }
}

fn not_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(super) fn session_options(
    prefix: &str,
    wire: Option<v1::SessionOptions>,
    limits: Limits,
) -> Result<SessionOptions, FieldError> {
    let wire = wire.unwrap_or_default();
    let default = SessionOptions::default();
    let options = SessionOptions {
        ttl: duration(format!("{prefix}ttl"), wire.ttl, default.ttl)?,
        idle_ttl: duration(format!("{prefix}idle_ttl"), wire.idle_ttl, default.idle_ttl)?,
        start_url: not_empty(wire.start_url),
        viewport: wire
            .viewport
            .map_or(default.viewport, |size| (size.width, size.height)),
        user_agent: not_empty(wire.user_agent),
        labels: wire.labels.into_iter().collect(),
        network: network(
            &format!("{prefix}network."),
            wire.network.unwrap_or_default(),
            limits.traffic,
        )?,
        limits: session_limits(wire.limits.unwrap_or_default()),
        execution_limits: execution_limits(wire.execution_limits.unwrap_or_default()),
    };
    options
        .validate()
        .map_err(|bad| FieldError::under(prefix, bad))?;
    Ok(options)
}

/// The registry holds them against what is allowed.
fn session_limits(wire: v1::SessionLimits) -> SessionLimits {
    SessionLimits {
        memory: Bytes(wire.memory_bytes),
        processes: wire.processes,
        cpu_percent: wire.cpu_percent,
        scratch: Bytes(wire.scratch_bytes),
        scratch_inodes: wire.scratch_inodes,
    }
}

/// As [`session_limits`].
fn execution_limits(wire: v1::ExecutionLimits) -> ExecutionLimits {
    ExecutionLimits {
        memory: Bytes(wire.memory_bytes),
        processes: wire.processes,
        cpu_percent: wire.cpu_percent,
        open_files: wire.open_files,
        file_size: Bytes(wire.file_size_bytes),
    }
}

fn network(
    prefix: &str,
    wire: v1::NetworkOptions,
    most: Bytes,
) -> Result<NetworkOptions, FieldError> {
    let rules = |list: &str, texts: Vec<String>| {
        let parse = |(index, text): (usize, String)| {
            text.parse::<Rule>().map_err(|error| {
                FieldError::new(format!("{prefix}{list}[{index}]"), error.to_string())
            })
        };
        texts
            .into_iter()
            .enumerate()
            // One too many is refused for being one; what follows need not be read.
            .take(MAX_RULES + 1)
            .map(parse)
            .collect::<Result<Vec<_>, _>>()
    };
    let proxy = |wire: v1::Proxy| {
        Proxy::new(&wire.server, &wire.username, &wire.password).map_err(|error| {
            let field = match error {
                ProxyError::Server(_) | ProxyError::UserInfo => "server",
                ProxyError::Username => "username",
                ProxyError::Password => "password",
            };
            FieldError::new(format!("{prefix}proxy.{field}"), error.to_string())
        })
    };
    let max_bytes = Bytes(wire.max_bytes);
    if max_bytes > most {
        return Err(FieldError::new(
            format!("{prefix}max_bytes"),
            format!("is {max_bytes}, more than this daemon's limit of {most}"),
        ));
    }
    Ok(NetworkOptions {
        allow: rules("allow", wire.allow)?,
        deny: rules("deny", wire.deny)?,
        offline: wire.offline,
        proxy: wire.proxy.map(proxy).transpose()?,
        max_bytes: (max_bytes != Bytes(0)).then_some(max_bytes),
    })
}

pub(super) fn idempotency_key(key: String) -> Result<Option<String>, FieldError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(FieldError::new(
            "idempotency_key",
            format!("is {} bytes long, more than {MAX_KEY_BYTES}", key.len()),
        ));
    }
    Ok(not_empty(key))
}

/// What is to run and where, checked in full.
pub(super) fn execution(
    wire: Option<v1::ExecutionOptions>,
    limits: Limits,
) -> Result<(Place, ExecutionOptions), FieldError> {
    const PREFIX: &str = "options.";
    let wire = wire.ok_or_else(|| FieldError::new("options", "must be given"))?;
    let options = ExecutionOptions {
        language: language(wire.language)?,
        code: wire.code,
        timeout: duration("options.timeout".to_owned(), wire.timeout, DEFAULT_TIMEOUT)?,
        fresh: wire.fresh,
        environment: wire.environment.into_iter().collect(),
        output_limits: output_limits(wire.output_limits.unwrap_or_default(), limits.output)?,
        limits: execution_limits(wire.limits.unwrap_or_default()),
        origin: wire.origin,
        id: not_empty(wire.execution_id)
            .map(|id| execution_id("options.execution_id", &id))
            .transpose()?,
    };
    options
        .validate()
        .map_err(|bad| FieldError::under(PREFIX, bad))?;
    let place = match wire.place {
        Some(v1::execution_options::Place::SessionId(id)) => {
            Place::Session(session_id("options.session_id", &id)?)
        }
        Some(v1::execution_options::Place::OneShot(session)) => Place::OneShot(Box::new(
            session_options("options.one_shot.", Some(session), limits)?,
        )),
        None => {
            return Err(FieldError::new(
                "options.session_id",
                "either it or one_shot must be given",
            ));
        }
    };
    Ok((place, options))
}

fn language(wire: i32) -> Result<Language, FieldError> {
    match v1::Language::try_from(wire) {
        Ok(v1::Language::Unspecified | v1::Language::Node) => Ok(Language::Node),
        Ok(v1::Language::Python) => Ok(Language::Python),
        Ok(v1::Language::Bash) => Ok(Language::Bash),
        Err(_) => Err(FieldError::new(
            "options.language",
            format!("{wire} is no language"),
        )),
    }
}

fn output_limits(wire: v1::OutputLimits, most: OutputLimits) -> Result<OutputLimits, FieldError> {
    let limit = |name: &str, asked: u64, most: Bytes| match Bytes(asked) {
        Bytes(0) => Ok(most),
        asked if asked <= most => Ok(asked),
        asked => Err(FieldError::new(
            format!("options.output_limits.{name}"),
            format!("is {asked}, more than this daemon's limit of {most}"),
        )),
    };
    Ok(OutputLimits {
        stdout: limit("stdout_bytes", wire.stdout_bytes, most.stdout)?,
        stderr: limit("stderr_bytes", wire.stderr_bytes, most.stderr)?,
        result: limit("result_bytes", wire.result_bytes, most.result)?,
    })
}

pub(super) fn states(wire: &[i32]) -> Result<Vec<State>, FieldError> {
    wire.iter()
        .map(|&state| match v1::SessionState::try_from(state) {
            Ok(v1::SessionState::Starting) => Ok(State::Starting),
            Ok(v1::SessionState::Ready) => Ok(State::Ready),
            Ok(v1::SessionState::Stopping) => Ok(State::Stopping),
            Ok(v1::SessionState::Stopped) => Ok(State::Stopped),
            Ok(v1::SessionState::Failed) => Ok(State::Failed),
            Ok(v1::SessionState::Unspecified) | Err(_) => {
                Err(FieldError::new("states", format!("{state} is no state")))
            }
        })
        .collect()
}

pub(super) fn page_size(wire: u32) -> Result<usize, FieldError> {
    match wire {
        0 => Ok(DEFAULT_PAGE_SIZE),
        1..=MAX_PAGE_SIZE => Ok(wire as usize),
        _ => Err(FieldError::new(
            "page_size",
            format!("is {wire}, must be 1 to {MAX_PAGE_SIZE}"),
        )),
    }
}

/// The last session of the page before.
pub(super) fn page_token(token: &str) -> Result<Option<SessionId>, FieldError> {
    if token.is_empty() {
        return Ok(None);
    }
    URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix(TOKEN_PREFIX)?.parse().ok())
        .map(Some)
        .ok_or_else(|| FieldError::new("page_token", "is not one this daemon gave out"))
}

/// The opposite of [`page_token`]; empty on the last page.
pub(super) fn next_page_token(last: Option<SessionId>) -> String {
    last.map_or_else(String::new, |id| {
        URL_SAFE_NO_PAD.encode(format!("{TOKEN_PREFIX}{id}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        output: OutputLimits {
            stdout: Bytes::mib(10),
            stderr: Bytes::mib(10),
            result: Bytes::mib(32),
        },
        message: Bytes::mib(64),
        traffic: Bytes::gib(1),
    };

    fn request() -> v1::ExecutionOptions {
        v1::ExecutionOptions {
            place: Some(v1::execution_options::Place::SessionId(
                SessionId::generate().to_string(),
            )),
            code: "1".to_owned(),
            ..v1::ExecutionOptions::default()
        }
    }

    fn refused(change: impl FnOnce(&mut v1::ExecutionOptions)) -> String {
        let mut wire = request();
        change(&mut wire);
        execution(Some(wire), LIMITS).unwrap_err().field
    }

    fn wire_duration(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos })
    }

    #[test]
    fn every_bad_field_of_an_execution_is_named() {
        assert_eq!(execution(None, LIMITS).unwrap_err().field, "options");
        assert_eq!(refused(|o| o.place = None), "options.session_id");
        assert_eq!(
            refused(|o| o.place = Some(v1::execution_options::Place::SessionId("tab-1".into()))),
            "options.session_id"
        );
        assert_eq!(
            refused(|o| {
                let options = v1::SessionOptions {
                    ttl: wire_duration(-1, 0),
                    ..v1::SessionOptions::default()
                };
                o.place = Some(v1::execution_options::Place::OneShot(options));
            }),
            "options.one_shot.ttl"
        );
        assert_eq!(refused(|o| o.language = 9), "options.language");
        assert_eq!(refused(|o| o.code.clear()), "options.code");
        assert_eq!(refused(|o| o.code = "x".repeat(100_001)), "options.code");
        for (seconds, nanos) in [
            (-1, 0),
            (0, -1),
            (1, 1_000_000_000),
            (i64::MAX, i32::MAX),
            (0, 0),
            (0, 999_999_999),
            (300, 1),
        ] {
            assert_eq!(
                refused(|o| o.timeout = wire_duration(seconds, nanos)),
                "options.timeout",
                "{seconds} {nanos}"
            );
        }
        assert_eq!(
            refused(|o| {
                o.environment.insert("PATH".into(), "/".into());
            }),
            "options.environment"
        );
        assert_eq!(refused(|o| o.origin = "x".repeat(129)), "options.origin");
        assert_eq!(
            refused(|o| o.execution_id = "../1".into()),
            "options.execution_id"
        );
        for (change, field) in [
            (
                (|l| l.stdout_bytes = u64::MAX) as fn(&mut v1::OutputLimits),
                "options.output_limits.stdout_bytes",
            ),
            (
                |l| l.stderr_bytes = (10 << 20) + 1,
                "options.output_limits.stderr_bytes",
            ),
            (
                |l| l.result_bytes = (32 << 20) + 1,
                "options.output_limits.result_bytes",
            ),
        ] {
            assert_eq!(
                refused(|o| change(o.output_limits.get_or_insert_default())),
                field
            );
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let (place, options) = execution(Some(request()), LIMITS).unwrap();
        assert!(matches!(place, Place::Session(_)));
        assert_eq!(options, ExecutionOptions::new(Language::Node, "1"));
    }

    #[test]
    fn what_is_said_arrives() {
        let mut wire = request();
        wire.set_language(v1::Language::Bash);
        wire.timeout = wire_duration(1, 500_000_000);
        wire.fresh = true;
        wire.environment.insert("A".into(), "b".into());
        wire.output_limits = Some(v1::OutputLimits {
            stdout_bytes: 1,
            stderr_bytes: 2,
            result_bytes: 3,
        });
        wire.limits = Some(v1::ExecutionLimits {
            memory_bytes: 4,
            processes: 5,
            cpu_percent: 6,
            open_files: 7,
            file_size_bytes: 8,
        });
        wire.origin = "test".into();
        let (_, options) = execution(Some(wire), LIMITS).unwrap();
        let mut expected = ExecutionOptions::new(Language::Bash, "1");
        expected.timeout = Duration::from_millis(1500);
        expected.fresh = true;
        expected.environment.insert("A".into(), "b".into());
        expected.output_limits = OutputLimits {
            stdout: Bytes(1),
            stderr: Bytes(2),
            result: Bytes(3),
        };
        expected.limits = ExecutionLimits {
            memory: Bytes(4),
            processes: 5,
            cpu_percent: 6,
            open_files: 7,
            file_size: Bytes(8),
        };
        expected.origin = "test".into();
        assert_eq!(options, expected);
    }

    #[test]
    fn session_durations_are_checked_under_their_prefix() {
        let bad = |change: fn(&mut v1::SessionOptions)| {
            let mut wire = v1::SessionOptions::default();
            change(&mut wire);
            session_options("options.", Some(wire), LIMITS)
                .unwrap_err()
                .field
        };
        assert_eq!(bad(|o| o.ttl = wire_duration(-5, 0)), "options.ttl");
        assert_eq!(
            bad(|o| o.idle_ttl = wire_duration(0, -5)),
            "options.idle_ttl"
        );
    }

    #[test]
    fn network_options_are_named_by_their_path() {
        type Change = fn(&mut v1::NetworkOptions);
        let refused = |change: Change| {
            let mut network = v1::NetworkOptions::default();
            change(&mut network);
            let session = v1::SessionOptions {
                network: Some(network),
                ..v1::SessionOptions::default()
            };
            let error = session_options("options.", Some(session.clone()), LIMITS).unwrap_err();
            let mut wire = request();
            wire.place = Some(v1::execution_options::Place::OneShot(session));
            let one_shot = execution(Some(wire), LIMITS).unwrap_err();
            let path = error.field.strip_prefix("options.").unwrap();
            assert_eq!(one_shot.field, format!("options.one_shot.{path}"));
            assert_eq!(one_shot.message, error.message);
            (path.to_owned(), error.message)
        };
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let cases: [(Change, &str, &str); 9] = [
            (
                |n| n.allow = vec!["a.test".into(), "10.0.0.5/8".into()],
                "network.allow[1]",
                r#""10.0.0.5/8" has bits set beyond its prefix; write 10.0.0.0/8"#,
            ),
            (
                |n| n.deny = vec!["https://a.test".into()],
                "network.deny[0]",
                r#""https://a.test" is a URL, and a rule is a host without scheme or path; write a.test"#,
            ),
            (
                |n| n.allow = vec![String::new()],
                "network.allow[0]",
                "names no host",
            ),
            (
                |n| n.allow = vec!["224.0.0.1".into()],
                "network.allow[0]",
                "can never match: nothing opens multicast 224.0.0.0/4",
            ),
            (
                |n| {
                    n.allow = vec!["x.a.test".into()];
                    n.deny = vec!["*.a.test".into()];
                },
                "network.allow[0]",
                "can never match: deny[0] (*.a.test) refuses all of it",
            ),
            (
                |n| {
                    n.offline = true;
                    n.max_bytes = 1;
                },
                "network.offline",
                "refuses everything already: leave out max_bytes, or offline",
            ),
            (
                // What comes after one rule too many is not even read.
                |n| n.deny = [vec!["a.test".into(); MAX_RULES + 1], vec!["?".into()]].concat(),
                "network.deny",
                "has more than 256 rules",
            ),
            (
                |n| n.max_bytes = (1 << 30) + 1,
                "network.max_bytes",
                "is 1073741825, more than this daemon's limit of 1 GiB",
            ),
            (
                |n| n.proxy = Some(v1::Proxy::default()),
                "network.proxy.server",
                r#"is "", must be http://host:port or socks5://host:port"#,
            ),
        ];
        for (change, field, message) in cases {
            assert_eq!(refused(change), (field.to_owned(), message.to_owned()));
        }

        let said = v1::NetworkOptions {
            allow: texts(&["Example.COM", "10.0.0.0/8:8443"]),
            deny: texts(&["*:25"]),
            max_bytes: 7,
            ..v1::NetworkOptions::default()
        };
        let session = v1::SessionOptions {
            network: Some(said),
            ..v1::SessionOptions::default()
        };
        let rule = |text: &str| text.parse::<Rule>().unwrap();
        assert_eq!(
            session_options("options.", Some(session), LIMITS)
                .unwrap()
                .network,
            NetworkOptions {
                allow: vec![rule("example.com"), rule("10.0.0.0/8:8443")],
                deny: vec![rule("*:25")],
                max_bytes: Some(Bytes(7)),
                ..NetworkOptions::default()
            }
        );
    }

    #[test]
    fn page_tokens_come_back_and_others_are_refused() {
        let id = SessionId::generate();
        assert_eq!(page_token(&next_page_token(Some(id))), Ok(Some(id)));
        assert_eq!(next_page_token(None), "");
        assert_eq!(page_token(""), Ok(None));
        for token in ["x", "????", &id.to_string(), "YWZ0ZXI6eA"] {
            assert_eq!(
                page_token(token).unwrap_err().field,
                "page_token",
                "{token}"
            );
        }
    }

    #[test]
    fn page_sizes_keys_states_and_ids_are_checked() {
        assert_eq!(page_size(0), Ok(100));
        assert_eq!(page_size(1000), Ok(1000));
        assert_eq!(page_size(1001).unwrap_err().field, "page_size");
        assert_eq!(idempotency_key(String::new()), Ok(None));
        assert_eq!(idempotency_key("k".repeat(128)), Ok(Some("k".repeat(128))));
        assert_eq!(
            idempotency_key("k".repeat(129)).unwrap_err().field,
            "idempotency_key"
        );
        assert_eq!(
            states(&[1, 2, 3, 4, 5]).unwrap(),
            [
                State::Starting,
                State::Ready,
                State::Stopping,
                State::Stopped,
                State::Failed
            ]
        );
        for state in [0, 6, -1] {
            assert_eq!(states(&[state]).unwrap_err().field, "states");
        }
        assert_eq!(
            session_id("session_id", "").unwrap_err().message,
            "must be given"
        );
        assert_eq!(
            execution_id("execution_id", "7").unwrap_err().message,
            "is not a UUID"
        );
    }
}
