//! What of agent-browser a model may use: a closed list of commands, their places and their options.
//! Pure.
//!
//! Absent are commands that run scripts (`eval`, `wait --fn`), read or write what a site keeps
//! (`cookies`, `storage`), reach another browser, file or program (`connect`, `upload`, `batch` …),
//! open tabs, or show a secret of the session (`get cdp-url`).

use super::words;

/// A command that may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Without the program's name; secrets as `{{name}}`.
    pub(super) words: Vec<String>,
    pub(super) kind: Kind,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Looks at the page.
    Look,
    /// May change it.
    Act,
    /// Goes to the URL in this word.
    Open(usize),
    /// Writes the text in this word, into the element that the other names, or the focused one.
    Write { text: usize, into: Option<usize> },
}

impl Command {
    /// As the model would write it.
    pub(super) fn shown(&self) -> String {
        let plain = |word: &str| {
            !word.is_empty()
                && (word.chars()).all(|c| c.is_alphanumeric() || "@#.,:/_-+={}?%[]~".contains(c))
        };
        let show = |word: &String| match plain(word) {
            true => word.clone(),
            false => words::line(std::slice::from_ref(word)),
        };
        let shown: Vec<String> = self.words.iter().map(show).collect();
        shown.join(" ")
    }
}

/// A command's name, its number of words behind it, its options (with a value or not), and what the
/// first word may be.
struct Form {
    name: &'static str,
    words: (usize, usize),
    options: &'static [(&'static str, bool)],
    first: &'static [&'static str],
    does: Does,
}

#[derive(Clone, Copy)]
enum Does {
    Look,
    Act,
    Open,
    /// Into the first word.
    Write,
    /// Into the focused element.
    WriteHere,
}

const fn form(name: &'static str, words: (usize, usize), does: Does) -> Form {
    Form {
        name,
        words,
        options: &[],
        first: &[],
        does,
    }
}

impl Form {
    const fn options(mut self, options: &'static [(&'static str, bool)]) -> Self {
        self.options = options;
        self
    }

    const fn first(mut self, first: &'static [&'static str]) -> Self {
        self.first = first;
        self
    }
}

const FORMS: &[Form] = &[
    form("open", (1, 1), Does::Open),
    form("goto", (1, 1), Does::Open),
    form("navigate", (1, 1), Does::Open),
    form("back", (0, 0), Does::Act),
    form("forward", (0, 0), Does::Act),
    form("reload", (0, 0), Does::Act),
    form("snapshot", (0, 0), Does::Look).options(&[
        ("-i", false),
        ("--interactive", false),
        ("-c", false),
        ("--compact", false),
        ("-u", false),
        ("--urls", false),
        ("-d", true),
        ("--depth", true),
        ("-s", true),
        ("--selector", true),
    ]),
    form("read", (0, 0), Does::Look).options(&[("--outline", false), ("--filter", true)]),
    form("scrape", (0, 0), Does::Look),
    form("get", (1, 3), Does::Look).first(&[
        "text", "html", "value", "attr", "title", "url", "count", "box", "styles",
    ]),
    form("is", (2, 2), Does::Look).first(&["visible", "enabled", "checked"]),
    form("click", (1, 1), Does::Act),
    form("dblclick", (1, 1), Does::Act),
    form("hover", (1, 1), Does::Act),
    form("focus", (1, 1), Does::Act),
    form("check", (1, 1), Does::Act),
    form("uncheck", (1, 1), Does::Act),
    form("scrollintoview", (1, 1), Does::Act),
    form("fill", (2, 2), Does::Write),
    form("type", (2, 2), Does::Write),
    form("keyboard", (2, 2), Does::WriteHere).first(&["type", "inserttext"]),
    form("press", (1, 1), Does::Act),
    form("select", (2, 12), Does::Act),
    form("drag", (2, 2), Does::Act),
    form("scroll", (1, 2), Does::Act).first(&["up", "down", "left", "right"]),
    form("mouse", (1, 3), Does::Act).first(&["move", "down", "up", "wheel"]),
    form("wait", (0, 1), Does::Act).options(&[
        ("--text", true),
        ("--url", true),
        ("--load", true),
        ("--state", true),
        ("--timeout", true),
    ]),
    form("find", (3, 5), Does::Act)
        .options(&[("--name", true), ("--exact", false)])
        .first(&[
            "role",
            "text",
            "label",
            "placeholder",
            "alt",
            "title",
            "testid",
            "first",
            "last",
            "nth",
        ]),
    form("dialog", (1, 2), Does::Act).first(&["status", "accept", "dismiss"]),
];

/// What `find` may do with what it finds.
const FOUND: [&str; 9] = [
    "click", "dblclick", "fill", "type", "check", "uncheck", "hover", "focus", "text",
];

