//! The formats of a scrape that a model makes.

use serde_json::json;

use super::{made, world};
use crate::http_client::Http;
use crate::shared::site;

#[tokio::test]
async fn a_summary_an_answer_and_data_by_a_schema() {
    let http = Http::new(&world().daemon.url());
    let schema = json!({
        "type": "object", "properties": { "title": { "type": "string" } }, "required": ["title"],
    });
    let body = json!({
        "url": site().url("/article.html"),
        "formats": ["summary", { "type": "question", "question": "What is said of the stick?" },
                    { "type": "json", "prompt": "The title", "schema": schema }],
    });
    let reply = http.post("/v2/scrape", &body).await.good();
    let data = &reply["data"];
    assert_eq!(
        data["summary"], "A page about: How a tide table is made",
        "{data}"
    );
    assert_eq!(data["json"], json!({ "title": "How a tide table is made" }));
    let answer = data["answer"].as_str().unwrap();
    assert!(answer.contains("a stick in the mud"), "{data}");
    // Only what was asked for.
    assert!(data.get("markdown").is_none(), "{data}");
    let id = data["metadata"]["scrapeId"].as_str().unwrap();
    let kept = http.get(&format!("/v2/scrape/{id}")).await.good();
    assert_eq!(kept["data"]["json"], data["json"]);
}

#[tokio::test]
async fn data_that_does_not_fit_is_asked_for_once_more() {
    let scrape = json!({
        "url": site().url("/article.html"),
        "formats": ["markdown", { "type": "json", "schema": { "type": "object", "required": ["title"] } }],
    });
    for (model, fits) in [("sloppy", true), ("stubborn", false), ("down", false)] {
        let world = made();
        let daemon = world.daemon(&format!(
            "provider = \"anthropic\"\nmodel = \"{model}\"\nretries = 0\n"
        ));
        let reply = Http::new(&daemon.url()).post("/v2/scrape", &scrape).await;
        if fits {
            let data = reply.good()["data"].clone();
            assert_eq!(data["json"], json!({ "title": "How a tide table is made" }));
            assert!(data["markdown"].is_string());
        } else {
            reply.refused(500);
            assert_eq!(reply.json()["code"], "SCRAPE_MODEL_FAILED");
        }
        let asked = world.models.requests().len();
        assert_eq!(asked, if model == "down" { 1 } else { 2 });
    }
}

#[tokio::test]
async fn what_is_wanted_is_checked_before_the_page_is_loaded() {
    let http = Http::new(&world().daemon.url());
    for format in [
        json!("json"),
        json!({ "type": "json", "schema": { "type": "nothing" } }),
        json!({ "type": "json", "schema": { "$ref": "http://127.0.0.1:1/x" } }),
        json!({ "type": "question" }),
        json!({ "type": "question", "question": "" }),
        json!({ "type": "summary", "length": 3 }),
    ] {
        let body = json!({ "url": "http://nowhere.invalid/", "formats": [format] });
        http.post("/v2/scrape", &body).await.refused(400);
    }
    let twice = json!({ "url": "http://nowhere.invalid/", "formats": ["summary", "summary"] });
    http.post("/v2/scrape", &twice).await.refused(400);
}
