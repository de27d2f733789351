//! A page's HTML as what was asked for: pure, and to be run where blocking is allowed.
//!
//! ```text
//! html ── parse ── flatten ─┬─ metadata, links, images
//!                           └─ tags ── clean ── main content ─┬─ html
//!                                                             └─ markdown
//! ```

mod links;
mod main_content;
mod markdown;
mod metadata;
mod text;

use dom_query::{Document, NodeRef};
use serde_json::{Map, Value};
use url::Url;

pub(super) use text::{as_html, as_markdown};

/// Elements nested deeper than this lose their tags and keep their text: what comes after uses the
/// stack. Chromium's own parser stops at 512.
const MAX_DEPTH: usize = 256;
/// Never part of a document.
const NEVER: &str =
    "script, style, noscript, template, link, meta, iframe, object, embed, svg, canvas";

/// What to make of a page.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Where it is.
    pub(super) url: Url,
    pub(super) only_main_content: bool,
    pub(super) include_tags: Vec<String>,
    pub(super) exclude_tags: Vec<String>,
    pub(super) remove_base64_images: bool,
    pub(super) markdown: bool,
    pub(super) html: bool,
    pub(super) links: bool,
    pub(super) images: bool,
}

/// What was made of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Converted {
    pub(super) markdown: Option<String>,
    pub(super) html: Option<String>,
    pub(super) links: Option<Vec<String>>,
    pub(super) images: Option<Vec<String>>,
    /// Title, description and the like.
    pub(super) metadata: Map<String, Value>,
}

/// Converts a page.
pub(super) fn convert(html: &str, wanted: &Wanted) -> Converted {
    let document = Document::from(html);
    flatten(&document);
    let base = links::base(&document, &wanted.url);
    let mut converted = Converted {
        metadata: metadata::of(&document, &base),
        ..Converted::default()
    };
    select_tags(&document, wanted);
    document.select(NEVER).remove();
    links::make_absolute(&document, &base);
    converted.links = wanted.links.then(|| links::of(&document));
    converted.images = wanted.images.then(|| {
        let mut images = links::images(&document);
        images.retain(|image| !(wanted.remove_base64_images && image.starts_with("data:")));
        images
    });
    if !wanted.markdown && !wanted.html {
        return converted;
    }
    if wanted.remove_base64_images {
        links::remove_inline_images(&document);
    }
    let only_main = wanted.only_main_content && wanted.include_tags.is_empty();
    let (body, is_page) = match only_main.then(|| main_content::of(&document)).flatten() {
        Some(article) => (article, false),
        None => {
            let body = document.body().map(|body| body.inner_html().to_string());
            (body.unwrap_or_default(), true)
        }
    };
    converted.markdown = wanted.markdown.then(|| markdown::of(&body));
    converted.html = wanted.html.then(|| {
        if is_page && !only_main && wanted.include_tags.is_empty() {
            document.select("head > :not(title)").remove();
            document.html().to_string()
        } else {
            body
        }
    });
    converted
}

/// Makes text of elements that are nested too deeply.
fn flatten(document: &Document) {
    let mut left: Vec<(NodeRef<'_>, usize)> = vec![(document.root(), 0)];
    while let Some((node, depth)) = left.pop() {
        if depth < MAX_DEPTH {
            left.extend(node.element_children().into_iter().map(|c| (c, depth + 1)));
            continue;
        }
        let text = node.text();
        node.remove_children();
        node.set_text(text);
    }
}

/// Leaves what is asked for. Selectors were checked.
fn select_tags(document: &Document, wanted: &Wanted) {
    for selector in &wanted.exclude_tags {
        if let Some(found) = document.try_select(selector) {
            found.remove();
        }
    }
    if wanted.include_tags.is_empty() {
        return;
    }
    let all = wanted.include_tags.join(", ");
    let found = document.try_select(&all);
    let chosen: Vec<NodeRef<'_>> = found.map(|f| f.nodes().to_vec()).unwrap_or_default();
    let ids: std::collections::HashSet<_> = chosen.iter().map(|node| node.id).collect();
    // What lies in another chosen one comes with it.
    let outermost = chosen.iter().filter(|node| {
        let mut above = node.ancestors_it(None);
        !above.any(|above| ids.contains(&above.id))
    });
    let html: Vec<String> = outermost.map(|node| node.html().to_string()).collect();
    if let Some(body) = document.body() {
        body.set_html(html.join("\n"));
    }
}

#[cfg(test)]
mod tests;
