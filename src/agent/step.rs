//! One step: a call of the model is checked, done on the page, and what came of it is put in words.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use genai::chat::ToolCall;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use url::Url;

use super::command::{self, Command, Kind};
use super::guard::Guard;
use super::report::{PromptEvent, StepOutcome};
use super::talk::SHOWN;
use super::work::{Given, Work};
use super::{focus, text};
use crate::cdp::{self, ClientKind};
use crate::execution::{OnHumanControl, Outcome};
use crate::session::Error;

/// How long a look at the page may take.
const LOOK_LIMIT: Duration = Duration::from_secs(15);
/// Most of a snapshot, in characters.
const SNAPSHOT: usize = 40_000;
/// Largest picture, in characters of base64.
const MAX_PICTURE: usize = 4 << 20;
const JPEG_QUALITY: u8 = 60;

/// What a step came to, before it is told.
struct Done {
    outcome: StepOutcome,
    output: String,
    may_have_changed: bool,
    picture: Option<String>,
}

impl Done {
    fn refused(why: impl Into<String>) -> Self {
        Self {
            outcome: StepOutcome::Refused,
            output: why.into(),
            may_have_changed: false,
            picture: None,
        }
    }
}

/// What a call asks for.
enum Asked {
    Browser(Command),
    Screenshot,
}

impl Work {
    /// Does what a call asks for, and looks at the page afterwards.
    ///
    /// # Errors
    /// When there is no going on: the session has ended, or runs no more commands.
    pub(super) async fn step(&mut self, call: &ToolCall) -> Result<Given, Error> {
        let number = u32::try_from(self.steps.len() + 1).unwrap_or(u32::MAX);
        let asked = asked(call, self.model.takes_images);
        let shown = match &asked {
            Ok(Asked::Browser(command)) => command.shown(),
            Ok(Asked::Screenshot) => "screenshot".to_owned(),
            Err((shown, _)) => shown.clone(),
        };
        let shown = self.secrets.hide(&shown).into_owned();
        let was_taken = self.was_taken().await;
        let since = Instant::now();
        self.current = Some((number, shown.clone(), since));
        let started = PromptEvent::StepStarted {
            number,
            command: shown.clone(),
        };
        let _ = self.events.send(started).await;
        let done = match asked {
            // It was meant for another page.
            Ok(_) if was_taken => Done {
                outcome: StepOutcome::Failed,
                output: "It was not run: a person was in control of the page.".to_owned(),
                may_have_changed: true,
                picture: None,
            },
            Ok(asked) => self.act(asked).await?,
            Err((_, why)) => Done::refused(why),
        };
        let duration = since.elapsed();
        if done.may_have_changed {
            self.look().await?;
        }
        let output = self.secrets.hide(&done.output).into_owned();
        let mut said = match done.outcome {
            StepOutcome::Done => String::new(),
            StepOutcome::Failed => "The command failed.\n".to_owned(),
            StepOutcome::TimedOut => "The command did not end in time and was killed.\n".to_owned(),
            // It is the tool's own word.
            StepOutcome::Refused => format!("Refused: {output}\n"),
        };
        if done.outcome != StepOutcome::Refused && !output.trim().is_empty() {
            said.push_str(&self.marks.data(&output));
            said.push('\n');
        }
        let notes = self.guard.as_ref().map(Guard::notes).unwrap_or_default();
        if !notes.is_empty() {
            // A URL is a page's word.
            let notes = self.secrets.hide(&notes.join("\n")).into_owned();
            said.push_str("What the browser refused meanwhile:\n");
            said.push_str(&self.marks.data(&notes));
        }
        self.current = None;
        self.spent += duration;
        let step = self.keep_step(number, shown, done.outcome, output, duration);
        // A reader that has gone away cancels; one that is slow is waited for, until the deadline.
        let _ = self.events.send(PromptEvent::StepFinished(step)).await;
        Ok(Given {
            text: said,
            picture: done.picture,
        })
    }

