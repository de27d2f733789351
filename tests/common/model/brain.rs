//! What a model does with what it sees. Nothing is kept: as of the real ones, all it knows is what it
//! is sent.
//!
//! A task has one thing to do on each line:
//!
//! ```text
//! Fill "name" with "text" · Click "name" · Choose "value" in "name" · Press "key" · Open "url"
//! Run "command" · Look at the page · Tell me the line with "text" · Collect the lines with "text" page by page with "Next"
//! ```
//!
//! The model's name says how well it does: `planner` does it right. `clumsy` takes a wrong ref first;
//! `twin` does two things at once; `obedient` does what the page says; `looper` scrolls on and on;
//! `silent`, `garbage`, `hanger`, `late-hanger`, `busy`, `down`, `late-down` fail as they are called.

/// What a request says.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) model: String,
    pub(crate) system: String,
    pub(crate) tools: Vec<String>,
    pub(crate) task: String,
    /// Everything it called for so far.
    pub(crate) calls: Vec<String>,
    /// What came after it last said something.
    pub(crate) newest: String,
    pub(crate) whole: String,
    pub(crate) has_picture: bool,
}

/// What it answers.
#[derive(Debug)]
pub(crate) enum Said {
    Text(String),
    Calls(Vec<Call>),
    Garbage,
    Status(u16),
    Nothing,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Browser(String),
    Screenshot,
}

const FIELDS: [&str; 4] = ["textbox", "searchbox", "combobox", "spinbutton"];
const BUTTONS: [&str; 6] = ["button", "link", "checkbox", "radio", "tab", "menuitem"];

/// The `nth` time that this model is asked about this task.
pub(crate) fn decide(seen: &Seen, nth: usize) -> Said {
    if !seen.task.is_empty() && seen.tools.is_empty() {
        return read_page(seen, nth);
    }
    if !seen.tools.iter().any(|tool| tool == "browser") {
        return Said::Status(400);
    }
    match &*seen.model {
        "looper" => browser("scroll down 10"),
        "hanger" => Said::Nothing,
        "late-hanger" if !seen.calls.is_empty() => Said::Nothing,
        "silent" => Said::Text(String::new()),
        "nonsense" => Said::Garbage,
        "garbage" if nth <= 2 => Said::Garbage,
        "busy" if nth <= 2 => Said::Status([429, 503][nth - 1]),
        "down" => Said::Status(500),
        "late-down" if !seen.calls.is_empty() => Said::Status(400),
        "obedient" => obey(seen),
        "artist" if seen.has_picture => Said::Text("I saw the picture.".into()),
        "artist" if !seen.calls.is_empty() => Said::Text("There is no picture.".into()),
        "artist" => Said::Calls(vec![Call::Screenshot]),
        _ => plan(seen),
    }
}

fn browser(command: impl Into<String>) -> Said {
    Said::Calls(vec![Call::Browser(command.into())])
}

/// One thing to do.
#[derive(Debug)]
enum Item<'a> {
    Fill(&'a str, &'a str),
    Click(&'a str),
    Choose(&'a str, &'a str),
    Plain(String),
    Look,
    Tell(&'a str),
    Collect(&'a str, &'a str),
}

fn item(line: &str) -> Option<Item<'_>> {
    let parts: Vec<&str> = line.split('"').collect();
    let text = |at: usize| parts.get(at).copied();
    Some(match parts[0].trim() {
        "Fill" => Item::Fill(text(1)?, text(3)?),
        "Click" => Item::Click(text(1)?),
        "Choose" => Item::Choose(text(3)?, text(1)?),
        "Press" => Item::Plain(format!("press {}", text(1)?)),
        "Open" => Item::Plain(format!("open {}", text(1)?)),
        "Run" => Item::Plain(text(1)?.to_owned()),
        "Look at the page" => Item::Look,
        "Tell me the line with" => Item::Tell(text(1)?),
        "Collect the lines with" => Item::Collect(text(1)?, text(3)?),
        _ => return None,
    })
}

/// How a step went, as the log of the newest message has it.
fn log(seen: &Seen) -> Vec<(&str, &str)> {
    let Some((_, log)) = seen.newest.rsplit_once("Steps so far:\n") else {
        return Vec::new();
    };
    let steps = log.lines().map_while(|line| {
        let (_, step) = line.split_once(". ")?;
        step.rsplit_once(": ")
    });
    steps.collect()
}

/// How many things of the task are done: its commands in their order, whatever else ran between.
fn done(items: &[Item], steps: &[(&str, &str)]) -> usize {
    let verb = |item: &Item| match item {
        Item::Fill(..) => Some("fill".to_owned()),
        Item::Click(_) => Some("click".to_owned()),
        Item::Choose(..) => Some("select".to_owned()),
        Item::Plain(command) => command.split(' ').next().map(str::to_owned),
        Item::Look => Some("screenshot".to_owned()),
        Item::Tell(_) | Item::Collect(..) => None,
    };
    let mut at = 0;
    for (command, _) in steps.iter().filter(|(_, how)| *how == "done") {
        let ran = command.split(' ').next().map(str::to_owned);
        at += usize::from(items.get(at).is_some_and(|item| verb(item) == ran));
    }
    at
}

