//! What a scrape's request says, for the OpenAPI document only: `ScrapeOptions` reads it, and checks
//! what a schema cannot say.
#![allow(dead_code, reason = "nothing is ever made of these")]

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// What a scrape is to do. Keys that are not known are ignored.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct ScrapeRequest {
    /// The page; `http://` when it names no scheme.
    #[schema(min_length = 1, max_length = 8192)]
    url: String,
    /// At most one of each; `markdown` when left out.
    #[schema(max_items = 30)]
    formats: Option<Vec<Format>>,
    /// Without navigation and the like; true when left out.
    only_main_content: Option<bool>,
    /// CSS selectors of what alone is kept.
    #[schema(max_items = 100)]
    include_tags: Option<Vec<String>>,
    /// CSS selectors of what is left out.
    #[schema(max_items = 100)]
    exclude_tags: Option<Vec<String>>,
    /// Milliseconds to wait once the page has loaded; at most half of `timeout`.
    #[schema(maximum = 60_000)]
    wait_for: Option<u64>,
    /// Milliseconds for all of it.
    #[schema(minimum = 1000)]
    timeout: Option<u64>,
    /// As a phone would load it.
    mobile: Option<bool>,
    /// Sent with every request of the page.
    headers: Option<BTreeMap<String, String>>,
    /// Steps on the loaded page.
    #[schema(max_items = 50)]
    actions: Option<Vec<Action>>,
    /// Where to look from.
    location: Option<ScrapeLocation>,
    /// Whether a page with a bad certificate is loaded; true, but false with `headers` or `actions`.
    skip_tls_verification: Option<bool>,
    /// Whether images inside the page's own text are left out; true when left out.
    #[schema(rename = "removeBase64Images")]
    remove_base64_images: Option<bool>,
    /// Does not wait for the page to settle.
    fast_mode: Option<bool>,
    /// Whether hosts of the configured block list are left out; true.
    block_ads: Option<bool>,
    /// The saved state the browser begins with; the session made of the scrape saves it.
    profile: Option<super::sessions::Profile>,
}

/// A form of the page: its name, or an object with its name as `type`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Format {
    Name(FormatName),
    Object(FormatObject),
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum FormatName {
    Markdown,
    Html,
    RawHtml,
    Links,
    Images,
    Screenshot,
    Summary,
}

#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
enum FormatObject {
    Markdown,
    Html,
    RawHtml,
    Links,
    Images,
    Screenshot(Screenshot),
    Summary,
    /// The answer to a question about the page, as `answer`.
    Question {
        #[schema(min_length = 1, max_length = 10_000)]
        question: String,
    },
    /// Data of the page, as `prompt` or `schema` say; one of the two at least.
    Json {
        #[schema(min_length = 1, max_length = 10_000)]
        prompt: Option<String>,
        /// A JSON schema, which the data is valid by.
        #[schema(value_type = Option<Object>)]
        schema: Option<serde_json::Value>,
    },
}

/// PNG, or JPEG where a quality is said.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Screenshot {
    #[serde(default)]
    full_page: bool,
    #[schema(minimum = 1, maximum = 100)]
    quality: Option<u8>,
    viewport: Option<Viewport>,
}

/// In CSS pixels.
#[derive(Serialize, ToSchema)]
struct Viewport {
    #[schema(minimum = 1, maximum = 7680)]
    width: u32,
    #[schema(minimum = 1, maximum = 4320)]
    height: u32,
}

/// One step. Elements are named by CSS selectors.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Action {
    /// For `milliseconds` or until there is `selector`, one of the two.
    Wait {
        #[schema(minimum = 1)]
        milliseconds: Option<u64>,
        #[schema(min_length = 1)]
        selector: Option<String>,
    },
    /// Clicks an element, or `all` that are named.
    Click {
        #[schema(min_length = 1)]
        selector: String,
        #[serde(default)]
        all: bool,
    },
    /// Types into the focused element.
    Write { text: String },
    /// Presses a key, such as `Enter` or `Control+A`.
    Press { key: String },
    /// Scrolls by a window's height, `up` or `down`.
    Scroll {
        #[schema(pattern = "^(up|down)$")]
        #[serde(default)]
        direction: String,
        #[schema(min_length = 1)]
        selector: Option<String>,
    },
    /// Takes a picture.
    Screenshot(Screenshot),
    /// Keeps the page's URL and HTML.
    Scrape,
    /// Keeps what a script of the page comes to.
    ExecuteJavascript { script: String },
    /// Prints the page.
    Pdf {
        #[schema(pattern = "^(A[0-6]|Letter|Legal|Tabloid|Ledger)$")]
        #[serde(default)]
        format: String,
        #[serde(default)]
        landscape: bool,
        #[schema(minimum = 0.1, maximum = 2)]
        #[serde(default)]
        scale: f64,
    },
}

/// From where a page is looked at.
#[derive(Serialize, ToSchema)]
struct ScrapeLocation {
    /// Not applied; the reply has a `warning`.
    #[schema(pattern = "^[A-Za-z]{2}$")]
    country: Option<String>,
    /// As in `Accept-Language`, best first.
    #[schema(max_items = 16)]
    languages: Option<Vec<String>>,
}
