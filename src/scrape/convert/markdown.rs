//! HTML as markdown.

use dom_query::{Document, NodeRef};
use htmd::HtmlToMarkdown;
use htmd::options::{BulletListMarker, Options};

/// Markdown of a piece of HTML whose nesting is bounded.
pub(super) fn of(html: &str) -> String {
    let document = Document::from(html);
    for table in document.select("table").nodes() {
        prepare_table(table);
    }
    for pre in document.select("pre").nodes() {
        prepare_code(pre);
    }
    let converter = HtmlToMarkdown::builder()
        .skip_tags(vec!["script", "style", "title", "button", "head"])
        .options(Options {
            bullet_list_marker: BulletListMarker::Dash,
            ul_bullet_spacing: 1,
            ol_number_spacing: 1,
            ..Options::default()
        })
        .build();
    // It fails only where reading from memory does.
    let markdown = converter.convert(&document.html()).unwrap_or_default();
    tidy(&markdown)
}

/// A table without a header row gets its first one for it; one that lays out the page, with tables in
/// it, goes.
fn prepare_table(table: &NodeRef<'_>) {
    let selection = dom_query::Selection::from(*table);
    if selection.select("table").exists() || selection.select("th").exists() {
        return;
    }
    let rows = selection.select("tr");
    let Some(first) = rows.nodes().first().filter(|_| rows.length() > 1) else {
        return;
    };
    let cells = dom_query::Selection::from(*first).children();
    if cells.length() > 1 {
        cells.rename("th");
    }
}

/// Code without a code element of its own is code all the same; spans that colour it go.
fn prepare_code(pre: &NodeRef<'_>) {
    let selection = dom_query::Selection::from(*pre);
    let code = selection.select_single("code");
    let language = language(&code.attr_or("class", ""))
        .or_else(|| language(&selection.attr_or("class", "")))
        .or_else(|| language(&dom_query::Selection::from(pre.parent()?).attr_or("class", "")));
    for line in selection.select("br").nodes() {
        line.replace_with_html("\n");
    }
    let text = pre.text();
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    let class = language.map_or(String::new(), |name| format!(" class=\"language-{name}\""));
    pre.set_html(format!("<code{class}>{escaped}</code>"));
}

fn language(class: &str) -> Option<String> {
    let names = class.split_whitespace().filter_map(|name| {
        let prefixes = ["language-", "lang-", "highlight-source-"];
        prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))
    });
    let is_name = |name: &&str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_alphanumeric() || "+-#_.".contains(c))
    };
    names.filter(is_name).map(str::to_owned).next()
}

/// No more than one empty line, none of blanks, outside code.
fn tidy(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len());
    let (mut empty, mut fence) = (0, None::<&str>);
    for line in markdown.lines() {
        let start = line.trim_start();
        let marks = start.len() - start.trim_start_matches('`').len();
        match fence {
            Some(open) if marks >= open.len() && start.trim_matches('`').is_empty() => fence = None,
            None if marks >= 3 => fence = Some(&start[..marks]),
            _ => {}
        }
        if fence.is_none() && line.trim().is_empty() {
            empty += 1;
            continue;
        }
        if empty > 0 && !out.is_empty() {
            out.push('\n');
        }
        empty = 0;
        out.push_str(line);
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}
