//! Pages with advertisements, and without them.

use serde_json::{Value, json};

use super::http;
use crate::daemon::Daemon;
use crate::http_client::Http;
use crate::shared::{binary, site};

const AD: &str = "Buy a boat now.";

/// The document of the page by this name of its host.
async fn scraped(http: &Http, host: &str, block_ads: Value) -> Value {
    let url = format!("http://{host}:{}/advertised.html", site().port());
    let body = json!({ "url": url, "blockAds": block_ads });
    let document = http.post("/v2/scrape", &body).await.good()["data"].take();
    let markdown = document["markdown"].as_str().unwrap();
    assert!(markdown.contains("All boats of the harbour"), "{markdown}");
    document
}

fn has_ad(document: &Value) -> bool {
    document["markdown"].as_str().unwrap().contains(AD)
}

#[tokio::test]
async fn hosts_on_the_list_are_left_out_of_a_scrape_and_of_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("list.txt");
    std::fs::write(&list, "! a list\n||ads.localhost^\n").unwrap();
    let config = format!("[scrape]\nblock_list = {:?}\n", list.to_str().unwrap());
    let daemon = Daemon::start(binary(), &config);
    let http = Http::new(&daemon.url());
    for said in [Value::Null, json!(true)] {
        let document = scraped(&http, "localhost", said).await;
        assert!(!has_ad(&document), "{document}");
        assert!(document["warning"].is_null(), "{document}");
    }
    let open = scraped(&http, "localhost", json!(false)).await;
    assert!(has_ad(&open), "{open}");
    // Whoever asks for a page of a host on the list gets it.
    let own = scraped(&http, "ads.localhost", Value::Null).await;
    assert!(has_ad(&own), "{own}");

    // What code does on the page afterwards is not blocked, what the page asked for then was.
    let blocked = scraped(&http, "localhost", Value::Null).await;
    let id = blocked["metadata"]["scrapeId"].as_str().unwrap();
    let interact = format!("/v2/scrape/{id}/interact");
    let code = "const ad = () => page.textContent('#advertisement'); const before = await ad();
        await page.reload({ waitUntil: 'networkidle' }); JSON.stringify([before, await ad()])";
    let ran = http.post(&interact, &json!({ "code": code })).await.good();
    assert_eq!(ran["result"], json!(["", AD]).to_string());
    http.delete(&interact).await.good();
}

#[tokio::test]
async fn without_a_list_only_who_asks_for_blocking_is_told() {
    let http = http();
    for said in [Value::Null, json!(false)] {
        let document = scraped(&http, "localhost", said).await;
        assert!(
            has_ad(&document) && document["warning"].is_null(),
            "{document}"
        );
    }
    let document = scraped(&http, "localhost", json!(true)).await;
    assert!(has_ad(&document), "{document}");
    let warning = document["warning"].as_str().unwrap();
    assert!(warning.contains("no scrape.block_list"), "{warning}");
}
