//! The part of a page that is not navigation, adverts and the like.

use dom_query::Document;
use dom_smoothie::{Config, Readability};

/// Around the content, on most pages.
const AROUND: &str = "header, footer, nav, aside, [role=navigation], [role=banner], \
    [role=contentinfo], [role=search], [aria-modal=true], .header, .footer, .navbar, .sidebar, \
    .breadcrumbs, .breadcrumb, .social, .social-links, .share, .advert, .ads, .ad, .cookie, \
    .cookie-banner, #header, #footer, #nav, #sidebar, #cookie, #cookie-banner, #onetrust-consent-sdk";
/// Least text of an article that is taken for one, in characters.
const LEAST: usize = 250;
/// Least part of the page's text an article holds, unless it is long.
const LEAST_PART: usize = 4;
const LONG: usize = 4000;

/// Its HTML; none when all of the page is.
pub(super) fn of(document: &Document) -> Option<String> {
    let body = document.body()?;
    let trimmed = Document::from(document.html());
    let heading = trimmed.select_single("h1").text();
    trimmed.select(AROUND).remove();
    // A page that is all header, or that says main itself.
    let main = trimmed.select("main, [role=main]");
    let all = length(&body.text());
    if main.length() == 1 && length(&main.text()) * 10 >= all {
        return Some(main.inner_html().to_string());
    }
    let rest = trimmed.body().map(|body| length(&body.text())).unwrap_or(0);
    if let Some(article) = article(document, &heading, rest) {
        return Some(article);
    }
    (rest > 0 && rest * 10 >= all)
        .then(|| trimmed.body().map(|body| body.inner_html().to_string()))?
}

fn article(document: &Document, heading: &str, rest: usize) -> Option<String> {
    let config = Config {
        disable_json_ld: true,
        ..Config::default()
    };
    let copy = Document::from(document.html());
    let mut reader = Readability::with_document(copy, None, Some(config)).ok()?;
    if !reader.is_probably_readable() {
        return None;
    }
    let article = reader.parse().ok()?;
    let length = length(&article.text_content);
    if length < LEAST || (length < LONG && length * LEAST_PART < rest) {
        return None;
    }
    let heading = heading.trim();
    let content = article.content.to_string();
    if heading.is_empty() || Document::from(content.as_str()).select("h1").exists() {
        return Some(content);
    }
    let escaped = heading.replace('&', "&amp;").replace('<', "&lt;");
    Some(format!("<h1>{escaped}</h1>{content}"))
}

/// Characters that are seen.
fn length(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}
