//! What becomes of HTML.

use super::*;

const URL: &str = "https://news.example/2026/tide?page=1";

fn wanted() -> Wanted {
    Wanted {
        url: Url::parse(URL).unwrap(),
        only_main_content: false,
        include_tags: Vec::new(),
        exclude_tags: Vec::new(),
        remove_base64_images: true,
        markdown: true,
        html: true,
        links: true,
        images: true,
    }
}

fn markdown(body: &str) -> String {
    convert(body, &wanted()).markdown.unwrap()
}

/// As a newspaper has it.
fn article() -> String {
    let paragraph = "<p>The gauge at the old quay was read by hand, twice a day, for a hundred and \
        forty years, and each reading was written down in ink, with the weather beside it.</p>";
    format!(
        r#"<!doctype html><html lang="en-GB"><head><title> Tides
           | News</title><meta name="description" content="How it is made"><meta property="og:title"
           content="Tides"><meta property="og:image" content="https://news.example/a.png"><meta
           name="statusCode" content="wrong"><link rel="icon" href="/icon.png"></head><body>
           <header><nav><ul><li><a href="/">Home</a></li><li><a href="/sport">Sport</a></li></ul></nav>
           </header><article><h1>How a tide table is made</h1>{}<p>More in <a href="archive">the
           archive</a>.</p></article><aside class="ads">Buy a boat</aside><footer>Imprint</footer>
           <script>alert(1)</script></body></html>"#,
        paragraph.repeat(8)
    )
}

#[test]
fn the_main_content_is_the_article_under_its_heading() {
    let wanted = Wanted {
        only_main_content: true,
        ..wanted()
    };
    let converted = convert(&article(), &wanted);
    let markdown = converted.markdown.unwrap();
    assert!(
        markdown.starts_with("# How a tide table is made"),
        "{markdown}"
    );
    assert!(markdown.contains("written down in ink"), "{markdown}");
    assert!(
        markdown.contains("[the archive](https://news.example/2026/archive)"),
        "{markdown}"
    );
    for around in ["Sport", "Buy a boat", "Imprint", "alert"] {
        assert!(!markdown.contains(around), "{around}: {markdown}");
    }
    // Links are those of the whole page.
    assert_eq!(
        converted.links.unwrap(),
        [
            "https://news.example/",
            "https://news.example/sport",
            "https://news.example/2026/archive"
        ]
    );
}

#[test]
fn without_it_all_of_the_page_is_there_but_scripts() {
    let converted = convert(&article(), &wanted());
    let markdown = converted.markdown.unwrap();
    for part in ["Sport", "Buy a boat", "Imprint"] {
        assert!(markdown.contains(part), "{markdown}");
    }
    let html = converted.html.unwrap();
    assert!(!markdown.contains("alert") && !html.contains("alert"));
    assert!(
        html.contains("<title>") && html.contains("<article>"),
        "{html}"
    );
}

#[test]
fn a_page_that_is_no_article_loses_only_what_is_around_it() {
    let wanted = Wanted {
        only_main_content: true,
        ..wanted()
    };
    let page = "<nav>Menu</nav><div><h1>Prices</h1><ul><li>Boat: 5</li><li>Oar: 2</li></ul></div>";
    let markdown = convert(page, &wanted).markdown.unwrap();
    assert_eq!(markdown, "# Prices\n\n- Boat: 5\n- Oar: 2");
    // Nothing but navigation: that is the content.
    let page = "<nav><a href='/a'>All there is</a></nav>";
    let markdown = convert(page, &wanted).markdown.unwrap();
    assert_eq!(markdown, "[All there is](https://news.example/a)");
}

#[test]
fn metadata_is_what_the_page_says_and_cannot_break_a_client() {
    let metadata = convert(&article(), &wanted()).metadata;
    assert_eq!(metadata["title"], "Tides | News");
    assert_eq!(metadata["description"], "How it is made");
    assert_eq!(metadata["language"], "en-GB");
    assert_eq!(metadata["ogTitle"], "Tides");
    assert_eq!(metadata["og:title"], "Tides");
    assert_eq!(metadata["favicon"], "https://news.example/icon.png");
    assert!(!metadata.contains_key("statusCode"));
    assert!(metadata.values().all(Value::is_string));
}

#[test]
fn tables_become_tables() {
    let html = "<table><thead><tr><th>Harbour</th><th>Height</th></tr></thead><tbody><tr><td>Old \
                <b>Quay</b></td><td>4.1 | 4.2</td></tr></tbody></table>";
    let table = markdown(html);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(
        rows[0].contains("Harbour") && rows[0].starts_with('|'),
        "{table}"
    );
    assert!(
        rows[2].contains("**Quay**") && rows[2].contains("4.1 &#124; 4.2"),
        "{table}"
    );
    // One without a header row.
    let table =
        markdown("<table><tr><td>a</td><td>b</td></tr><tr><td>1</td><td>2</td></tr></table>");
    assert_eq!(table, "| a | b |\n| - | - |\n| 1 | 2 |");
}

