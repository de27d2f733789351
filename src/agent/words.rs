//! A command line of a model as words. Nothing is expanded, and no shell ever reads it: what only a
//! shell would understand is refused, so that the model learns that there is none. Pure.

/// Longest command, in bytes.
const MAX_BYTES: usize = 20_000;
/// Words of a command at most.
const MAX_WORDS: usize = 32;

/// Takes a command apart: blanks separate, `'…'` and `"…"` hold together, `\` takes the next
/// character as it is.
///
/// # Errors
/// What the model has to write otherwise.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    if line.len() > MAX_BYTES {
        return Err(format!("a command may have {MAX_BYTES} bytes"));
    }
    if line.contains('\0') {
        return Err("a command cannot hold a NUL character".into());
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.trim().chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\n' | '\r' => return Err(one_command("a new line")),
            blank if blank.is_whitespace() => words.extend(word.take()),
            '\'' => quoted(&mut rest, '\'', word.get_or_insert_default())?,
            '"' => quoted(&mut rest, '"', word.get_or_insert_default())?,
            '\\' => match rest.next() {
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err("nothing follows the last \\".into()),
            },
            ';' | '|' | '<' | '>' | '`' => return Err(one_command(&next.to_string())),
            // Within a word it is part of a URL.
            '&' if word.is_none() || rest.peek().is_none_or(|c| *c == '&' || c.is_whitespace()) => {
                return Err(one_command("&"));
            }
            '$' if rest
                .peek()
                .is_some_and(|c| c.is_alphabetic() || "({_'\"".contains(*c)) =>
            {
                return Err(
                    "there is no shell, so no variable and no $(…); a secret is written \
                            {{name}}, and a dollar sign stands in quotes"
                        .into(),
                );
            }
            plain => word.get_or_insert_default().push(plain),
        }
        if words.len() > MAX_WORDS {
            return Err(format!("a command may have {MAX_WORDS} words"));
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    quote: char,
    word: &mut String,
) -> Result<(), String> {
    while let Some(next) = rest.next() {
        match next {
            end if end == quote => return Ok(()),
            '\\' if quote == '"' && rest.peek().is_some_and(|c| "\"\\".contains(*c)) => {
                word.extend(rest.next());
            }
            plain => word.push(plain),
        }
    }
    Err(format!("a {quote} is not closed"))
}

fn one_command(what: &str) -> String {
    format!(
        "there is no shell: one agent-browser command at a time, without {what} outside of quotes"
    )
}

/// Words as one line of bash that hands exactly these words over.
pub(super) fn line(words: &[String]) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_as_written() {
        for (text, want) in [
            ("click @e1", &["click", "@e1"][..]),
            ("  fill  @e2   'a b'  ", &["fill", "@e2", "a b"]),
            (
                r#"fill @e2 "it's \"x\" \n""#,
                &["fill", "@e2", r#"it's "x" \n"#],
            ),
            (r"fill @e2 a\ b\;", &["fill", "@e2", "a b;"]),
            ("fill @e2 ''", &["fill", "@e2", ""]),
            ("click #submit", &["click", "#submit"]),
            (
                "open http://x.test/?a=1&b=2",
                &["open", "http://x.test/?a=1&b=2"],
            ),
            (
                "fill @e1 '; rm -rf / | $(x) `y` > z'",
                &["fill", "@e1", "; rm -rf / | $(x) `y` > z"],
            ),
            ("fill @e1 \"$5 & more\"", &["fill", "@e1", "$5 & more"]),
            ("fill @e1 $5", &["fill", "@e1", "$5"]),
            ("", &[]),
        ] {
            assert_eq!(split(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_a_shell_would_do_is_refused() {
        for text in [
            "click @e1; click @e2",
            "click @e1 && click @e2",
            "click @e1 & ",
            "click @e1 &",
            "get text @e1 | head",
            "get text @e1 > /tmp/x",
            "fill @e1 $(id)",
            "fill @e1 `id`",
            "fill @e1 $HOME",
            "fill @e1 ${HOME}",
            "click @e1\nclick @e2",
            "fill @e1 'open",
            "fill @e1 \"open",
            "click \\",
            "click a\0b",
        ] {
            assert!(split(text).is_err(), "{text:?}");
        }
        split(&"x".repeat(MAX_BYTES + 1)).unwrap_err();
        split(&"x ".repeat(MAX_WORDS + 2)).unwrap_err();
    }

    proptest! {
        /// Bash hands over what was meant, whatever it is.
        #[test]
        fn bash_reads_a_line_as_its_words(words in prop::collection::vec("[^\0]{0,12}", 1..4)) {
            let code = format!("printf '%s\\0' {}", line(&words));
            let output = std::process::Command::new("bash")
                .args(["--norc", "-c", &code])
                .env("LC_ALL", "C.UTF-8")
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let read: Vec<&str> = text.split_terminator('\0').collect();
            prop_assert_eq!(read, words);
        }
    }
}
