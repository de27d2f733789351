//! Addresses on a page.

use std::collections::HashSet;

use dom_query::Document;
use url::Url;

/// What stands where an image inside the page's own text was.
const REMOVED: &str = "<Base64-Image-Removed>";
const MAX_LINKS: usize = 50_000;

/// What its addresses are relative to.
pub(super) fn base(document: &Document, url: &Url) -> Url {
    let said = document.select_single("base[href]").attr("href");
    said.and_then(|href| url.join(href.trim()).ok())
        .filter(|base| matches!(base.scheme(), "http" | "https"))
        .unwrap_or_else(|| url.clone())
}

/// Writes every address of a link or image in full; those that cannot be followed go.
pub(super) fn make_absolute(document: &Document, base: &Url) {
    for (selector, name) in [
        ("a[href], area[href]", "href"),
        ("img, source, video, audio", "src"),
    ] {
        for node in document.select(selector).nodes() {
            let lazy = || node.attr("data-src").or_else(|| node.attr("data-lazy-src"));
            let said = node.attr(name).filter(|said| !said.trim().is_empty());
            let Some(said) = said.or_else(|| if name == "src" { lazy() } else { None }) else {
                continue;
            };
            match base.join(said.trim()) {
                Ok(url) if url.scheme() == "javascript" => node.remove_attr(name),
                Ok(url) => node.set_attr(name, url.as_str()),
                Err(_) => node.remove_attr(name),
            }
        }
    }
    for node in document.select("img[srcset], source[srcset]").nodes() {
        let best = node.attr("srcset").and_then(|set| largest(&set, base));
        node.remove_attr("srcset");
        if let Some(best) = best {
            node.set_attr("src", &best);
        }
    }
}

/// The largest of a srcset.
fn largest(set: &str, base: &Url) -> Option<String> {
    // A comma may be part of an address, but not with white space after it.
    let candidates = set.split(", ").filter_map(|candidate| {
        let mut words = candidate.trim().trim_end_matches(',').split_whitespace();
        let url = base.join(words.next()?).ok()?;
        let size = words.next().unwrap_or("1x");
        let size = size.trim_end_matches(['x', 'w']).parse::<f64>().ok()?;
        Some((size, url.to_string()))
    });
    let best = candidates.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.map(|(_, url)| url)
}

/// The links of a page whose addresses are in full: each once, in its order.
pub(super) fn of(document: &Document) -> Vec<String> {
    let links = document.select("a[href], area[href]");
    let links = links.nodes().iter().filter_map(|node| node.attr("href"));
    once(links.filter(|link| {
        ["http:", "https:", "mailto:", "tel:", "ftp:"]
            .iter()
            .any(|s| link.starts_with(s))
    }))
}

/// Its images, likewise.
pub(super) fn images(document: &Document) -> Vec<String> {
    let found = document.select("img[src], picture source[src], video[poster]");
    once(
        found
            .nodes()
            .iter()
            .filter_map(|node| node.attr("src").or_else(|| node.attr("poster"))),
    )
}

fn once(found: impl Iterator<Item = impl AsRef<str>>) -> Vec<String> {
    let mut seen = HashSet::new();
    let found = found.map(|url| url.as_ref().to_owned());
    found
        .filter(|url| seen.insert(url.clone()))
        .take(MAX_LINKS)
        .collect()
}

/// Says of images inside the page's text only that they were there.
pub(super) fn remove_inline_images(document: &Document) {
    for node in document
        .select("img[src^='data:'], source[src^='data:']")
        .nodes()
    {
        node.set_attr("src", REMOVED);
    }
}
