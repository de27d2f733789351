//! Profiles over HTTP, as the contract says it; the official clients have scripts of their own.

use super::*;
use crate::http_client::Http;
use crate::shared::daemon;

fn http() -> Http {
    Http::new(&daemon().url())
}

async fn scraped(http: &Http, profile: &Value) -> String {
    let body = json!({ "url": site().url("/member.html"), "profile": profile });
    let reply = http.post("/v2/scrape", &body).await.good();
    let id = reply["data"]["metadata"]["scrapeId"].as_str().unwrap();
    format!("/v2/scrape/{id}/interact")
}

#[tokio::test]
async fn the_recipe_of_the_documents() {
    let http = http();
    let name = "profile-validation";
    let interact = scraped(&http, &json!({ "name": name, "saveChanges": true })).await;
    let code = "await page.evaluate(() => { localStorage.setItem('check', 'saved'); \
                document.cookie = 'check=saved; path=/; max-age=3600'; });";
    http.post(&interact, &json!({ "code": code })).await.good();
    http.delete(&interact).await.good();
    let interact = scraped(&http, &json!({ "name": name, "saveChanges": false })).await;
    let code = "JSON.stringify(await page.evaluate(() => [localStorage.getItem('check'), \
                document.cookie.includes('check=saved')]))";
    let read = http.post(&interact, &json!({ "code": code })).await.good();
    assert_eq!(read["result"], r#"["saved",true]"#);
    http.delete(&interact).await.good();
}

#[tokio::test]
async fn a_scrape_takes_no_lock_and_its_session_does() {
    let http = http();
    let profile = json!({ "name": "of a scrape" });
    // Two scrapes, either of which may become the writer.
    let first = scraped(&http, &profile).await;
    let second = scraped(&http, &profile).await;
    let code = |who: &str| json!({ "code": format!("await page.evaluate(() => login('{who}'))") });
    http.post(&first, &code("ada")).await.good();
    let refused = http.post(&second, &code("bob")).await;
    assert_eq!(refused.refused(409), BUSY);
    let created = http
        .post("/v2/browser", &json!({ "profile": profile }))
        .await;
    assert_eq!(created.refused(409), BUSY);
    let path = "/v2/browser/profiles/of%20a%20scrape";
    let deleted = http.delete(path).await.refused(409);
    assert!(
        deleted.contains("currently saving to this profile"),
        "{deleted}"
    );
    http.delete(&first).await.good();
    // What the second one began with is old by now: it begins anew, with what was saved.
    let state = json!({ "code": "JSON.stringify(await page.evaluate(() => state()))" });
    let reply = http.post(&second, &state).await.good();
    let found: Value = serde_json::from_str(reply["result"].as_str().unwrap()).unwrap();
    assert_eq!(found, state_of("ada"));
    http.delete(&second).await.good();
    for path in [
        path,
        "/v2/interact/profiles/of%20a%20scrape",
        "/v2/browser/profiles/never",
    ] {
        assert_eq!(http.delete(path).await.good(), json!({ "success": true }));
    }
    let unknown = get(&client(), "of a scrape").await.unwrap_err();
    assert_eq!(reason(&unknown), "PROFILE_UNKNOWN");
}

#[tokio::test]
async fn names_are_checked_before_anything_starts() {
    const NAME: &str = "Profile name must be between 1 and 128 characters.";
    let http = http();
    for name in [String::new(), "n".repeat(129)] {
        let profile = json!({ "name": name });
        let body = json!({ "profile": profile });
        assert_eq!(http.post("/v2/interact", &body).await.refused(400), NAME);
        let body = json!({ "url": site().url("/"), "profile": profile });
        let refused = http.post("/v2/scrape", &body).await.refused(400);
        assert!(refused.contains(NAME), "{refused}");
    }
    let path = format!("/v2/browser/profiles/{}", "n".repeat(129));
    assert_eq!(http.delete(&path).await.refused(400), NAME);
}

#[tokio::test]
async fn a_standalone_session_saves_before_the_reply_to_its_end() {
    let http = http();
    let body = json!({ "profile": { "name": "standalone" } });
    for (round, expected) in [(1, "undefined"), (2, "1"), (3, "2")] {
        let created = http.post("/v2/browser", &body).await.good();
        let path = format!("/v2/browser/{}", created["id"].as_str().unwrap());
        let code = format!(
            "await page.goto('{}'); const before = await page.evaluate(() => localStorage.round); \
             await page.evaluate(() => {{ localStorage.round = {round} }}); String(before)",
            site().url("/")
        );
        let body = json!({ "code": code });
        let ran = http.post(&format!("{path}/execute"), &body).await.good();
        assert_eq!(ran["result"], expected);
        http.delete(&path).await.good();
    }
}