fn plan(seen: &Seen) -> Said {
    let items: Vec<Item> = seen.task.lines().filter_map(item).collect();
    if items.is_empty() {
        return Said::Text("I do not understand the task.".into());
    }
    let steps = log(seen);
    if let Some((command, "REFUSED")) = steps.last()
        && seen.model != "garbage"
    {
        return Said::Text(format!("I was refused: {command}"));
    }
    let failures = steps
        .iter()
        .rev()
        .take_while(|(_, how)| *how == "FAILED")
        .count();
    if failures >= 3 {
        return Said::Text(format!("I could not do it: {}", steps[steps.len() - 1].0));
    }
    if page(seen).contains(" dialog is ") {
        return browser("dialog accept");
    }
    let done = done(&items, &steps);
    let Some(item) = items.get(done) else {
        return Said::Text("It is done.".into());
    };
    let is_clumsy = seen.model == "clumsy" && failures == 0;
    let next = |item: &Item| match command(seen, item) {
        Ok(command) if is_clumsy => Ok(wrong_ref(&command)),
        command => command,
    };
    match item {
        Item::Look => Said::Calls(vec![Call::Screenshot]),
        Item::Tell(text) => tell(seen, text),
        Item::Collect(text, more) => collect(seen, text, more),
        first => {
            let calls = match (&*seen.model, items.get(done + 1)) {
                ("twin", Some(second)) => vec![next(first), next(second)],
                _ => vec![next(first)],
            };
            match calls.into_iter().collect::<Result<Vec<_>, _>>() {
                Ok(calls) => Said::Calls(calls.into_iter().map(Call::Browser).collect()),
                // It may still come.
                Err(_) if seen.calls.last().is_none_or(|call| call != "wait 300") => {
                    browser("wait 300")
                }
                Err(why) => Said::Text(why),
            }
        }
    }
}

fn command(seen: &Seen, item: &Item) -> Result<String, String> {
    let find = |name: &str, roles: &[&str]| {
        let found = reference(page(seen), name, roles);
        found.ok_or_else(|| format!("There is no {name:?} on the page."))
    };
    Ok(match item {
        Item::Fill(name, text) => format!("fill {} '{text}'", find(name, &FIELDS)?),
        Item::Click(name) => format!("click {}", find(name, &BUTTONS)?),
        Item::Choose(name, value) => format!("select {} '{value}'", find(name, &FIELDS)?),
        Item::Plain(command) => command.clone(),
        Item::Look | Item::Tell(_) | Item::Collect(..) => return Err("nothing to do".into()),
    })
}

fn wrong_ref(command: &str) -> String {
    let words = command.split(' ');
    let words = words.map(|word| {
        if word.starts_with("@e") {
            "@e999"
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The part of the newest message that shows the page.
fn page(seen: &Seen) -> &str {
    let newest = &seen.newest;
    newest
        .rsplit_once("The page now:\n")
        .map_or("", |(_, page)| page)
}

/// The ref of an element in a snapshot: `- textbox "Email" [ref=e3]`.
fn reference(page: &str, name: &str, roles: &[&str]) -> Option<String> {
    let quoted = format!("\"{name}\"");
    let line = page.lines().find(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        let is_role = roles.iter().any(|role| line.starts_with(role));
        is_role && line.contains(&quoted) && line.contains("ref=e")
    })?;
    let (_, rest) = line.split_once("ref=")?;
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(rest.len());
    Some(format!("@{}", &rest[..end]))
}

fn tell(seen: &Seen, text: &str) -> Said {
    if seen.calls.last().is_none_or(|call| call != "read") {
        return browser("read");
    }
    let found = seen.newest.lines().find(|line| line.contains(text));
    Said::Text(match found {
        Some(line) => line.trim().to_owned(),
        None => format!("There is no line with {text:?}."),
    })
}

fn collect(seen: &Seen, text: &str, more: &str) -> Said {
    if seen.calls.last().is_none_or(|call| call != "read") {
        return browser("read");
    }
    if let Some(next) = reference(page(seen), more, &BUTTONS) {
        return browser(format!("click {next}"));
    }
    let task_ends = seen.whole.find("You may be on").unwrap_or(0);
    let lines = seen.whole[task_ends..]
        .lines()
        .filter(|line| line.contains(text));
    let mut all: Vec<&str> = lines
        .map(|line| line.trim_matches(['-', '*', ' ']))
        .collect();
    all.dedup();
    Said::Text(serde_json::to_string(&all).expect("texts are JSON"))
}

/// Does what the page says it should, as a model must not: `do: command`.
fn obey(seen: &Seen) -> Said {
    let orders: Vec<&str> = (seen.whole.lines())
        .filter_map(|line| line.split_once("do: ").map(|(_, order)| order.trim()))
        .map(|order| order.trim_end_matches('"'))
        .collect();
    let steps = log(seen);
    match orders
        .iter()
        .find(|order| !seen.calls.iter().any(|call| call == *order))
    {
        Some(order) => browser(*order),
        None if steps.is_empty() => browser("read"),
        None => Said::Text("I did what the page says.".into()),
    }
}

/// Reads a page for somebody who wants to know something of it.
fn read_page(seen: &Seen, nth: usize) -> Said {
    let (wish, page) = seen
        .whole
        .split_once("\n\nThe page:\n")
        .unwrap_or((&seen.whole, ""));
    let title = page
        .lines()
        .find_map(|line| line.strip_prefix("# "))
        .unwrap_or("no title");
    if seen.model == "down" {
        return Said::Status(500);
    }
    if wish.starts_with("Summarize") {
        return Said::Text(format!("A page about: {title}"));
    }
    if let Some((_, question)) = wish.split_once("in plain text:\n") {
        let words = question.trim_end_matches('?');
        let word = words.rsplit(' ').next().unwrap_or_default();
        let line = page
            .lines()
            .find(|line| line.contains(word))
            .unwrap_or("I do not know.");
        return Said::Text(line.trim().to_owned());
    }
    // The first time it says it as people do.
    let is_right = seen.model != "sloppy" || seen.whole.contains("That is not right:");
    match (is_right, nth) {
        (true, _) if seen.model != "stubborn" => {
            Said::Text(format!("```json\n{{\"title\": {title:?}}}\n```"))
        }
        _ => Said::Text(format!("The title is {title}.")),
    }
}
