//! What holds of whatever is said to the spawner: for property tests and fuzzing.

use std::ffi::CString;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::image::Recipe;
use super::plan::{self, Held, Plan};
use super::spec::{GroupLimits, SandboxSpec};
use super::wire::{self, Command, Request};

/// A datagram is a request that is written as it was read, or it is refused; what is asked is made
/// a plan of, or refused.
pub(crate) fn command(datagram: &[u8]) {
    let request = match received(datagram) {
        Ok(Some(request)) => request,
        // An empty one is how the end of the daemon looks.
        Ok(None) => return assert!(datagram.is_empty()),
        Err(_) => return,
    };
    let written = serde_json::to_vec(&request).expect("a request is JSON");
    let again: Request = serde_json::from_slice(&written).expect("what we write we read");
    assert_eq!(format!("{again:?}"), format!("{request:?}"));
    match &request.command {
        Command::CreateSpace(spec) if plan::check_space(spec).is_ok() => {
            assert!(spec.scratch.0 > 0 && spec.scratch_inodes > 0);
            assert!(spec.browser_data.0 > 0 && spec.browser_data_inodes > 0);
            assert!(spec.runner_ports.len() <= 96 && spec.browser_ports.len() <= 96);
            is_livable(&spec.limits);
        }
        Command::Spawn(_, spec) => {
            let recipe: Recipe = toml::from_str("seccomp = 'runner'").expect("a recipe");
            for by_cgroup in [false, true] {
                let held = Held {
                    memory: by_cgroup,
                    processes: by_cgroup,
                };
                if let Ok(plan) = Plan::new(spec, &recipe, held) {
                    is_as_asked(&plan, spec);
                }
            }
        }
        _ => {}
    }
}

fn is_as_asked(plan: &Plan, spec: &SandboxSpec) {
    let texts = |strings: &[CString]| -> Vec<String> {
        let texts = strings.iter().map(|text| text.to_str().map(str::to_owned));
        texts.collect::<Result<_, _>>().expect("what was UTF-8")
    };
    assert_eq!(texts(&plan.argv), spec.argv);
    for path in [&plan.argv[0], &plan.cwd] {
        assert!(path.as_bytes().starts_with(b"/"), "{path:?} is relative");
    }
    let asked: Vec<String> = (spec.env.iter())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(texts(&plan.env), asked);
    // As the program inside splits them again.
    for (text, (name, _)) in asked.iter().zip(&spec.env) {
        assert_eq!(text.split('=').next(), Some(&**name));
        assert_ne!(name, "");
    }
    assert!(spec.argv.len() + spec.env.len() <= 1024);
    assert!(spec.limits.open_files >= 64);
    is_livable(&spec.limits.group);
}

fn is_livable(limits: &GroupLimits) {
    let is_livable = limits.memory.0 > 0 && limits.cpu_percent > 0 && limits.processes >= 4;
    assert!(is_livable, "{limits:?}");
}

/// Through a socket like the spawner's.
fn received(datagram: &[u8]) -> io::Result<Option<Request>> {
    let (daemon, spawner) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    std::fs::File::from(daemon).write_all(datagram)?;
    let received = wire::receive::<Request>(spawner.as_fd())?;
    Ok(received.map(|(request, fds)| {
        assert!(fds.is_empty(), "none were sent");
        request
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::wire::MAX_MESSAGE;
    use super::*;

    fn number() -> impl Strategy<Value = Value> {
        // Mostly what is taken, so that whole requests are.
        prop_oneof![
            36 => (64u32..70_000).prop_map(Value::from),
            1 => any::<u64>().prop_map(Value::from),
            1 => any::<i32>().prop_map(Value::from),
            1 => (0u32..300).prop_map(Value::from),
            1 => any::<f64>().prop_map(Value::from),
            1 => Just(Value::Null),
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            9 => "/[a-z]{0,8}",
            3 => "[a-z]{1,8}",
            1 => "[/.a-z=\0]{0,8}",
            1 => "\\PC{0,8}",
            1 => Just("x".repeat(5000)),
        ]
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[A-Z_]{1,8}", 1 => "[A=\0]{0,2}"]
    }

    fn group() -> impl Strategy<Value = Value> {
        [number(), number(), number()].prop_map(|[memory, processes, cpu]| {
            json!({ "memory": memory, "processes": processes, "cpu_percent": cpu })
        })
    }

    fn a_command() -> impl Strategy<Value = Value> {
        let ports = || prop::collection::vec(1u32..65_536, 0..120);
        prop_oneof![
            (
                [number(), number(), number(), number()],
                group(),
                ports(),
                ports()
            )
                .prop_map(
                    |([scratch, inodes, data, data_inodes], limits, runner, browser)| {
                        json!({ "CreateSpace": {
                        "scratch": scratch, "scratch_inodes": inodes, "limits": limits,
                        "browser_data": data, "browser_data_inodes": data_inodes,
                        "runner_ports": runner, "browser_ports": browser,
                    } })
                    }
                ),
            (
                number(),
                prop::collection::vec(text(), 0..5),
                prop::collection::vec((name(), text()), 0..4),
                text(),
                group(),
                number(),
                prop::sample::select(&["Browser", "Runner", "Host"][..]),
            )
                .prop_map(
                    |(space, argv, env, cwd, group, files, network)| json!({ "Spawn": [space, {
                    "image": "bash", "argv": argv, "env": env, "cwd": cwd, "network": network,
                    "control": "Frames",
                    "limits": { "group": group, "open_files": files, "file_size": 1 },
                }] })
                ),
            (number(), text())
                .prop_map(|(space, path)| json!({ "File": [space, { "Open": path }] })),
            number().prop_map(|sandbox| json!({ "Kill": sandbox })),
            (
                number(),
                prop::sample::select(&["Normal", "Least", "Most"][..])
            )
                .prop_map(|(space, weight)| json!({ "Weigh": [space, weight] })),
            Just(json!("Shutdown")),
            text().prop_map(|name| json!({ name: 1 })),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// 512 cases.
        #[test]
        fn requests_read_back_and_are_planned_or_refused(id in number(), asked in a_command()) {
            command(json!({ "id": id, "command": asked }).to_string().as_bytes());
        }

        /// 512 cases.
        #[test]
        fn bytes_are_a_request_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            command(&bytes);
        }
    }

    #[test]
    fn a_datagram_of_the_longest_length_is_read_and_one_byte_more_is_refused() {
        let mut datagram = br#"{"id":1,"command":"Shutdown"}"#.to_vec();
        datagram.resize(MAX_MESSAGE, b' ');
        assert!(received(&datagram).unwrap().is_some());
        datagram.push(b' ');
        assert_eq!(
            received(&datagram).unwrap_err().to_string(),
            "message was cut"
        );
    }
}
