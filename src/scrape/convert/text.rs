//! Documents that are not HTML.

/// Languages of fences, by the content type.
const LANGUAGES: [(&str, &str); 9] = [
    ("json", "json"),
    ("xml", "xml"),
    ("javascript", "javascript"),
    ("ecmascript", "javascript"),
    ("css", "css"),
    ("yaml", "yaml"),
    ("csv", "csv"),
    ("toml", "toml"),
    ("html", "html"),
];

/// Text as markdown: as it is when it is plain, else in a fence that nothing in it closes.
pub(in crate::scrape) fn as_markdown(text: &str, content_type: &str) -> String {
    let language = LANGUAGES
        .iter()
        .find(|(part, _)| content_type.contains(part));
    let Some((_, language)) = language else {
        return text.trim_end().to_owned();
    };
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}", text.trim_end())
}

/// Text as HTML.
pub(in crate::scrape) fn as_html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<pre>{text}</pre>")
}
