//! Requests as they come, good and bad: each gets JSON with `success`.

use axum::http::Method;
use serde_json::{Value, json};

use super::{created, execute, http, path};

const UNKNOWN: &str = "/v2/browser/01a1fc28-7966-7644-9026-0c4c83e9012b";

#[tokio::test]
async fn every_malformed_request_gets_an_error_clients_can_read() {
    let http = http();
    let execute = format!("{UNKNOWN}/execute");
    let posted = [
        ("/v2/browser", "{", 400),
        ("/v2/browser", "[]", 400),
        ("/v2/browser", "null", 400),
        ("/v2/browser", r#"{"ttl": 29}"#, 400),
        ("/v2/browser", r#"{"ttl": 3601}"#, 400),
        ("/v2/browser", r#"{"ttl": "600"}"#, 400),
        ("/v2/browser", r#"{"ttl": -1}"#, 400),
        ("/v2/interact", r#"{"activityTtl": 9}"#, 400),
        ("/v2/browser", r#"{"recordSession": 1}"#, 400),
        // What a request says is looked at before whether its session exists.
        (&execute, "{}", 400),
        (&execute, r#"{"code": ""}"#, 400),
        (&execute, r#"{"code": 1}"#, 400),
        (&execute, r#"{"code": "1", "language": "ruby"}"#, 400),
        (&execute, r#"{"code": "1", "timeout": 0.5}"#, 400),
        (&execute, r#"{"code": "1", "timeout": 301}"#, 400),
        (&execute, r#"{"code": "1"}"#, 404),
        ("/v2/browser/no-uuid/execute", r#"{"code": "1"}"#, 400),
        ("/v2/browser/%ff/execute", r#"{"code": "1"}"#, 400),
        ("/v2/nothing", "{}", 404),
        ("/v2/browser/", "{}", 404),
        ("/health", "{}", 405),
    ];
    for (path, body, status) in posted {
        let reply = http.send(Method::POST, path, &[], body).await;
        assert_eq!(reply.status, status, "{path} {body} {:?}", reply.body);
        reply.refused(status);
    }
    for (method, path, status) in [
        (Method::GET, "/v2/browser?status=gone", 400),
        (Method::GET, "/v2/browser/no-uuid", 400),
        (Method::GET, UNKNOWN, 404),
        (Method::DELETE, UNKNOWN, 404),
        (Method::DELETE, "/v2/browser/no-uuid", 400),
        (Method::GET, &format!("{UNKNOWN}/replay/x"), 400),
        (Method::GET, &format!("{UNKNOWN}/replay/1234"), 400),
        (Method::GET, &format!("{UNKNOWN}/replay/0"), 404),
        (Method::PUT, "/v2/browser", 405),
        (Method::GET, &format!("{UNKNOWN}/execute"), 405),
        (Method::PATCH, "/", 405),
        (
            Method::DELETE,
            &format!("/v2/browser/profiles/{}", "a".repeat(129)),
            400,
        ),
    ] {
        http.send(method, path, &[], "").await.refused(status);
    }
    let reply = http.post("/v2/browser", &json!({ "ttl": "x" })).await;
    assert_eq!(reply.json()["code"], "BAD_REQUEST");
    assert_eq!(reply.json()["details"][0]["path"], json!(["ttl"]));
    let reply = http.send(Method::POST, "/v2/browser", &[], "{").await;
    assert_eq!(reply.json()["code"], "BAD_REQUEST_INVALID_JSON");
    let gzip = [("content-encoding", "gzip")];
    http.send(Method::POST, "/v2/browser", &gzip, "{}")
        .await
        .refused(415);
    // A path of gRPC, asked in HTTP.
    let service = "/pagebox.v1.SessionService/ListSessions";
    http.send(Method::POST, service, &[], "{}")
        .await
        .refused(415);
}

#[tokio::test]
async fn unknown_keys_odd_headers_and_large_bodies_pass() {
    let http = http();
    let headers = [("authorization", "Bearer"), ("x-origin", "mcp")];
    let body = r#"{"origin": 5, "integration": "cli", "blockAds": true, "zeroDataRetention": false,
                   "ttl": null, "somethingNew": {"deep": [1]}}"#;
    let session = http
        .send(Method::POST, "/v2/browser", &headers, body)
        .await
        .good();
    let path = format!("{}/execute", path(&session));

    let filler = "x".repeat(10 * 1000 * 1000);
    let body = json!({ "code": "1", "ignored": filler }).to_string();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let ran = http.send(Method::POST, &path, &form, body).await.good();
    assert_eq!(ran["result"], "1");
    let body = json!({ "code": "1", "ignored": "x".repeat(10 << 20) });
    http.post(&path, &body).await.refused(413);

    // Bytes count, not characters.
    let code = |text: &str, count| json!({ "code": format!("'{}'", text.repeat(count)) });
    let ran = http.post(&path, &code("é", 49_999)).await.good();
    assert_eq!(ran["result"].as_str().map(str::len), Some(99_998));
    let refused = http.post(&path, &code("é", 50_000)).await;
    assert_eq!(
        refused.refused(400),
        "code is 100002 bytes long, more than 100000"
    );
    for bare in ["Bearer", "Bearer ", "Bearer fc-anything", "Basic x"] {
        let headers = [("authorization", bare)];
        http.send(Method::GET, "/v2/browser", &headers, "")
            .await
            .good();
    }
    http.delete(path.trim_end_matches("/execute")).await.good();
}

/// Follows every `$ref`, so that none leads nowhere.
fn check_references(value: &Value, document: &Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            object
                .values()
                .for_each(|value| check_references(value, document));
        }
        Value::Array(list) => list
            .iter()
            .for_each(|value| check_references(value, document)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_describes_every_path() {
    let http = http();
    let reply = http.get("/openapi.json").await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("application/json"))
    );
    let document = reply.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    check_references(&document, &document);
    let mut found = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.push(format!("{method} {path}"));
            assert!(
                ids.insert(operation["operationId"].to_string()),
                "{operation}"
            );
            let refused = &operation["responses"]["403"]["content"]["application/json"]["schema"];
            assert_eq!(refused["$ref"], "#/components/schemas/Error", "{path}");
        }
    }
    let sessions = |prefix: &str| {
        [
            "get ",
            "post ",
            "delete /{id}",
            "get /{id}",
            "post /{id}/execute",
            "post /{id}/control",
            "post /{id}/live-view",
            "get /{id}/replay",
            "get /{id}/replay/{page}",
            "delete /profiles/{name}",
        ]
        .map(|known| known.replacen(' ', &format!(" {prefix}"), 1))
    };
    let mut expected = [
        "get /health",
        "get /ready",
        "post /v2/scrape",
        "get /v2/scrape/{id}",
        "post /v2/scrape/{id}/interact",
        "delete /v2/scrape/{id}/interact",
        "get /v2/team/credit-usage",
        "get /v2/team/queue-status",
        "get /cdp/{id}",
        "get /cdp/{id}/json/version",
    ]
    .map(str::to_owned)
    .to_vec();
    expected.extend(sessions("/v2/browser"));
    expected.extend(sessions("/v2/interact"));
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(
        document["components"]["securitySchemes"]["key"]["scheme"],
        "bearer"
    );
}

#[tokio::test]
async fn the_page_at_the_root_says_what_runs_here_and_runs_nothing() {
    let http = http();
    let reply = http.get("/").await;
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    assert_eq!(reply.status, 200);
    assert!(
        text.contains(env!("CARGO_PKG_VERSION")) && !text.contains("{{"),
        "{text}"
    );
    assert!(text.contains(&format!(
        "curl -s -X POST http://{}/v2/browser",
        http.host()
    )));
    let policy = reply.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe") && !text.contains("<script"));
    // The style passes the policy: a browser shows it.
    let session = created(&http).await;
    let code = format!(
        "await page.route('http://page.test/', (route) => route.fulfill({{
           body: {}, contentType: 'text/html', headers: {{ 'content-security-policy': {} }},
         }}));
         await page.goto('http://page.test/');
         await page.evaluate(() => [document.styleSheets.length, getComputedStyle(document.body).maxWidth])",
        json!(text),
        json!(policy),
    );
    assert_eq!(
        execute(&http, &session, "node", &code).await["result"],
        r#"[1,"800px"]"#
    );
    http.delete(&path(&session)).await.good();
}
