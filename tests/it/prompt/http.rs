//! Prompts over HTTP, as Firecrawl's clients send them.

use serde_json::{Value, json};

use super::{World, made, world};
use crate::http_client::Http;
use crate::shared::site;

async fn scraped(world: &World, url: &str) -> (Http, String) {
    let http = Http::new(&world.daemon.url());
    let reply = http.post("/v2/scrape", &json!({ "url": url })).await.good();
    let id = reply["data"]["metadata"]["scrapeId"].as_str().unwrap();
    (http, format!("/v2/scrape/{id}/interact"))
}

#[tokio::test]
async fn a_scraped_page_takes_prompts_and_code_in_turn() {
    let world = world();
    let (http, interact) = scraped(world, &site().url("/search")).await;
    // As every client sends it.
    let body = json!({
        "prompt": "Fill \"Search...\" with \"neap\"\nClick \"Search\"\nTell me the line with \"edition 1\"",
        "language": "node", "origin": "js-sdk@4.42.0", "timeout": 60,
    });
    let reply = http.post(&interact, &body).await.good();
    assert!(
        reply["output"]
            .as_str()
            .unwrap()
            .contains("neap in edition 1"),
        "{reply}"
    );
    for text in [
        "stdout",
        "stderr",
        "result",
        "cdpUrl",
        "liveViewUrl",
        "interactiveLiveViewUrl",
    ] {
        assert!(reply[text].is_string(), "{text}: {reply}");
    }
    assert!(
        reply["result"].as_str().unwrap().contains("[ref="),
        "{reply}"
    );
    assert_eq!(
        (&reply["exitCode"], &reply["killed"]),
        (&json!(0), &json!(false))
    );
    assert!(reply.get("error").is_none());
    assert_eq!(reply["model"], "planner");
    assert_eq!(
        reply["usage"],
        json!({ "inputTokens": 400, "outputTokens": 40 })
    );
    let outcomes: Vec<&Value> = reply["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["outcome"])
        .collect();
    assert_eq!(outcomes, [&json!("done"); 3]);
    let code = json!({ "code": "await page.title()" });
    let ran = http.post(&interact, &code).await.good();
    assert_eq!(ran["result"], "Results for neap");
    assert!(
        ran.get("output").is_none() && ran.get("steps").is_none(),
        "{ran}"
    );
    // Code wins.
    let both = json!({ "code": "1 + 1", "prompt": "Click \"Search\"" });
    assert_eq!(http.post(&interact, &both).await.good()["result"], "2");
    // At the rate of prompts.
    let stopped = http.delete(&interact).await.good();
    assert_eq!(stopped["creditsBilled"], 7, "{stopped}");
    http.post(&interact, &body).await.refused(410);
}

#[tokio::test]
async fn a_session_of_its_own_takes_prompts_too() {
    let world = world();
    let http = Http::new(&world.daemon.url());
    let id = http.post("/v2/browser", &json!({})).await.good()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let execute = format!("/v2/browser/{id}/execute");
    let url = world.pages.url("/login");
    let body = json!({
        "prompt": format!("Open \"{url}\"\nFill \"Password\" with \"{{{{pw}}}}\"\nClick \"Log in\"\n\
                           Tell me the line with \"Signed in\""),
        "secrets": { "pw": { "value": "correct horse", "domains": ["localhost"] } },
    });
    let reply = http.post(&execute, &body).await;
    assert!(
        !reply
            .body
            .windows(13)
            .any(|window| window == b"correct horse")
    );
    assert_eq!(reply.good()["output"], "Signed in as ada, with {{pw}}.");
    // `success` there says that it ran; how it ended is in the rest.
    let body = json!({ "prompt": "Go on", "maxSteps": 2, "model": { "name": "looper" } });
    let reply = http.post(&execute, &body).await.good();
    assert_eq!(reply["exitCode"], 1, "{reply}");
    assert!(
        reply["error"].as_str().unwrap().contains("2 steps"),
        "{reply}"
    );
    let body = json!({ "prompt": "Go on", "timeout": 2, "model": { "name": "hanger" } });
    let reply = http.post(&execute, &body).await.good();
    assert_eq!(
        (&reply["exitCode"], &reply["killed"]),
        (&json!(137), &json!(true)),
        "{reply}"
    );
    http.post("/v2/browser", &json!({ "prompt": "go" }))
        .await
        .refused(400);
    assert_eq!(
        http.delete(&format!("/v2/browser/{id}")).await.good()["creditsBilled"],
        7
    );
}

#[tokio::test]
async fn what_fails_has_its_status() {
    let world = world();
    let (http, interact) = scraped(world, &world.pages.url("/berths")).await;
    for (body, status, named) in [
        (json!({ "prompt": "x".repeat(10_001) }), 400, "prompt"),
        (json!({ "prompt": "x", "timeout": 301 }), 400, "timeout"),
        (json!({ "prompt": "x", "maxSteps": 26 }), 400, "maxSteps"),
        (
            json!({ "prompt": "x", "allowNavigation": ["co.uk"] }),
            400,
            "allowNavigation[0]",
        ),
        (
            json!({ "prompt": "x", "secrets": { "a": "b" } }),
            400,
            "secrets.a.value",
        ),
        (
            json!({ "prompt": "x", "model": { "provider": "acme" } }),
            400,
            "model.provider",
        ),
        (
            json!({ "prompt": "x", "model": { "name": "down" } }),
            502,
            "status 500",
        ),
        (json!({ "prompt": "" }), 400, "Either 'code' or 'prompt'"),
    ] {
        let error = http.post(&interact, &body).await.refused(status);
        assert!(error.contains(named), "{body}: {error}");
    }
    // Nothing was done, so nothing is billed for a prompt.
    assert_eq!(http.delete(&interact).await.good()["creditsBilled"], 2);
}

#[tokio::test]
async fn without_a_model_it_is_503_and_says_what_is_missing() {
    let http = Http::new(&crate::shared::daemon().url());
    let id = http.post("/v2/browser", &json!({})).await.good()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let execute = format!("/v2/browser/{id}/execute");
    let reply = http
        .post(&execute, &json!({ "prompt": "Click something" }))
        .await;
    assert!(reply.refused(503).contains("agent.provider"));
    assert_eq!(reply.json()["code"], "MODEL_MISSING");
    let scrape = json!({ "url": site().url("/"), "formats": ["summary"] });
    assert!(
        http.post("/v2/scrape", &scrape)
            .await
            .refused(503)
            .contains("agent.provider")
    );
    http.delete(&format!("/v2/browser/{id}")).await.good();
}

#[tokio::test]
async fn a_request_chooses_no_more_than_it_may() {
    let world = made();
    let daemon = world.daemon("provider = \"openai\"\nmodel = \"planner\"\n");
    let http = Http::new(&daemon.url());
    let id = http.post("/v2/browser", &json!({})).await.good()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let execute = format!("/v2/browser/{id}/execute");
    for (model, field) in [
        (json!({ "name": "twin" }), "model.name"),
        (json!({ "provider": "openai" }), "model.provider"),
        (json!({ "baseUrl": "http://127.0.0.1:1/" }), "model.baseUrl"),
        (json!({ "key": "sk-mine" }), "model.key"),
    ] {
        let body = json!({ "prompt": "Click \"x\"", "model": model });
        let error = http.post(&execute, &body).await.refused(400);
        assert!(error.starts_with(field), "{error}");
    }
    assert_eq!(world.models.requests(), Vec::<String>::new());
    http.delete(&format!("/v2/browser/{id}")).await.good();
}
