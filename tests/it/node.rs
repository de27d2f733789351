//! Node executions: results, declarations, imports, errors, the page.

use std::path::Path;
use std::time::Duration;

use pagebox::grpc::v1::{Language, Outcome};

use crate::client::{describe, environment};
use crate::shared::{blank, open};

#[tokio::test]
async fn the_result_is_the_last_expression() {
    let session = open("/").await;
    for (code, result) in [
        ("await page.title()", Some("Tidewater Almanac")),
        (
            "const title = await page.title(); JSON.stringify({ title });",
            Some(r#"{"title":"Tidewater Almanac"}"#),
        ),
        ("1 + 1", Some("2")),
        ("'a string as it is'", Some("a string as it is")),
        ("({ a: [1, null, 'x'] })", Some(r#"{"a":[1,null,"x"]}"#)),
        ("null", Some("null")),
        ("undefined", None),
        ("const silent = 5;", None),
        ("if (true) { 'from a branch' }", Some("from a branch")),
        ("return 40 + 2", Some("42")),
        ("await (async () => 'from a call')()", Some("from a call")),
        (
            "await new Promise((r) => setTimeout(r, 20, 'late'))",
            Some("late"),
        ),
    ] {
        let reply = session.good(Language::Node, code).await;
        assert_eq!(reply.result.as_deref(), result, "{code}");
    }
    session.stop().await;
}

#[tokio::test]
async fn what_json_cannot_hold_becomes_text() {
    let session = blank().await;
    for code in [
        "10n ** 20n",
        "const o = { name: 'loop' }; o.self = o; o",
        "(() => 7)",
        "Symbol('x')",
        "({ toJSON() { throw new Error('no') } })",
        "new Proxy({}, { get() { throw new Error('no') } })",
    ] {
        let reply = session.good(Language::Node, code).await;
        assert!(reply.result.is_some(), "{code}: {}", describe(&reply));
    }
    assert_eq!(session.node("10n ** 20n").await, "100000000000000000000n");
    session.stop().await;
}

#[tokio::test]
async fn any_declaration_may_follow_any_other() {
    let session = blank().await;
    let kinds = |value: u32| {
        [
            format!("var thing = {value}; String(thing)"),
            format!("let thing = {value}; String(thing)"),
            format!("const thing = {value}; String(thing)"),
            format!("function thing() {{ return {value} }} String(thing())"),
            format!("class thing {{ static n = {value} }} String(thing.n)"),
        ]
    };
    let mut value = 0;
    for first in 0..kinds(0).len() {
        for second in 0..kinds(0).len() {
            for kind in [first, second] {
                value += 1;
                let code = &kinds(value)[kind];
                assert_eq!(session.node(code).await, value.to_string(), "{code}");
            }
        }
    }
    session.stop().await;
}

#[tokio::test]
async fn declaring_page_does_not_pin_it() {
    let session = open("/").await;
    let code = "const page = (await browser.contexts())[0].pages()[0]; await page.title()";
    assert_eq!(session.node(code).await, "Tidewater Almanac");
    let code = "await page.click('#next-page'); await page.waitForLoadState(); await page.title()";
    assert_eq!(session.node(code).await, "How a tide table is made");
    assert_eq!(
        session.python("await page.title()").await,
        "How a tide table is made"
    );
    session.stop().await;
}

#[tokio::test]
async fn state_stays_and_fresh_does_not_see_it() {
    let session = blank().await;
    session
        .good(Language::Node, "let counter = 1; globalThis.kept = 'yes'")
        .await;
    assert_eq!(
        session.node("counter += 1; `${counter} ${kept}`").await,
        "2 yes"
    );
    let mut fresh = session.options(Language::Node, "typeof counter + typeof kept");
    fresh.fresh = true;
    let reply = session.run(fresh).await;
    assert_eq!(reply.result.as_deref(), Some("undefinedundefined"));
    assert_eq!(session.node("counter").await, "2");
    session.stop().await;
}

#[tokio::test]
async fn imports_of_every_kind_work() {
    let session = blank().await;
    for (code, result) in [
        ("require('node:path').basename('/a/b')", "b"),
        (
            "import { basename } from 'node:path'; basename('/a/c')",
            "c",
        ),
        ("import os from 'os'; typeof os.cpus", "function"),
        (
            "import * as url from 'node:url'; typeof url.URL",
            "function",
        ),
        ("(await import('node:path')).basename('/a/d')", "d"),
        (
            "typeof require('playwright-core').chromium.connectOverCDP",
            "function",
        ),
        (
            "typeof (await import('playwright-core')).chromium",
            "object",
        ),
        (
            "require('fs').writeFileSync('/tmp/tide.mjs', 'export const height = 39'); \
             (await import('/tmp/tide.mjs')).height",
            "39",
        ),
        (
            "require('fs').writeFileSync('near.cjs', 'module.exports = { near: true }'); \
             require('./near.cjs').near",
            "true",
        ),
    ] {
        assert_eq!(session.node(code).await, result, "{code}");
    }
    session.stop().await;
}

#[tokio::test]
async fn console_output_keeps_its_order_and_stream() {
    let session = blank().await;
    let code = "for (let i = 0; i < 3; i++) { console.log('out', i); console.error('err', i) } \
                process.stdout.write('no newline')";
    let reply = session.good(Language::Node, code).await;
    assert_eq!(reply.stdout, "out 0\nout 1\nout 2\nno newline");
    assert_eq!(reply.stderr, "err 0\nerr 1\nerr 2\n");
    session.stop().await;
}

#[tokio::test]
async fn an_uncaught_error_has_the_users_own_lines() {
    let session = blank().await;
    let code = "const a = 1;\nfunction sail() {\n  throw new TypeError('no wind');\n}\nsail();";
    let reply = session.exec(Language::Node, code).await;
    assert_eq!((reply.outcome(), reply.exit_code), (Outcome::Failed, 1));
    assert!(!reply.success && !reply.killed);
    let error = reply.error.clone().unwrap();
    assert_eq!((&*error.name, &*error.message), ("TypeError", "no wind"));
    assert!(reply.stderr.contains(":3:9"), "{}", reply.stderr);
    assert!(reply.stderr.contains(":5:1"), "{}", reply.stderr);
    assert!(!reply.stderr.contains("node:internal"), "{}", reply.stderr);
    assert!(!reply.stderr.contains("runner"), "{}", reply.stderr);
    session.stop().await;
}

#[tokio::test]
async fn a_syntax_error_is_an_ordinary_failure() {
    let session = blank().await;
    let reply = session
        .exec(Language::Node, "const ok = 1;\nlet = = 2;")
        .await;
    assert_eq!((reply.outcome(), reply.exit_code), (Outcome::Failed, 1));
    assert_eq!(reply.error.unwrap().name, "SyntaxError");
    assert!(reply.stderr.contains(":2"), "{}", reply.stderr);
    session.stop().await;
}

#[tokio::test]
async fn errors_nobody_awaits_are_reported() {
    let session = blank().await;
    for code in [
        "Promise.reject(new RangeError('adrift')); await new Promise((r) => setTimeout(r, 200))",
        "setTimeout(() => { throw new RangeError('adrift') }, 10); \
         await new Promise((r) => setTimeout(r, 200))",
    ] {
        let reply = session.exec(Language::Node, code).await;
        assert_eq!(
            reply.outcome(),
            Outcome::Failed,
            "{code}: {}",
            describe(&reply)
        );
        let error = reply.error.unwrap();
        assert_eq!((&*error.name, &*error.message), ("RangeError", "adrift"));
    }
    assert_eq!(session.node("'still here'").await, "still here");
    session.stop().await;
}

#[tokio::test]
async fn process_exit_gives_its_code() {
    let session = blank().await;
    let reply = session
        .exec(Language::Node, "console.log('bye'); process.exit(3)")
        .await;
    assert_eq!((reply.outcome(), reply.exit_code), (Outcome::Failed, 3));
    assert_eq!((&*reply.stdout, reply.killed), ("bye\n", false));
    let reply = session.exec(Language::Node, "process.exit(0)").await;
    assert_eq!((reply.outcome(), reply.exit_code), (Outcome::Completed, 0));
    assert_eq!(session.node("'again'").await, "again");
    session.stop().await;
}

#[tokio::test]
async fn settings_of_the_page_hold_in_the_next_execution() {
    let session = open("/").await;
    session
        .good(
            Language::Node,
            "await page.setViewportSize({ width: 640, height: 480 }); \
             await page.route('**/about.html', (route) => route.fulfill({ body: 'mocked' })); \
             globalThis.seen = []; page.on('console', (m) => seen.push(m.text()))",
        )
        .await;
    let code = "await page.evaluate(() => console.log('heard')); \
                const at = new URL('/about.html', page.url()).href; await page.goto(at); \
                JSON.stringify([seen, await page.textContent('body'), page.viewportSize()])";
    assert_eq!(
        session.node(code).await,
        r#"[["heard"],"mocked",{"width":640,"height":480}]"#
    );
    session.stop().await;
}

#[tokio::test]
async fn environment_entries_are_there_for_one_execution() {
    let session = blank().await;
    let mut options = session.options(Language::Node, "process.env.BOAT");
    options.environment = environment(&[("BOAT", "Petrel")]);
    let reply = session.run(options).await;
    assert_eq!(reply.result.as_deref(), Some("Petrel"));
    assert_eq!(session.node("String(process.env.BOAT)").await, "undefined");
    session.stop().await;
}

#[tokio::test]
async fn code_of_the_largest_size_runs() {
    let session = blank().await;
    let tail = "'end'";
    let code = format!("/*{}*/{tail}", "x".repeat(100_000 - 4 - tail.len()));
    assert_eq!(code.len(), 100_000);
    assert_eq!(session.node(&code).await, "end");
    session.stop().await;
}

/// Runs the loader of Playwright beside a package that stands in for it; what it printed.
fn load_playwright(cache: Option<&[u8]>, arguments: &[&str]) -> (String, tempfile::TempDir) {
    let kept = tempfile::tempdir().unwrap();
    // Node goes by the real path.
    let directory = kept.path().canonicalize().unwrap();
    let loader = concat!(env!("CARGO_MANIFEST_DIR"), "/runners/node/playwright.mjs");
    let package = directory.join("node_modules/playwright-core");
    std::fs::create_dir_all(package.join("lib")).unwrap();
    let acorn = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/runners/node/node_modules/acorn"
    );
    std::os::unix::fs::symlink(acorn, directory.join("node_modules/acorn")).unwrap();
    std::fs::copy(loader, directory.join("playwright.mjs")).unwrap();
    std::fs::write(
        package.join("index.js"),
        "module.exports = require('./lib/coreBundle.js');",
    )
    .unwrap();
    let bundle = package.join("lib/coreBundle.js");
    std::fs::write(
        &bundle,
        "exports.chromium = { connectOverCDP: async () => require('./utilsBundle.js') };\n\
         // Ærø, which goes\n\
         exports.odd = [ `a  ${ /* goes */ 1 + +1 }  Ærø` , /  \\/\\*/ .source, 8 / 2 / 1, 'b // c' ]\n\
         exports.from = require('node:path').basename(__filename);",
    )
    .unwrap();
    std::fs::write(package.join("lib/utilsBundle.js"), "").unwrap();
    if let Some(cache) = cache {
        std::fs::write(package.join("lib/coreBundle.js.cache"), cache).unwrap();
    }
    let main = directory.join("main.mjs");
    std::fs::write(
        &main,
        "import { playwright } from './playwright.mjs'; const { from, odd } = playwright(); \
         console.log(from, odd.join());",
    )
    .unwrap();
    let program = if arguments.is_empty() {
        main
    } else {
        directory.join("playwright.mjs")
    };
    (run_node(&program, arguments), kept)
}

fn run_node(program: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("node")
        .arg(program)
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn playwright_loads_with_and_without_a_code_cache() {
    let loaded = r"coreBundle.js a  2  Ærø,  \/\*,4,b // c";
    let (printed, made) = load_playwright(None, &["--cache"]);
    assert_eq!(printed, "");
    assert_eq!(run_node(&made.path().join("main.mjs"), &[]), loaded);
    let bundle = "node_modules/playwright-core/lib/coreBundle.js";
    let text = std::fs::read_to_string(made.path().join(bundle)).unwrap();
    assert!(text.is_ascii() && !text.contains("goes"), "{text}");
    assert!(text.contains("[`a  ${1 + +1}  \\u00c6"), "{text}");
    let cache = format!("{bundle}.cache");
    let made = std::fs::read(made.path().join(cache)).unwrap();
    // The second is of a text of another length.
    for cache in [
        None,
        Some(&made[..]),
        Some(&made[..40]),
        Some(b"x"),
        Some(b""),
    ] {
        assert_eq!(load_playwright(cache, &[]).0, loaded, "{cache:?}");
    }
}

#[tokio::test]
async fn files_in_the_scratch_import_playwright() {
    let session = blank().await;
    let code = "require('fs').writeFileSync('/workspace/one.mjs', \
                'import { chromium } from \\'playwright-core\\'; export { chromium }'); \
                const { chromium } = await import('./one.mjs'); \
                chromium === require('playwright-core').chromium";
    assert_eq!(session.node(code).await, "true");
    session.stop().await;
}

#[tokio::test]
async fn the_codes_own_requests_take_the_proxy() {
    let session = blank().await;
    let refused = "private-use 10.0.0.0/8";
    for code in [
        "String((await fetch('http://10.0.0.1/').catch((e) => e)).cause)",
        "String((await fetch('https://10.0.0.1/').catch((e) => e)).cause)",
        "String(await new Promise((end) => require('http').get('http://10.0.0.1/').on('error', end)))",
        "String(await page.request.get('http://10.0.0.1/').catch((e) => e))",
    ] {
        let said = session.node(code).await;
        assert!(said.contains(refused), "{code}: {said}");
    }
    let code = "try:\n    await page.request.get('http://10.0.0.1/')\n\
                except Exception as error:\n    said = str(error)\nsaid";
    let said = session.python(code).await;
    assert!(said.contains(refused), "{said}");
    // What the session itself serves is reached directly, from every language.
    let code = "const server = require('http').createServer((_, to) => to.end('own')); \
                await new Promise((up) => server.listen(4567, '127.0.0.1', up)); \
                await (await fetch('http://localhost:4567/')).text() \
                + await (await page.request.get('http://localhost:4567/')).text()";
    assert_eq!(session.node(code).await, "ownown");
    let code = "await (await page.request.get('http://localhost:4567/')).text()";
    assert_eq!(session.python(code).await, "own");
    assert_eq!(session.bash("curl -sS http://localhost:4567/").await, "own");
    session.stop().await;
}

#[tokio::test]
async fn an_idle_runner_gives_memory_back() {
    let session = blank().await;
    let used = async || -> u64 {
        let code = "process.memoryUsage().heapTotal >> 20";
        session.node(code).await.parse().unwrap()
    };
    // Loading Playwright leaves as much behind as it keeps.
    let before = used().await;
    // Each look counts as use.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(13)).await;
        if used().await * 10 < before * 7 {
            session.stop().await;
            return;
        }
    }
    panic!("of {before} MiB it has {}", used().await);
}

#[tokio::test]
async fn code_is_over_when_nothing_of_it_is_left() {
    let session = blank().await;
    for (code, result) in [
        ("1, 2", "2"),
        ("late(); function late() { return 'hoisted' }", "hoisted"),
        (
            "'value'; const after = await new Promise((r) => setTimeout(r, 50, 'done'))",
            "value",
        ),
        (
            "'kept'; class After { static made = globalThis.made = 'made' }",
            "kept",
        ),
        ("after + made", "donemade"),
        ("let assigned; assigned = Promise.resolve(3); 'set'", "set"),
        ("assigned = Promise.resolve(5); await assigned", "5"),
        ("Promise.resolve(4)", "4"),
    ] {
        assert_eq!(session.node(code).await, result, "{code}");
    }
    for (code, message) in [
        ("throw new Error('at once')", "at once"),
        ("await Promise.reject(new Error('awaited'))", "awaited"),
        ("Promise.reject(new Error('last'))", "last"),
        ("Promise.reject(new Error('before')); 5", "before"),
        ("5; Promise.reject(new Error('aside')); 6", "aside"),
        (
            "null.property",
            "Cannot read properties of null (reading 'property')",
        ),
    ] {
        let reply = session.exec(Language::Node, code).await;
        assert_eq!(reply.exit_code, 1, "{code}: {}", describe(&reply));
        assert_eq!(reply.error.as_ref().unwrap().message, message, "{code}");
        // And the next is none the worse for it.
        assert_eq!(session.node("'well'").await, "well", "{code}");
    }
    session.stop().await;
}
