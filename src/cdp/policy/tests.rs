//! What passes and what does not.

use serde_json::{Value, json};

use super::*;

fn allowed(path: &Path) -> bool {
    path.starts_with("/tmp") || path.starts_with("/workspace")
}

fn ask(method: &str, params: &str) -> Result<Verdict, Refusal> {
    let config = Config::default();
    check(method, Some(params.as_bytes()), &config, &allowed)
}

#[test]
fn what_clients_need_passes() {
    for (method, params) in [
        ("Runtime.evaluate", r#"{"expression":"1"}"#),
        ("Page.navigate", r#"{"url":"https://example.com/"}"#),
        ("Page.navigate", r#"{"url":"about:blank#x"}"#),
        ("Page.navigate", r#"{"url":"data:text/html,x"}"#),
        ("Page.navigate", r#"{"url":"file:///tmp/page.html?x#y"}"#),
        ("Page.navigate", r#"{"url":"FILE:/workspace/a%20b.html"}"#),
        ("Target.createTarget", r#"{"url":""}"#),
        ("Target.createTarget", "{}"),
        ("Browser.getVersion", "{}"),
        (
            "DOM.setFileInputFiles",
            r#"{"files":["/tmp/a","/workspace/b"],"nodeId":1}"#,
        ),
        (
            "Input.dispatchDragEvent",
            r#"{"type":"drop","x":1,"y":2,"data":{"items":[]}}"#,
        ),
        ("SystemInfo.getProcessInfo", "{}"),
        ("Security.setIgnoreCertificateErrors", r#"{"ignore":true}"#),
        ("Storage.getCookies", "{}"),
    ] {
        assert_eq!(
            ask(method, params),
            Ok(Verdict::Forward),
            "{method} {params}"
        );
    }
}

#[test]
fn what_would_leave_the_hub_or_break_others_is_refused_in_words() {
    for (method, params) in [
        ("Browser.crash", "{}"),
        ("Browser.crashGpuProcess", "{}"),
        ("Browser.getBrowserCommandLine", "{}"),
        ("Browser.executeBrowserCommand", "{}"),
        ("Browser.somethingNew", "{}"),
        ("Page.crash", "{}"),
        ("Emulation.setVirtualTimePolicy", r#"{"policy":"pause"}"#),
        ("Memory.prepareForLeakDetection", "{}"),
        ("Target.sendMessageToTarget", r#"{"message":"{}"}"#),
        ("Target.exposeDevToolsProtocol", r#"{"targetId":"x"}"#),
        ("Target.setRemoteLocations", r#"{"locations":[]}"#),
        ("Target.openDevTools", r#"{"targetId":"x"}"#),
        ("Target.attachToTarget", r#"{"targetId":"x"}"#),
        (
            "Target.attachToTarget",
            r#"{"targetId":"x","flatten":false}"#,
        ),
        (
            "Target.setAutoAttach",
            r#"{"autoAttach":true,"waitForDebuggerOnStart":false}"#,
        ),
        (
            "Target.createBrowserContext",
            r#"{"proxyServer":"http://1.2.3.4:5"}"#,
        ),
        ("Target.createBrowserContext", r#"{"proxyBypassList":"*"}"#),
        ("SystemInfo.getInfo", "{}"),
        ("Extensions.loadUnpacked", r#"{"path":"/tmp"}"#),
        ("Tethering.bind", r#"{"port":1}"#),
        ("PWA.launch", "{}"),
        (
            "DOM.setFileInputFiles",
            r#"{"files":["/tmp/a","/etc/passwd"]}"#,
        ),
        (
            "DOM.setFileInputFiles",
            r#"{"files":["/tmp/../etc/passwd"]}"#,
        ),
        ("DOM.setFileInputFiles", r#"{"files":["etc/passwd"]}"#),
        (
            "Input.dispatchDragEvent",
            r#"{"data":{"files":["/etc/passwd"]}}"#,
        ),
        (
            "Network.loadNetworkResource",
            r#"{"url":"file:///etc/passwd"}"#,
        ),
    ] {
        let refusal = ask(method, params).unwrap_err();
        assert_eq!(refusal.code, code::SERVER, "{method} {params}");
        assert!(!refusal.message.is_empty());
    }
}

#[test]
fn urls_are_read_as_the_browser_reads_them() {
    for text in [
        "file:///etc/passwd",
        " file:///etc/passwd",
        "\u{1}fi\tle:///etc/passwd",
        "FiLe:/etc/passwd",
        "file:///tmp/../etc/passwd",
        "file:///tmp/%2e%2e/etc/passwd",
        "file:///tmp\\..\\etc/passwd",
        "file:///tmp/%5c..%5c",
        "file:///tmp/a%00b",
        "file://host/tmp/a",
        "file:tmp/a",
        "file:",
        "view-source:file:///proc/self/environ",
        "view-source:https://example.com/",
        "chrome://crash",
        "chrome:crash",
        "devtools://devtools/bundled/inspector.html",
        "about:version",
        "about:gpu",
        "filesystem:file:///tmp/",
        "chrome-untrusted://x",
        "googlechrome://x",
        "example.com",
        "/etc/passwd",
    ] {
        let refusal = url(text, &allowed);
        assert!(refusal.is_err(), "{text:?}");
        let params = serde_json::json!({ "url": text }).to_string();
        assert!(ask("Page.navigate", &params).is_err(), "{text:?}");
        assert!(ask("Target.createTarget", &params).is_err(), "{text:?}");
    }
}

#[test]
fn a_parameter_named_twice_is_refused() {
    for (method, params) in [
        (
            "Page.navigate",
            r#"{"url":"https://a.b/","url":"file:///etc/passwd"}"#,
        ),
        (
            "Page.navigate",
            r#"{"url":"https://a.b/","\u0075rl":"file:///etc/passwd"}"#,
        ),
        (
            "Target.attachToTarget",
            r#"{"flatten":true,"flatten":false}"#,
        ),
        (
            "DOM.setFileInputFiles",
            r#"{"files":[],"files":["/etc/passwd"]}"#,
        ),
        ("Page.navigate", r#"{"url":["https://a.b/"]}"#),
    ] {
        assert_eq!(
            ask(method, params).unwrap_err().code,
            code::INVALID_PARAMS,
            "{params}"
        );
    }
}

#[test]
fn what_the_hub_answers_or_watches_is_told_apart() {
    assert_eq!(ask("Browser.close", "{}"), Ok(Verdict::Close));
    let config = Config::default();
    assert_eq!(
        check("Browser.close", None, &config, &allowed),
        Ok(Verdict::Close)
    );
    assert_eq!(
        ask("Target.attachToBrowserTarget", "{}"),
        Ok(Verdict::Attach)
    );
    assert_eq!(
        ask("Target.attachToTarget", r#"{"flatten":true}"#),
        Ok(Verdict::Attach)
    );
    assert_eq!(
        ask("Target.setAutoAttach", r#"{"autoAttach":false}"#),
        Ok(Verdict::Enumerate)
    );
    assert_eq!(
        ask("Target.activateTarget", r#"{"targetId":"x"}"#),
        Ok(Verdict::Activate("x".into()))
    );
    assert_eq!(
        ask("Target.closeTarget", r#"{"targetId":"x"}"#),
        Ok(Verdict::CloseTarget("x".into()))
    );
    assert_eq!(ask("Page.close", "{}"), Ok(Verdict::ClosePage));
    assert_eq!(
        ask(
            "Browser.setDownloadBehavior",
            r#"{"behavior":"allowAndName","downloadPath":"/tmp/d","eventsEnabled":true}"#
        ),
        Ok(Verdict::Downloads(DownloadBehavior {
            behavior: Behavior::AllowAndName,
            browser_context_id: None,
            download_path: Some("/tmp/d".into()),
            events_enabled: true,
        }))
    );
    assert_eq!(
        ask("Target.createBrowserContext", r#"{"disposeOnDetach":true}"#),
        Ok(Verdict::CreateContext)
    );
}

#[test]
fn bodies_in_events_are_bounded() {
    let bounded = |params: &str| match ask("Network.enable", params) {
        Ok(Verdict::Instead(text)) => serde_json::from_slice::<Value>(&text).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bounded("{}"), json!({ "maxPostDataSize": 4 << 20 }));
    assert_eq!(
        bounded(r#"{"maxTotalBufferSize":9,"maxPostDataSize":99999999}"#),
        json!({ "maxPostDataSize": 4 << 20, "maxTotalBufferSize": 9 })
    );
    for params in [r#"{"maxPostDataSize":0}"#, r#"{"maxPostDataSize":"x"}"#] {
        assert_eq!(bounded(params), json!({ "maxPostDataSize": 4 << 20 }));
    }
    assert_eq!(
        bounded(r#"{"maxPostDataSize":99999999,"maxPostDataSize":65536}"#),
        json!({ "maxPostDataSize": 64 << 10 })
    );
}

#[test]
fn what_a_page_keeps_of_responses_is_bounded() {
    let asked =
        r#"{"maxPostDataSize":1,"maxTotalBufferSize":999999999999,"maxResourceBufferSize":5}"#;
    let Ok(Verdict::Instead(bounded)) = ask("Network.enable", asked) else {
        panic!("as it was asked");
    };
    assert_eq!(
        serde_json::from_slice::<Value>(&bounded).unwrap(),
        json!({ "maxPostDataSize": 1, "maxResourceBufferSize": 5, "maxTotalBufferSize": 200 << 20 })
    );
}

#[test]
fn a_trace_has_a_bounded_buffer_whatever_it_asks_for() {
    let started = |params: &str| match ask("Tracing.start", params) {
        Ok(Verdict::Record(Recording::Trace, Some(text))) => {
            serde_json::from_slice::<Value>(&text).unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        started("{}"),
        json!({ "traceConfig": { "traceBufferSizeInKb": 100 << 10 } })
    );
    assert_eq!(
        started(
            r#"{"transferMode":"ReturnAsStream","traceConfig":{"recordMode":"recordAsMuchAsPossible","traceBufferSizeInKb":99999999}}"#
        ),
        json!({
            "traceConfig": { "recordMode": "recordUntilFull", "traceBufferSizeInKb": 100 << 10 },
            "transferMode": "ReturnAsStream",
        })
    );
    assert_eq!(
        started(r#"{"traceConfig":{"traceBufferSizeInKb":9}}"#),
        json!({ "traceConfig": { "traceBufferSizeInKb": 9 } })
    );
    for params in [r#"{"perfettoConfig":"x"}"#, r#"{"traceConfig":[]}"#] {
        assert_eq!(ask("Tracing.start", params).unwrap_err().code, code::SERVER);
    }
}

#[test]
fn pictures_and_pages_have_a_largest_size() {
    for (method, fits, too_large) in [
        (
            "Page.captureScreenshot",
            r#"{"clip":{"x":0,"y":0,"width":5000,"height":5000,"scale":2}}"#,
            r#"{"clip":{"x":0,"y":0,"width":16000,"height":16000,"scale":1}}"#,
        ),
        (
            "Emulation.setDeviceMetricsOverride",
            r#"{"width":0,"height":0,"deviceScaleFactor":4,"mobile":true}"#,
            r#"{"width":1280,"height":720,"deviceScaleFactor":100,"mobile":false}"#,
        ),
        (
            "Browser.setWindowBounds",
            r#"{"windowId":1,"bounds":{"windowState":"normal"}}"#,
            r#"{"windowId":1,"bounds":{"width":1e308,"height":1e308}}"#,
        ),
        (
            "Target.createTarget",
            r#"{"url":"about:blank","width":800,"height":600}"#,
            r#"{"url":"about:blank","width":10000000,"height":10000000}"#,
        ),
    ] {
        assert!(ask(method, fits).is_ok(), "{method}");
        let refusal = ask(method, too_large).unwrap_err();
        assert!(
            refusal.message.contains("cdp.capture_pixels"),
            "{refusal:?}"
        );
    }
}