#[test]
fn code_keeps_its_lines_and_its_language() {
    let html = "<div class='highlight-source-rust'><pre><span class=k>fn</span> main() {\n\n\n    \
                a &lt; b;\n}</pre></div>";
    assert_eq!(
        markdown(html),
        "```rust\nfn main() {\n\n\n    a < b;\n}\n```"
    );
    let html =
        "<p>Call <code>a_b*</code>:</p><pre><code class='language-sh'>ls<br>pwd</code></pre>";
    assert_eq!(markdown(html), "Call `a_b*`:\n\n```sh\nls\npwd\n```");
}

#[test]
fn lists_keep_their_nesting() {
    let html =
        "<ol><li>One<ul><li>a</li><li>b<ul><li>deep</li></ul></li></ul></li><li>Two</li></ol>";
    let list = markdown(html);
    let lines: Vec<&str> = list
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let indents: Vec<usize> = lines
        .iter()
        .map(|l| l.len() - l.trim_start().len())
        .collect();
    assert_eq!(lines.len(), 5, "{list}");
    assert!(
        lines[0].starts_with("1. One") && lines[4].starts_with("2. Two"),
        "{list}"
    );
    assert!(indents[0] < indents[1] && indents[2] < indents[3], "{list}");
}

#[test]
fn addresses_are_in_full() {
    let html = "<base href='/b/'><a href='c?d#e'>x</a> <a href='javascript:alert(1)'>y</a> \
                <a href='mailto:a@b.test'>z</a> <img src='i.png' alt='An image'> \
                <img srcset='s.png 1x, l.png 2x'><img data-src='lazy.png'>";
    let converted = convert(html, &wanted());
    let text = converted.markdown.unwrap();
    assert!(text.contains("[x](https://news.example/b/c?d#e)"), "{text}");
    assert!(
        text.contains("![An image](https://news.example/b/i.png)"),
        "{text}"
    );
    assert!(!text.contains("javascript:"), "{text}");
    assert_eq!(
        converted.links.unwrap(),
        ["https://news.example/b/c?d#e", "mailto:a@b.test"]
    );
    let images = ["i.png", "l.png", "lazy.png"].map(|i| format!("https://news.example/b/{i}"));
    assert_eq!(converted.images.unwrap(), images);
}

#[test]
fn images_in_the_text_go_unless_they_are_wanted() {
    let html = "<p>a <img alt=dot src='data:image/png;base64,iVBORw0KGgo='></p>";
    let text = markdown(html);
    assert!(
        text.contains("dot") && text.contains("Base64-Image-Removed"),
        "{text}"
    );
    assert!(!text.contains("iVBOR"), "{text}");
    let wanted = Wanted {
        remove_base64_images: false,
        ..wanted()
    };
    assert!(
        convert(html, &wanted)
            .markdown
            .unwrap()
            .contains("iVBORw0KGgo=")
    );
}

#[test]
fn tags_are_kept_and_left_out_by_selector() {
    let html = "<div class=a>one <b>bold</b></div><div class=b>two</div><p id=c>three<i>!</i></p>";
    let with = |include: &[&str], exclude: &[&str]| {
        let wanted = Wanted {
            include_tags: include.iter().map(|&s| s.to_owned()).collect(),
            exclude_tags: exclude.iter().map(|&s| s.to_owned()).collect(),
            ..wanted()
        };
        convert(html, &wanted).markdown.unwrap()
    };
    assert_eq!(with(&["#c", ".a", "b"], &[]), "one **bold**\n\nthree*!*");
    assert_eq!(with(&[], &[".a", "i"]), "two\n\nthree");
    assert_eq!(with(&["nav"], &[]), "");
}

#[test]
fn odd_pages_are_converted_too() {
    for html in [
        "",
        " ",
        "<",
        "<html>",
        "\u{0}",
        "<!-- only -->",
        "<body><p>",
    ] {
        let converted = convert(html, &wanted());
        assert!(converted.markdown.unwrap().len() < 10, "{html:?}");
    }
}

/// On the small stack that blocking threads have.
#[test]
fn thousands_of_nested_elements_do_not_use_up_the_stack() {
    for (open, close) in [
        ("<div>", "</div>"),
        ("<ul><li>", ""),
        ("<b>", ""),
        ("<table><tr><td>", ""),
    ] {
        let html = format!("{}deep{}", open.repeat(5000), close.repeat(5000));
        let convert = move || {
            let wanted = Wanted {
                only_main_content: true,
                ..wanted()
            };
            convert(&html, &wanted).markdown.unwrap()
        };
        let thread = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(convert);
        let text = thread.unwrap().join().unwrap();
        assert!(text.contains("deep"), "{open}: {}", text.len());
    }
}

#[test]
fn text_is_fenced_by_its_type() {
    assert_eq!(
        as_markdown("{\"a\": 1}\n", "application/json"),
        "```json\n{\"a\": 1}\n```"
    );
    assert_eq!(as_markdown("a *b*\n", "text/plain; charset=utf-8"), "a *b*");
    assert_eq!(
        as_markdown("<a>```</a>", "text/xml"),
        "````xml\n<a>```</a>\n````"
    );
    assert_eq!(as_html("a<b>&"), "<pre>a&lt;b>&amp;</pre>");
}
