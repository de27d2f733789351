//! A page as a document: what a scrape answers with, and what is kept of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use url::Url;

use super::actions::ActionResults;
use super::convert::{self, Converted, Wanted};
use super::format::Format;
use super::load::Loaded;
use super::options::ScrapeOptions;
use super::tab::Tab;
use super::{Error, capture};
use crate::agent;
use crate::id::ScrapeId;
use crate::limits::Bytes;

/// A page in the forms asked for; the others are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Document {
    /// Markdown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub markdown: Option<String>,
    /// Data that a model took from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// A model's summary of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// A model's answer to the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// HTML without scripts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// HTML as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_html: Option<String>,
    /// Absolute URLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<Vec<String>>,
    /// Absolute URLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<String>>,
    /// A data URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub screenshot: Option<String>,
    /// What actions came to; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<ActionResults>,
    /// What was asked for and not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// What the page says of itself, and how it came.
    pub metadata: Map<String, Value>,
}

/// What kind of document Chromium shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Html,
    Text,
    Image,
}

impl Kind {
    fn of(mime_type: &str) -> Self {
        match mime_type {
            "" | "text/html" | "application/xhtml+xml" => Self::Html,
            _ if mime_type.starts_with("image/") && mime_type != "image/svg+xml" => Self::Image,
            _ => Self::Text,
        }
    }
}

/// Takes from the page what the options ask for.
pub(super) async fn take(
    id: ScrapeId,
    tab: &Tab,
    options: &ScrapeOptions,
    loaded: Loaded,
    max_html: Bytes,
    conversions: &Arc<Semaphore>,
) -> Result<Document, Error> {
    let kind = Kind::of(&loaded.mime_type);
    let wants = |format: Format| options.formats.contains(&format);
    let (url, source) = match kind {
        Kind::Html | Kind::Image => capture::html(tab, max_html).await?,
        Kind::Text => capture::text(tab, max_html).await?,
    };
    let mut document = Document {
        raw_html: wants(Format::RawHtml).then(|| source.clone()),
        warning: loaded.warning,
        ..Document::default()
    };
    for format in &options.formats {
        if let Format::Screenshot(wanted) = format {
            document.screenshot = Some(capture::screenshot(tab, wanted, options.mobile).await?);
        }
    }
    let wanted = Wanted {
        url: Url::parse(&url)
            .or_else(|_| Url::parse(&options.url))
            .map_err(|_| Error::Crashed)?,
        only_main_content: options.only_main_content,
        include_tags: options.include_tags.clone(),
        exclude_tags: options.exclude_tags.clone(),
        remove_base64_images: options.remove_base64_images,
        // What a model reads, too.
        markdown: wants(Format::Markdown) || options.formats.iter().any(|f| f.wanted().is_some()),
        html: wants(Format::Html),
        links: wants(Format::Links),
        images: wants(Format::Images),
    };
    let content_type = loaded.content_type;
    let mime_type = loaded.mime_type;
    let converting = async {
        // Never closed.
        let place = Arc::clone(conversions).acquire_owned().await;
        let place = place.map_err(|_| Error::Crashed)?;
        let task = tokio::task::spawn_blocking(move || {
            // Held until it is done, whoever waits for it.
            let _place = place;
            match kind {
                Kind::Html => convert::convert(&source, &wanted),
                Kind::Text => of_text(&source, &mime_type, &wanted),
                Kind::Image => of_image(&wanted),
            }
        });
        task.await.map_err(|_| Error::Conversion)
    };
    let converted = tokio::time::timeout_at(tab.deadline, converting).await;
    let converted = converted.map_err(|_| tab.timed_out())??;
    document.markdown = converted.markdown;
    document.html = converted.html;
    document.links = converted.links;
    document.images = converted.images;
    document.metadata = converted.metadata;
    let metadata = &mut document.metadata;
    metadata.insert("sourceURL".into(), json!(options.url));
    metadata.insert("url".into(), json!(url));
    metadata.insert("statusCode".into(), json!(loaded.status));
    metadata.insert("contentType".into(), json!(content_type));
    metadata.insert("scrapeId".into(), json!(id.to_string()));
    metadata.insert("proxyUsed".into(), json!("basic"));
    metadata.insert("cacheState".into(), json!("miss"));
    metadata.insert("concurrencyLimited".into(), json!(false));
    metadata.insert("creditsUsed".into(), json!(1));
    if loaded.status >= 400 {
        let error = format!("the page answered with status {}", loaded.status);
        metadata.insert("error".into(), json!(error));
    }
    if let Some(location) = &options.location
        && let Some(country) = &location.country
    {
        document.warn(format!(
            "location.country {country}: no proxy of that country is configured; the page was \
             loaded from here"
        ));
    }
    Ok(document)
}

impl Document {
    /// Puts what a model made of the page where it belongs.
    pub(super) fn extracted(&mut self, wanted: &agent::Wanted, found: Value) {
        let text = |found: Value| found.as_str().map(str::to_owned);
        match wanted {
            agent::Wanted::Json { .. } => self.json = Some(found),
            agent::Wanted::Summary => self.summary = text(found),
            agent::Wanted::Question(_) => self.answer = text(found),
        }
    }

    pub(super) fn warn(&mut self, what: String) {
        self.warning = Some(match self.warning.take() {
            Some(before) => format!("{before}; {what}"),
            None => what,
        });
    }
}

fn of_text(text: &str, mime_type: &str, wanted: &Wanted) -> Converted {
    Converted {
        markdown: wanted
            .markdown
            .then(|| convert::as_markdown(text, mime_type)),
        html: wanted.html.then(|| convert::as_html(text)),
        links: wanted.links.then(Vec::new),
        images: wanted.images.then(Vec::new),
        metadata: Map::new(),
    }
}

fn of_image(wanted: &Wanted) -> Converted {
    let url = wanted.url.as_str();
    Converted {
        markdown: wanted.markdown.then(|| format!("![]({url})")),
        html: wanted
            .html
            .then(|| format!("<img src=\"{}\">", url.replace('"', "%22"))),
        links: wanted.links.then(Vec::new),
        images: wanted.images.then(|| vec![url.to_owned()]),
        metadata: Map::new(),
    }
}