    async fn act(&mut self, asked: Asked) -> Result<Done, Error> {
        self.keep_guard().await?;
        let command = match asked {
            Asked::Browser(command) => command,
            Asked::Screenshot => return self.screenshot().await,
        };
        if let Kind::Open(at) = command.kind {
            return self.open(command, at).await;
        }
        let words = match self.with_secrets(&command).await? {
            Ok(words) => words,
            Err(why) => return Ok(Done::refused(why)),
        };
        let may_change = command.kind != Kind::Look;
        self.run_words(&words, may_change).await
    }

    /// Goes to a page, if it is on the sites.
    async fn open(&mut self, mut command: Command, at: usize) -> Result<Done, Error> {
        let asked = &command.words[at];
        if self.secrets.are_named_in(asked) {
            return Ok(Done::refused("a secret cannot be part of a URL"));
        }
        let Some(url) = self.url(asked) else {
            let why = "that is no http or https URL; write the whole URL, such as \
                       https://example.com/page";
            return Ok(Done::refused(why));
        };
        if !self.sites().open(&url) {
            let sites = self.sites().to_string();
            return Ok(Done::refused(format!(
                "this task may only be on {sites}; {} is somewhere else",
                url.host_str().unwrap_or("that")
            )));
        }
        command.words[at] = url.into();
        self.run_words(&command.words, true).await
    }

    /// A URL as the model writes it: whole, without a scheme, or as a link of the page.
    fn url(&self, asked: &str) -> Option<Url> {
        let is_web = |url: &Url| matches!(url.scheme(), "http" | "https");
        if asked.starts_with('/') {
            let page = self.hub().ok()?.active_page().url;
            return Url::parse(&page).ok()?.join(asked).ok().filter(is_web);
        }
        let parsed = match asked.contains("://") {
            true => Url::parse(asked),
            false => Url::parse(&format!("https://{asked}")),
        };
        parsed.ok().filter(is_web)
    }

    /// The words to run, with the secrets they name; or why those may not be put in.
    async fn with_secrets(
        &mut self,
        command: &Command,
    ) -> Result<Result<Vec<String>, String>, Error> {
        let words = &command.words;
        if !words.iter().any(|word| self.secrets.are_named_in(word)) {
            return Ok(Ok(words.clone()));
        }
        let Kind::Write { text, into } = command.kind else {
            return Ok(Err(
                "a secret can only be written by fill, type and keyboard".into(),
            ));
        };
        let elsewhere =
            |(at, word): (usize, &String)| at != text && self.secrets.are_named_in(word);
        if words.iter().enumerate().any(elsewhere) {
            return Ok(Err("a secret can only be the text that is written".into()));
        }
        let hub = self.hub()?;
        let page = match hub.look_at_active_page().await {
            Ok(page) => page,
            Err(error) => return Ok(Err(format!("the page could not be looked at: {error}"))),
        };
        let Ok(url) = Url::parse(&page.url) else {
            return Ok(Err("the page has no URL".into()));
        };
        let home = self.sites().home().cloned();
        let filled = match self.secrets.put_in(&words[text], &url, home.as_ref()) {
            Ok(filled) => filled,
            Err(why) => return Ok(Err(why)),
        };
        if command::is_option(&filled) {
            return Ok(Err("a text cannot begin with -".into()));
        }
        if let Some(into) = into {
            // The field must be one of the page, not of a frame of somebody else's in it.
            let focus = ["focus".to_owned(), words[into].clone()];
            let ran = self.hands.run(&focus, LOOK_LIMIT).await?;
            if ran.outcome != Outcome::Completed {
                return Ok(Err(format!(
                    "the field was not found: {}",
                    ran.stderr.trim()
                )));
            }
        }
        match focus::is_in_own_field(&hub).await {
            Ok(true) => {}
            Ok(false) => {
                let why = "a secret may only be written into a text field of the page itself, not \
                           into a frame of another site";
                return Ok(Err(why.into()));
            }
            Err(error) => return Ok(Err(format!("the field could not be looked at: {error}"))),
        }
        self.has_used_secret = true;
        let mut words = words.clone();
        words[text] = filled;
        Ok(Ok(words))
    }

