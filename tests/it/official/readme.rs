//! README.md's calls of the official clients, as they stand there.

use std::path::Path;

use super::passes;
use crate::shared::{daemon, site};

const README: &str = include_str!("../../../README.md");

#[tokio::test]
async fn the_calls_in_the_readme_give_a_title() {
    let (_, section) = README
        .split_once("\n### With the clients you have\n")
        .unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let address = daemon().url();
    let mut ran = Vec::new();
    for block in section.split("```").skip(1).step_by(2) {
        let (language, code) = block.split_once('\n').unwrap();
        let code = code
            .replace("http://127.0.0.1:7370", &address)
            .replace("https://example.com", &site().url("/article.html"));
        let (program, arguments): (&str, &[&str]) = match language {
            "js" => ("node", &["--input-type=module", "-e", &code]),
            "python" => ("python", &["-c", &code]),
            "sh" => ("bash", &["-euo", "pipefail", "-c", &code]),
            // The MCP server's settings; its test has the same.
            "json" => continue,
            other => panic!("{other} cannot be run"),
        };
        let printed = passes(Path::new(program), arguments, daemon()).await;
        let titles = printed
            .lines()
            .filter(|line| *line == "How a tide table is made");
        assert_eq!(titles.count(), 1, "{code}\n{printed}");
        ran.push(language);
    }
    assert_eq!(ran, ["python", "js", "sh", "sh", "js", "js", "sh"]);
}
