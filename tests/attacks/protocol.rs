//! Protocol and results: what code says of itself, and what callers say, is never more than words.

use pagebox::grpc::v1::Language;

use crate::case::{Case, Group};

#[path = "protocol/callers.rs"]
mod callers;
#[path = "protocol/files.rs"]
mod files;
#[path = "protocol/frames.rs"]
mod frames;
#[path = "protocol/output.rs"]
mod output;
#[path = "protocol/results.rs"]
mod results;
#[path = "protocol/runners.rs"]
mod runners;

pub(crate) fn group() -> Group {
    Group {
        title: "Protocol and results",
        cases: CASES,
    }
}

const CASES: &[Case] = &[
    Case {
        number: 62,
        name: "links where files are expected",
        tries: "uploads links to /etc/shadow, /proc and directories, and has downloads saved through links \
                to directories outside",
        observed: "nothing of the target is read, nothing is written there; plain files work",
        run: |ground| Box::pin(files::links(ground)),
    },
    Case {
        number: 64,
        name: "names of downloads",
        tries: "has a site suggest ../, absolute, empty, 300 byte, control and bidi names for downloads",
        observed: "each is one file in the directory that was asked for",
        run: |ground| Box::pin(files::names(ground)),
    },
    Case {
        number: 65,
        name: "results that cannot be shown",
        tries: "ends with cycles, throwing getters, proxies and reprs, ten thousand levels, half a \
                gigabyte, and conversions that never return or exit",
        observed: "text within the limit and flagged, `OUT_OF_MEMORY`, or `TIMED_OUT`",
        run: |ground| Box::pin(results::unshowable(ground)),
    },
    Case {
        number: 66,
        name: "output that is no text",
        tries: "prints invalid UTF-8, half surrogates, NUL, terminal escapes and 200 000 single bytes",
        observed: "every byte in order in the stream; replacement characters and `stdout_lossy` in the reply",
        run: |ground| Box::pin(output::bytes(ground)),
    },
    Case {
        number: 67,
        name: "code that is no text",
        tries: "sends code with NUL, BOM, CRLF, lone CR, a line of 100 kB, one byte too many, and 50 MB",
        observed: "runs, fails as a syntax error, INVALID_ARGUMENT, or RESOURCE_EXHAUSTED before it is read",
        run: |ground| Box::pin(callers::code(ground)),
    },
    Case {
        number: 69,
        name: "closed descriptors",
        tries: "closes 0, 1, 2 and 3, all at once and up to 1024, or puts others in their place",
        observed: "an ordinary outcome, or the end of that runner; the next execution runs",
        run: |ground| Box::pin(output::closed(ground)),
    },
    Case {
        number: 70,
        name: "standard input and terminals",
        tries: "reads stdin, asks for a terminal, opens /dev/tty and pushes characters into it",
        observed: "end of file at once; no terminal (ENOTTY, ENXIO, ENOENT)",
        run: |ground| Box::pin(output::stdin(ground)),
    },
    Case {
        number: 71,
        name: "the environment",
        tries: "prints every variable of code, of pid 1 and of the children it starts",
        observed: "a fixed list; nothing of the daemon's",
        run: |ground| Box::pin(runners::environment(ground)),
    },
    Case {
        number: 150,
        name: "forged frames",
        tries: "writes frames to the runner's channel: broken, of another id, deep, invalid UTF-8, two, with \
                its own id and a made-up result",
        observed: "`RUNNER_CRASHED`, or the claimed result with that execution; the next one has a new runner",
        run: |ground| Box::pin(frames::forged(ground)),
    },
    Case {
        number: 151,
        name: "a frame that grows in the daemon",
        tries: "writes one frame of 190 MiB: a list of zeros, and a line without end",
        observed: "`RUNNER_CRASHED`; the daemon's peak stays within a few times the line",
        run: |ground| Box::pin(frames::grown(ground)),
    },
    Case {
        number: 152,
        name: "killing and stopping the runner",
        tries: "kills and stops its own runner, its parent, its group and pid 1 from every language",
        observed: "`RUNNER_CRASHED` or `TIMED_OUT`, exit code 137; the next execution runs",
        run: |ground| Box::pin(runners::killed(ground)),
    },
    Case {
        number: 153,
        name: "built-ins replaced",
        tries: "replaces JSON, Promise, Object, Buffer, print, json, open, len and what runners use, then \
                runs more code in the same session, and in another",
        observed: "later executions of that context are its own affair; fresh ones, other languages and \
                   other sessions are right",
        run: |ground| Box::pin(results::replaced(ground)),
    },
    Case {
        number: 154,
        name: "errors without end",
        tries: "throws 100 MB messages, 1 MB names, ten thousand causes, and errors whose text throws, \
                hangs or exits",
        observed: "name at most 256 bytes, message at most 64 KiB, or `OUT_OF_MEMORY`, `TIMED_OUT`",
        run: |ground| Box::pin(results::errors(ground)),
    },
    Case {
        number: 155,
        name: "hooks at the end",
        tries: "leaves exit hooks, destructors, signal handlers and traps that never return",
        observed: "the session stops at once all the same",
        run: |ground| Box::pin(runners::hooks(ground)),
    },
    Case {
        number: 156,
        name: "hostile words of callers",
        tries: "sends CRLF, escapes, bidi, NUL and a megabyte in every text of the API, ids with paths, and \
                forged page tokens",
        observed: "INVALID_ARGUMENT naming the field, or the text as it is; no line of the log is forged",
        run: |ground| Box::pin(callers::words(ground)),
    },
    Case {
        number: 157,
        name: "a queue of nobody's",
        tries: "queues a hundred executions whose callers go away, behind one that runs long",
        observed: "their places are free at once, none of them runs; one cancelled by its id never runs",
        run: |ground| Box::pin(callers::abandoned(ground)),
    },
    Case {
        number: 158,
        name: "escapes for a terminal",
        tries: "puts terminal escapes into labels, titles, URLs and errors, and shows them on the command line",
        observed: "`pagebox session list`, `show` and every complaint are free of them; `exec` passes the \
                   code's own bytes on",
        run: |ground| Box::pin(output::terminal(ground)),
    },
];

/// Code that runs in any context that works.
fn anything(language: Language) -> &'static str {
    match language {
        Language::Bash => "true",
        _ => "1",
    }
}