    async fn run_words(&mut self, words: &[String], may_change: bool) -> Result<Done, Error> {
        let ran = self.hands.run(words, self.step_timeout).await?;
        let outcome = match ran.outcome {
            Outcome::Completed => StepOutcome::Done,
            Outcome::TimedOut => StepOutcome::TimedOut,
            Outcome::BrowserCrashed
            | Outcome::Cancelled
            | Outcome::Failed
            | Outcome::OutOfMemory
            | Outcome::OutputLimit
            | Outcome::RunnerCrashed => StepOutcome::Failed,
        };
        if let Some(ended) = self.task.session_ended() {
            return Err(ended);
        }
        // Before anything is cut, so that no part of a secret is left at the cut.
        let hide = |text: &str, was_cut: bool| match was_cut {
            true => self.secrets.hide_cut(text).into_owned(),
            false => self.secrets.hide(text).into_owned(),
        };
        let mut output = hide(&ran.stdout, ran.stdout_cut);
        let stderr = hide(&ran.stderr, ran.stderr_cut);
        if !stderr.trim().is_empty() {
            if !output.is_empty() && !output.ends_with('\n') {
                output.push('\n');
            }
            output.push_str(&stderr);
        }
        let bounded = text::bounded(&output, SHOWN);
        self.truncated |= ran.stdout_cut || ran.stderr_cut || bounded.ends_with(text::CUT);
        Ok(Done {
            outcome,
            output: bounded,
            // One that fails may have done half of it.
            may_have_changed: may_change,
            picture: None,
        })
    }

    /// Guards the page that is active now, and leads it back when it is elsewhere.
    pub(super) async fn keep_guard(&mut self) -> Result<(), Error> {
        if self.guard.as_ref().is_some_and(Guard::holds) {
            return Ok(());
        }
        // The old one first: it would take the new page for one that was opened meanwhile.
        self.guard = None;
        let hub = self.hub()?;
        let yields = self.hands.on_human_control != OnHumanControl::Ignore;
        let attached = Guard::attach(&hub, Arc::clone(&self.sites), yields).await;
        let guard = attached.map_err(|error| self.failed_with(&error))?;
        self.guard = Some(guard);
        Ok(())
    }

    /// Looks at the page: where it is, and what can be acted on.
    pub(super) async fn look(&mut self) -> Result<(), Error> {
        self.was_taken().await;
        self.keep_guard().await?;
        let hub = self.hub()?;
        let looked = hub.look_at_active_page().await;
        let mut page = looked.map_err(|error| self.failed_with(&error))?;
        let mut note = String::new();
        if std::mem::take(&mut self.was_taken) {
            note.push_str("A person was in control of the page; it may be another one now.\n");
        }
        if let Some(guard) = self.guard.as_ref().filter(|guard| guard.is_off(&page)) {
            let back = self.last_url();
            note.push_str(&format!(
                "The page had gone to {}, which is not on {}; it was led back.\n",
                text::bounded(&self.secrets.hide(&page.url), 200),
                self.sites()
            ));
            let led = guard.lead_back(&back).await;
            led.map_err(|error| self.failed_with(&error))?;
            let looked = hub.look_at_active_page().await;
            page = looked.map_err(|error| self.failed_with(&error))?;
        }
        let words = ["snapshot".to_owned(), "-i".to_owned()];
        let ran = self.hands.run(&words, LOOK_LIMIT).await?;
        let shown = match ran.outcome {
            Outcome::Completed => match ran.stdout_cut {
                true => self.secrets.hide_cut(&ran.stdout),
                false => self.secrets.hide(&ran.stdout),
            },
            Outcome::TimedOut => Cow::Borrowed("(no snapshot: the page did not answer in 15 s)"),
            _ => {
                let why = self.secrets.hide(ran.stderr.trim()).into_owned();
                Cow::Owned(format!("(no snapshot: {why})"))
            }
        };
        let snapshot = text::bounded(shown.trim_end(), SNAPSHOT);
        self.truncated |= ran.stdout_cut || snapshot.ends_with(text::CUT);
        let title = self.secrets.hide(&page.title).into_owned();
        let url = self.secrets.hide(&page.url).into_owned();
        self.snapshot = format!("Title: {title}\nURL: {url}\n{note}\n{snapshot}");
        Ok(())
    }

