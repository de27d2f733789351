//! Wire → domain: reads request fields, and refuses those that are not as they must be by the name
//! a caller knows them by (`options.one_shot.ttl`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Limits, v1};
use crate::egress::{MAX_RULES, NetworkOptions, Proxy, ProxyError, Rule};
use crate::execution::{
    BadRequest, DEFAULT_TIMEOUT, ExecutionLimits, ExecutionOptions, Language, OnHumanControl,
    OutputLimits, SessionLimits,
};
use crate::id::{ExecutionId, SessionId};
use crate::limits::Bytes;
use crate::profile::{Name, Use};
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
pub(super) fn duration(
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

pub(super) fn not_empty(text: String) -> Option<String> {
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
        profile: (wire.profile)
            .map(|wire| profile(&format!("{prefix}profile.name"), wire))
            .transpose()?,
        kind: default.kind,
        live_view: wire.live_view.unwrap_or(default.live_view),
    };
    options
        .validate()
        .map_err(|bad| FieldError::under(prefix, bad))?;
    Ok(options)
}

fn profile(field: &str, wire: v1::ProfileOptions) -> Result<Use, FieldError> {
    Ok(Use {
        name: profile_name(field, wire.name)?,
        save_changes: wire.save_changes.unwrap_or(true),
    })
}

pub(super) fn profile_name(field: &str, name: String) -> Result<Name, FieldError> {
    Name::try_from(name).map_err(|error| FieldError::new(field, error.to_string()))
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

pub(super) fn on_human_control(wire: i32) -> Result<OnHumanControl, FieldError> {
    use v1::OnHumanControl as Wire;
    match Wire::try_from(wire) {
        Ok(Wire::Unspecified | Wire::Wait) => Ok(OnHumanControl::Wait),
        Ok(Wire::Fail) => Ok(OnHumanControl::Fail),
        Ok(Wire::Ignore) => Ok(OnHumanControl::Ignore),
        Err(_) => {
            let field = "options.on_human_control";
            Err(FieldError::new(field, "is none of the values there are"))
        }
    }
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
        on_human_control: on_human_control(wire.on_human_control)?,
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
        // A UUID has other spellings.
        .filter(|id| next_page_token(Some(*id)) == token)
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
mod property;
#[cfg(test)]
mod tests;
