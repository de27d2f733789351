//! Browser and CDP: what a client of the session's CDP endpoint, or a page in its browser, can do
//! to the hub, to the browser, to other clients and to the host.

mod bare;
mod captures;
mod files;
mod floods;
mod frames;
mod fuzz;
mod inside;
mod pages;
mod requests;

use crate::case::{Case, Group};

pub(crate) fn group() -> Group {
    Group {
        title: "Browser and CDP",
        cases: CASES,
    }
}

const CASES: &[Case] = &[
    Case {
        number: 73,
        name: "Browser.close",
        tries: "`Browser.close` on the connection, on the browser attached again and on a page",
        observed: "answered, and that client alone is disconnected; a Chromium without a hub ends",
        run: |ground| Box::pin(requests::close(ground)),
    },
    Case {
        number: 74,
        name: "crash by command",
        tries: "`Browser.crash`, `crashGpuProcess`, `Page.crash`, `prepareForLeakDetection` at every session depth",
        observed: "refused in words at each; a Chromium without a hub crashes",
        run: |ground| Box::pin(requests::crash(ground)),
    },
    Case {
        number: 75,
        name: "files by URL",
        tries: "a host file by `file:` in many spellings, by commands, script, popup, redirect, frame and fulfilled request",
        observed: "commands are refused; nowhere its content, which a Chromium without a hub shows",
        run: |ground| Box::pin(files::by_url(ground)),
    },
    Case {
        number: 76,
        name: "files by input",
        tries: "`DOM.setFileInputFiles` and a drag with host files, `..`, relative paths, symlinks and a FIFO",
        observed: "refused, or empty through a link; a Chromium without a hub hands the content over",
        run: |ground| Box::pin(files::by_input(ground)),
    },
    Case {
        number: 77,
        name: "downloads",
        tries: "a host directory as download directory; names like `../../x`, 300 bytes, NUL, right-to-left; 200 files; one that never ends",
        observed: "files lie in the scratch under one plain name each; nothing on the host, where a Chromium without a hub writes",
        run: |ground| Box::pin(files::downloads(ground)),
    },
    Case {
        number: 78,
        name: "other clients' sessions",
        tries: "another client's session id, escaped too; cookies of another session of the daemon",
        observed: "`Session with given id not found.`; only its own cookies",
        run: |ground| Box::pin(requests::others_sessions(ground)),
    },
    Case {
        number: 80,
        name: "endless PDF, huge picture",
        tries: "a PDF of 20 000 sheets, waited for and abandoned; 16000 × 16000 pixels as clip and as page size",
        observed: "given up after `cdp.capture_limit`, the page that it kept busy is closed; too many pixels refused at once",
        run: |ground| Box::pin(captures::pictures(ground)),
    },
    Case {
        number: 81,
        name: "recordings without end",
        tries: "a trace of unlimited size, a screencast, heap tracking and a profile left running by a client that stays",
        observed: "they run, and end with the execution, or with their client",
        run: |ground| Box::pin(captures::recordings(ground)),
    },
    Case {
        number: 170,
        name: "envelopes",
        tries: "keys twice and escaped, ids of every type and size, sessions of every type, no JSON, 100 000 brackets deep",
        observed: "an error for each that could be read in two ways; the connection goes on",
        run: |ground| Box::pin(requests::envelopes(ground)),
    },
    Case {
        number: 171,
        name: "WebSocket frames",
        tries: "fragments, binary, compression bits, no mask, invalid UTF-8, 2^62 bytes, ping floods, half messages, early closes",
        observed: "fragments and binary are read as one message, the rest ends that connection alone",
        run: |ground| Box::pin(frames::frames(ground)),
    },
    Case {
        number: 172,
        name: "the endpoint's HTTP",
        tries: "`Origin`, foreign `Host`, methods, 1 MiB of headers, no end of headers, pipelining, from code and from a page",
        observed: "403, 405, 426, 431 or a closed connection; a page reads nothing",
        run: |ground| Box::pin(frames::http(ground)),
    },
    Case {
        number: 173,
        name: "ways round the hub",
        tries: "`sendMessageToTarget`, `exposeDevToolsProtocol`, attaching without flatten, extensions, virtual time… at every depth",
        observed: "refused in words at each",
        run: |ground| Box::pin(requests::ways_round(ground)),
    },
    Case {
        number: 174,
        name: "pause storms",
        tries: "clients that hold every new target at its start, and pause every page in the debugger, and stay",
        observed: "new pages go on after `cdp.pause_limit`; the next execution has a page that answers",
        run: |ground| Box::pin(floods::pauses(ground)),
    },
    Case {
        number: 175,
        name: "event floods, never read",
        tries: "500 console messages of 64 KiB to four clients with queues of 16 MiB, of which two never read",
        observed: "those two are disconnected; the daemon keeps no more than their queues",
        run: |ground| Box::pin(floods::events(ground)),
    },
    Case {
        number: 176,
        name: "requests never answered",
        tries: "20 000 requests that Chromium never answers, from three clients, which then vanish",
        observed: "a client is not read beyond 4096 in flight; others are answered",
        run: |ground| Box::pin(floods::unanswered(ground)),
    },
    Case {
        number: 177,
        name: "too many clients",
        tries: "200 connections at once, then as many again",
        observed: "64 clients at most, the others are told so in the close frame, and places come back",
        run: |ground| Box::pin(floods::clients(ground)),
    },
    Case {
        number: 178,
        name: "tabs without end",
        tries: "40 tabs by command, of which 20 may be; then 30 popups by a page",
        observed: "refused beyond `cdp.max_pages`, popups closed at once; its pages answer and navigate",
        run: |ground| Box::pin(floods::tabs(ground)),
    },
    Case {
        number: 179,
        name: "memory bombs in a page",
        tries: "arrays, wasm memory, a million frames, ten million nodes",
        observed: "the page is lost, not the session; or the session fails by name as `BROWSER_CRASHED`",
        run: |ground| Box::pin(pages::memory(ground)),
    },
    Case {
        number: 180,
        name: "what a client leaves behind",
        tries: "freezes, throttles, blocks, intercepts and scripts a page, then goes; or adds scripts for new documents",
        observed: "all undone with the client",
        run: |ground| Box::pin(pages::left_behind(ground)),
    },
    Case {
        number: 181,
        name: "dialog storms",
        tries: "`alert` in a loop, texts of 10 MiB, `beforeunload` on every way out",
        observed: "the next execution has a page that answers",
        run: |ground| Box::pin(pages::dialogs(ground)),
    },
    Case {
        number: 182,
        name: "names of 10 MiB",
        tries: "a title and a URL of 10 MiB, changed 2000 times",
        observed: "Chromium cuts them; replies stay small and the daemon does too",
        run: |ground| Box::pin(pages::names(ground)),
    },
    Case {
        number: 183,
        name: "lying pages",
        tries: "overrides what Playwright's scripts in the page use; answers with cycles, getters that throw, endless arrays",
        observed: "that page's calls fail or answer; the next page is honest",
        run: |ground| Box::pin(pages::lies(ground)),
    },
    Case {
        number: 184,
        name: "decompression bombs",
        tries: "gzip of 2 GiB zeros as page and as script, a PNG of 30000 × 30000, SVG entities, from the session's own server",
        observed: "the page fails at most; the session works",
        run: |ground| Box::pin(pages::decompression(ground)),
    },
    Case {
        number: 185,
        name: "the browser's disk full",
        tries: "fills IndexedDB, caches and blobs until nothing more is taken",
        observed: "quota errors in the page; the browser answers",
        run: |ground| Box::pin(pages::disk(ground)),
    },
    Case {
        number: 186,
        name: "many captures",
        tries: "200 screenshots at once",
        observed: "those beyond `cdp.captures` are refused in words, the others taken",
        run: |ground| Box::pin(captures::many(ground)),
    },
    Case {
        number: 187,
        name: "mutated CDP traffic",
        tries: "mutations of real traffic at a fixed seed, for 10 s, over several connections",
        observed: "hub, other clients and the session work; or the session fails by name as `BROWSER_CRASHED`",
        run: |ground| Box::pin(fuzz::mutations(ground)),
    },
    Case {
        number: 188,
        name: "the browser's command line",
        tries: "`SystemInfo.getInfo` and `Browser.getBrowserCommandLine` at every depth",
        observed: "refused; a Chromium without a hub tells its paths",
        run: |ground| Box::pin(requests::command_line(ground)),
    },
    Case {
        number: 189,
        name: "processor bombs in a page",
        tries: "64 workers in loops, a regex, a canvas of 16000 × 16000, nested styles",
        observed: "the page is lost, not the session; or the session fails by name as `BROWSER_CRASHED`",
        run: |ground| Box::pin(pages::processor(ground)),
    },
];