    /// Where the page was when it was last looked at, if that may be shown.
    fn last_url(&self) -> String {
        let line = self
            .snapshot
            .lines()
            .find_map(|line| line.strip_prefix("URL: "));
        let url = line.filter(|url| self.sites().allows_text(url));
        url.unwrap_or("about:blank").to_owned()
    }

    async fn screenshot(&mut self) -> Result<Done, Error> {
        if self.has_used_secret {
            let why = "a secret may be seen on the page; there are no screenshots from now on";
            return Ok(Done::refused(why));
        }
        let hub = self.hub()?;
        let taking = async {
            let target = hub.active_page().target_id;
            let client = hub.client(ClientKind::Internal).await?;
            let session = client.attach(&target).await?;
            let params = json!({ "format": "jpeg", "quality": JPEG_QUALITY });
            client
                .call_raw(Some(&session), "Page.captureScreenshot", &params)
                .await
        };
        let failed = |why: &str| Done {
            outcome: StepOutcome::Failed,
            output: why.to_owned(),
            may_have_changed: false,
            picture: None,
        };
        let answer = match timeout(LOOK_LIMIT, taking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Ok(failed(&error.to_string())),
            Err(_) => return Ok(failed("the page did not answer in 15 s")),
        };
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        match answer["data"].as_str() {
            Some(data) if data.len() <= MAX_PICTURE => Ok(Done {
                outcome: StepOutcome::Done,
                output: "The picture follows.".into(),
                may_have_changed: false,
                picture: Some(data.to_owned()),
            }),
            Some(_) => Ok(failed("the picture is too large")),
            None => Ok(failed("the browser gave no picture")),
        }
    }

    /// The browser failed: because the session ends, or else by itself.
    fn failed_with(&self, why: &cdp::Error) -> Error {
        let by_itself = Error::SessionEnded {
            id: self.task.session_id(),
            detail: why.to_string(),
        };
        self.task.session_ended().unwrap_or(by_itself)
    }
}

/// Reads a call; of one that is refused, what to show for it and why.
fn asked(call: &ToolCall, takes_images: bool) -> Result<Asked, (String, String)> {
    let show = |text: &str| text.chars().take(200).collect::<String>();
    match &*call.fn_name {
        "browser" => match call.fn_arguments["command"].as_str() {
            Some(line) => match command::parse(line) {
                Ok(command) => Ok(Asked::Browser(command)),
                Err(why) => Err((show(line), why)),
            },
            None => {
                let why = "the tool takes {\"command\": \"…\"}, with a text";
                Err(("browser".into(), why.into()))
            }
        },
        "screenshot" if takes_images => Ok(Asked::Screenshot),
        other => Err((
            show(other),
            "there is no such tool; there is `browser`".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: Value) -> ToolCall {
        ToolCall {
            call_id: "1".into(),
            fn_name: name.into(),
            fn_arguments: arguments,
            thought_signatures: None,
        }
    }

    #[test]
    fn a_call_is_a_command_a_picture_or_refused() {
        let good = call("browser", json!({ "command": "click @e1" }));
        assert!(matches!(asked(&good, false), Ok(Asked::Browser(_))));
        let picture = call("screenshot", json!({}));
        assert!(matches!(asked(&picture, true), Ok(Asked::Screenshot)));
        for bad in [
            picture,
            call("browser", json!({ "command": ["click", "@e1"] })),
            call("browser", json!({ "command": "rm -rf /" })),
            call("browser", json!("click @e1")),
            call("browser", Value::Null),
            call("bash", json!({ "command": "id" })),
        ] {
            assert!(asked(&bad, false).is_err(), "{bad:?}");
        }
    }
}
