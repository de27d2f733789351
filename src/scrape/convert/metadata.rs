//! What a page says of itself.

use dom_query::Document;
use serde_json::{Map, Value};
use url::Url;

/// Of every text, in bytes.
const MAX_TEXT: usize = 16 << 10;
const MAX_ENTRIES: usize = 200;

/// Names of `<meta>` by those of the reply. Clients fail when one of theirs has another type, so no
/// other name becomes a plain one.
const KNOWN: [(&str, &str); 27] = [
    ("description", "description"),
    ("keywords", "keywords"),
    ("robots", "robots"),
    ("author", "author"),
    ("generator", "generator"),
    ("viewport", "viewport"),
    ("theme-color", "theme-color"),
    ("og:title", "ogTitle"),
    ("og:description", "ogDescription"),
    ("og:url", "ogUrl"),
    ("og:image", "ogImage"),
    ("og:audio", "ogAudio"),
    ("og:determiner", "ogDeterminer"),
    ("og:locale", "ogLocale"),
    ("og:site_name", "ogSiteName"),
    ("og:video", "ogVideo"),
    ("article:section", "articleSection"),
    ("article:tag", "articleTag"),
    ("article:published_time", "publishedTime"),
    ("article:modified_time", "modifiedTime"),
    ("dcterms.keywords", "dcTermsKeywords"),
    ("dc.description", "dcDescription"),
    ("dc.subject", "dcSubject"),
    ("dcterms.subject", "dcTermsSubject"),
    ("dcterms.audience", "dcTermsAudience"),
    ("dc.type", "dcType"),
    ("dc.date", "dcDate"),
];
/// Kept by their own names too.
const PREFIXES: [&str; 5] = ["og:", "twitter:", "article:", "dc.", "dcterms."];

/// Its metadata; every value a string.
pub(super) fn of(document: &Document, base: &Url) -> Map<String, Value> {
    let mut found = Map::new();
    let mut add = |name: &str, value: &str| {
        let value = value.trim();
        if !value.is_empty() && found.len() < MAX_ENTRIES && !found.contains_key(name) {
            let end = value.floor_char_boundary(MAX_TEXT.min(value.len()));
            found.insert(name.to_owned(), value[..end].into());
        }
    };
    let title = document.select_single("head > title, title").text();
    add(
        "title",
        &title.split_whitespace().collect::<Vec<_>>().join(" "),
    );
    add(
        "language",
        &document.select_single("html").attr_or("lang", ""),
    );
    for meta in document.select("meta[content]").nodes() {
        let name = meta.attr("property").or_else(|| meta.attr("name"));
        let (Some(name), Some(value)) = (name, meta.attr("content")) else {
            continue;
        };
        let name = name.to_ascii_lowercase();
        if let Some((_, known)) = KNOWN.iter().find(|(said, _)| *said == name) {
            add(known, &value);
        }
        if name.len() < 100 && PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            add(&name, &value);
        }
    }
    let icon = document
        .select_single("link[rel~='icon'][href]")
        .attr("href");
    if let Some(icon) = icon.and_then(|icon| base.join(&icon).ok())
        && icon.scheme() != "data"
    {
        add("favicon", icon.as_str());
    }
    let canonical = document
        .select_single("link[rel='canonical'][href]")
        .attr("href");
    if let Some(canonical) = canonical.and_then(|href| base.join(&href).ok()) {
        add("canonical", canonical.as_str());
    }
    found
}
