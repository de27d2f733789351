//! Executions that may be asked for, good and bad.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::*;
use super::LIMITS;
use super::session::{a_duration, known, session};

/// An execution, where and what it is read as, and the fields that are bad.
pub(super) type SaidExecution = (
    v1::ExecutionOptions,
    (Place, ExecutionOptions),
    BTreeSet<String>,
);

pub(super) fn asked_execution() -> impl Strategy<Value = SaidExecution> {
    let place = prop_oneof![
        1 => Just(None),
        4 => known(&["019a0000-0000-7000-8000-000000000000"], &["", "tab-1", "../x"])
            .prop_map(|id| Some(Err(id))),
        4 => session().prop_map(|session| Some(Ok(session))),
    ];
    let name = prop_oneof![
        20 => "[A-Za-z_][A-Za-z0-9_]{0,5}",
        1 => prop::sample::select(&["PATH", "LD_PRELOAD", "PAGEBOX_X", "", "1", "a=b", "a\0"][..])
            .prop_map(str::to_owned),
    ];
    let value = prop_oneof![20 => "\\PC{0,9}", 1 => Just("\0".to_owned()), 1 => "x{16380,16390}"];
    let language = prop_oneof![4 => 0..=3, 1 => any::<i32>()];
    let code = prop_oneof![8 => "\\PC{1,9}", 1 => "", 1 => "a\0", 1 => "x{99998,100002}"];
    let limit = |most: Bytes| {
        let most = most.0;
        prop_oneof![3 => 0..=most, 1 => most..=most + 1, 1 => any::<u64>()]
    };
    let most = LIMITS.output;
    (
        (language, code, a_duration(1, 300, 30)),
        prop::collection::btree_map(name, value, 0..5),
        (limit(most.stdout), limit(most.stderr), limit(most.result)),
        prop_oneof![4 => "\\PC{0,9}", 1 => "x{127,130}"],
        known(
            &["", "019a0000-0000-7000-8000-000000000001"],
            &["x", "019a"],
        ),
        any::<bool>(),
        place,
    )
        .prop_map(
            move |(what, environment, output, origin, id, fresh, place)| {
                let (language, code, timeout) = what;
                let read_as = match language {
                    0 | 1 => Some(Language::Node),
                    2 => Some(Language::Python),
                    3 => Some(Language::Bash),
                    _ => None,
                };
                let is_code = (1..=100_000).contains(&code.len())
                    && !(read_as == Some(Language::Bash) && code.contains('\0'));
                let is_name = |name: &str| {
                    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                        && !["PATH", "HOME"].contains(&name)
                        && !["LD_", "PAGEBOX_"]
                            .iter()
                            .any(|prefix| name.starts_with(prefix))
                };
                let is_environment = environment
                    .iter()
                    .all(|(name, value)| is_name(name) && !value.contains('\0'))
                    && environment
                        .iter()
                        .map(|(n, v)| n.len() + v.len() + 2)
                        .sum::<usize>()
                        <= 32768;
                let limit = |asked, most: Bytes| if asked == 0 { most } else { Bytes(asked) };
                let output_limits = OutputLimits {
                    stdout: limit(output.0, most.stdout),
                    stderr: limit(output.1, most.stderr),
                    result: limit(output.2, most.result),
                };
                let mut bad: BTreeSet<String> = [
                    ("language", read_as.is_some()),
                    ("code", is_code),
                    ("timeout", timeout.1.is_some()),
                    ("environment", is_environment),
                    (
                        "output_limits.stdout_bytes",
                        output_limits.stdout <= most.stdout,
                    ),
                    (
                        "output_limits.stderr_bytes",
                        output_limits.stderr <= most.stderr,
                    ),
                    (
                        "output_limits.result_bytes",
                        output_limits.result <= most.result,
                    ),
                    ("origin", origin.len() <= 128),
                    ("execution_id", id.1.is_some()),
                ]
                .into_iter()
                .filter(|(_, is_good)| !is_good)
                .map(|(field, _)| format!("options.{field}"))
                .collect();
                let nowhere = || Place::Session(SessionId::generate());
                let (wire_place, place) = match place {
                    Some(Ok((wire, read, bad_ones))) => {
                        bad.extend(
                            bad_ones
                                .iter()
                                .map(|field| format!("options.one_shot.{field}")),
                        );
                        let wire = v1::execution_options::Place::OneShot(wire);
                        (Some(wire), Place::OneShot(Box::new(read)))
                    }
                    Some(Err((wire, Some(id)))) => {
                        let wire = v1::execution_options::Place::SessionId(wire.to_owned());
                        (Some(wire), Place::Session(id.parse().unwrap()))
                    }
                    Some(Err((wire, None))) => {
                        bad.insert("options.session_id".to_owned());
                        let wire = v1::execution_options::Place::SessionId(wire.to_owned());
                        (Some(wire), nowhere())
                    }
                    None => {
                        bad.insert("options.session_id".to_owned());
                        (None, nowhere())
                    }
                };
                let wire = v1::ExecutionOptions {
                    place: wire_place,
                    language,
                    code: code.clone(),
                    timeout: timeout.0,
                    fresh,
                    environment: environment.clone().into_iter().collect(),
                    output_limits: Some(v1::OutputLimits {
                        stdout_bytes: output.0,
                        stderr_bytes: output.1,
                        result_bytes: output.2,
                    }),
                    origin: origin.clone(),
                    execution_id: id.0.to_owned(),
                    ..v1::ExecutionOptions::default()
                };
                let mut read = ExecutionOptions::new(read_as.unwrap_or(Language::Node), code);
                read.timeout = timeout.1.unwrap_or_default();
                read.fresh = fresh;
                read.environment = environment;
                read.output_limits = output_limits;
                read.origin = origin;
                read.id = id.1.and_then(|id| id.parse().ok());
                (wire, (place, read), bad)
            },
        )
}
