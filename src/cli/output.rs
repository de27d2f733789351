//! Writing for people and for programs: stdout, complaints, tables.

use std::io::{ErrorKind, Write as _};

use super::Error;

/// Writes text to stdout. A reader that left early is no failure.
pub(super) fn print(text: &str) -> Result<(), Error> {
    print_to_reader(text).map(drop)
}

/// The same; whether the reader is still there.
pub(super) fn print_to_reader(text: &str) -> Result<bool, Error> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Write(error)),
    }
}

/// On stderr in Pagebox's own name. A message may repeat what a page or a caller said.
pub(super) fn complain(message: &dyn std::fmt::Display) {
    let message = message.to_string();
    let lines: Vec<String> = message.lines().map(plain).collect();
    // Where stderr is gone there is nobody left to tell.
    drop(writeln!(std::io::stderr(), "pagebox: {}", lines.join("\n")));
}

/// Rows under a header, in columns as wide as their widest cell.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let width = |column: usize| {
        all()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let padding = width.saturating_sub(cell.chars().count());
            format!("{cell}{}", " ".repeat(padding))
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A line without what drives a terminal or turns the direction of its text.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if drives(c) { ' ' } else { c })
        .collect()
}

fn drives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

/// Text of a web page on a terminal: it cannot drive it, and is not too long.
pub(super) fn harmless(text: &str, most: usize) -> String {
    let clean = text.chars().map(|c| if drives(c) { ' ' } else { c });
    if text.chars().count() <= most {
        clean.collect()
    } else {
        clean.take(most.saturating_sub(1)).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["1".to_owned(), "ready".to_owned()],
            vec!["22".to_owned(), "x".to_owned()],
        ];
        assert_eq!(
            table(&["ID", "STATE"], &rows),
            "ID  STATE\n1   ready\n22  x\n"
        );
    }

    #[test]
    fn titles_cannot_drive_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\n", 20), "a [2Jb ");
        assert_eq!(harmless("\u{202e}gpj.\u{9b}31m\u{2066}", 20), " gpj. 31m ");
        assert_eq!(harmless("abcdef", 4), "abc…");
    }
}