/// Reads a command of the model.
///
/// # Errors
/// Why it is refused, for the model.
pub(super) fn parse(line: &str) -> Result<Command, String> {
    let mut words = words::split(line)?;
    if words.first().is_some_and(|word| word == "agent-browser") {
        words.remove(0);
    }
    let Some(name) = words.first() else {
        return Err("the command is empty".into());
    };
    let Some(form) = FORMS.iter().find(|form| form.name == name) else {
        let known: Vec<&str> = FORMS.iter().map(|form| form.name).collect();
        let known = known.join(", ");
        return Err(format!(
            "{:?} is not available here; there are: {known}",
            short(name)
        ));
    };
    let places = places(form, &words)?;
    if let Some(&first) = places.first()
        && !form.first.is_empty()
        && !form.first.contains(&&*words[first])
    {
        let allowed = form.first.join(", ");
        let found = short(&words[first]);
        return Err(format!("{name} takes one of {allowed}, not {found:?}"));
    }
    if name == "find" {
        // `nth` has its number before what it looks for.
        let at = if words[places[0]] == "nth" { 3 } else { 2 };
        let action = places.get(at).map_or("", |&place| &*words[place]);
        if !FOUND.contains(&action) {
            let allowed = FOUND.join(", ");
            return Err(format!(
                "find takes what to do behind what to look for: {allowed}"
            ));
        }
    }
    let kind = match form.does {
        Does::Look => Kind::Look,
        Does::Act => Kind::Act,
        Does::Open => Kind::Open(places[0]),
        Does::Write => Kind::Write {
            text: places[1],
            into: Some(places[0]),
        },
        Does::WriteHere => Kind::Write {
            text: places[1],
            into: None,
        },
    };
    Ok(Command { words, kind })
}

/// Where the words are that are no options.
fn places(form: &Form, words: &[String]) -> Result<Vec<usize>, String> {
    let mut places = Vec::new();
    let mut at = 1;
    while let Some(word) = words.get(at) {
        if let Some((_, has_value)) = form.options.iter().find(|(name, _)| name == word) {
            at += 1;
            if *has_value {
                let value = words.get(at);
                match value.filter(|value| !is_option(value)) {
                    Some(_) => at += 1,
                    None => return Err(format!("{word} needs a value")),
                }
            }
            continue;
        }
        if is_option(word) {
            return Err(format!(
                "{} has no option {:?} here{}",
                form.name,
                short(word),
                match form.does {
                    Does::Write | Does::WriteHere => "; a text cannot begin with -",
                    _ => "",
                }
            ));
        }
        places.push(at);
        at += 1;
    }
    let (least, most) = form.words;
    if !(least..=most).contains(&places.len()) {
        let name = form.name;
        let found = places.len();
        let hint = match form.does {
            Does::Write | Does::WriteHere => "; a text with blanks stands in quotes",
            _ => "",
        };
        return Err(match least == most {
            true => format!("{name} takes {least} words, not {found}{hint}"),
            false => format!("{name} takes {least} to {most} words, not {found}{hint}"),
        });
    }
    Ok(places)
}

/// Whether agent-browser could take a word for an option, wherever it stands. A number is none.
pub(super) fn is_option(word: &str) -> bool {
    word.strip_prefix('-')
        .is_some_and(|rest| rest.parse::<f64>().is_err())
}

fn short(word: &str) -> String {
    word.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_needs_is_there() {
        for (line, kind) in [
            ("snapshot -i", Kind::Look),
            ("agent-browser snapshot -i -c -d 3 -s '#main'", Kind::Look),
            ("read --filter price", Kind::Look),
            ("get attr @e1 href", Kind::Look),
            ("click @e1", Kind::Act),
            ("scroll down -200", Kind::Act),
            ("wait --text 'Thank you' --timeout 2000", Kind::Act),
            ("wait 500", Kind::Act),
            ("find role button click --name 'Log in'", Kind::Act),
            ("find nth 2 .card click", Kind::Act),
            ("dialog accept Petrel", Kind::Act),
            ("open https://a.test/", Kind::Open(1)),
            (
                "fill @e1 'ada@example.com'",
                Kind::Write {
                    text: 2,
                    into: Some(1),
                },
            ),
            (
                "keyboard type {{pin}}",
                Kind::Write {
                    text: 2,
                    into: None,
                },
            ),
        ] {
            assert_eq!(parse(line).map(|command| command.kind), Ok(kind), "{line}");
        }
    }

    #[test]
    fn what_could_do_more_is_refused() {
        for line in [
            "",
            "agent-browser",
            "ls",
            "bash -c id",
            "agent-browser; id",
            "eval 'document.cookie'",
            "eval -b eA==",
            "wait --fn 'fetch(1)'",
            "cookies",
            "cookies set a b",
            "storage local",
            "connect 9222",
            "close",
            "tab new https://evil.test",
            "tab",
            "window new",
            "click @e1 --new-tab",
            "get cdp-url",
            "upload @e1 /etc/passwd",
            "download @e1 /tmp/x",
            "screenshot /tmp/x.png",
            "pdf /tmp/x.pdf",
            "read https://evil.test",
            "scrape https://evil.test",
            "batch 'eval 1'",
            "network route '*' --abort",
            "set headers '{}'",
            "state save /tmp/x",
            "--session other snapshot",
            "snapshot --cdp 9222",
            "fill @e1 --cdp",
            "fill @e1 -p",
            "open --headers '{}' https://a.test",
            "open https://a.test --cdp 1",
            "find role button eval",
            "find role button click --cdp",
            "snapshot -d --cdp",
            "fill @e1 two words",
            "diff url a b",
            "mcp",
            "chat hello",
            "plugin run x y",
            "auth show x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_refusal_says_what_there_is() {
        let why = parse("eval 1").unwrap_err();
        assert!(why.contains("\"eval\" is not available") && why.contains("snapshot"));
        assert!(parse("fill @e1 a b").unwrap_err().contains("in quotes"));
    }

    #[test]
    fn a_command_is_shown_as_it_can_be_written_again() {
        for line in [
            "click @e1",
            "fill @e1 'a b'",
            "fill @e1 ''",
            r"fill @e1 'it'\''s'",
        ] {
            let command = parse(line).unwrap();
            assert_eq!(command.shown(), line);
            assert_eq!(parse(&command.shown()).unwrap(), command);
        }
    }
}
