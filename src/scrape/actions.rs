//! What is done on a page before it is read.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::format::Screenshot;

const MAX_SELECTOR: usize = 2000;
const MAX_TEXT: usize = 100_000;
/// Scales Chromium prints with.
const SCALE: std::ops::RangeInclusive<f64> = 0.1..=2.0;

/// One step. Elements are named by CSS selectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Action {
    /// For a time or for an element, not both.
    Wait {
        /// How long, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        milliseconds: Option<u64>,
        /// Until there is such an element.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        selector: Option<String>,
    },
    /// Clicks an element.
    Click {
        /// Which.
        selector: String,
        /// Each one it names, in the order of the page.
        #[serde(default)]
        all: bool,
    },
    /// Types into the focused element.
    Write {
        /// What.
        text: String,
    },
    /// Presses a key, such as `Enter` or `Control+A`.
    Press {
        /// Which.
        key: String,
    },
    /// Scrolls by a window's height.
    Scroll {
        /// Which way.
        #[serde(default)]
        direction: Direction,
        /// The element that scrolls; the page when not set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        selector: Option<String>,
    },
    /// Takes a picture.
    Screenshot(Screenshot),
    /// Keeps the page's URL and HTML.
    Scrape,
    /// Runs a script in the page; its last expression, or what it returns, is kept.
    ExecuteJavascript {
        /// The script.
        script: String,
    },
    /// Prints the page.
    Pdf {
        /// Size of the paper.
        #[serde(default)]
        format: Paper,
        /// Turned to the side.
        #[serde(default)]
        landscape: bool,
        /// 0.1 to 2.
        #[serde(default = "one")]
        scale: f64,
    },
}

fn one() -> f64 {
    1.0
}

/// Which way a page is scrolled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Towards its beginning.
    Up,
    /// Towards its end.
    #[default]
    Down,
}

/// Sizes of paper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Paper {
    A0,
    A1,
    A2,
    A3,
    A4,
    A5,
    A6,
    #[default]
    Letter,
    Legal,
    Tabloid,
    Ledger,
}

impl Paper {
    /// Width and height in inches.
    #[must_use]
    pub fn inches(self) -> (f64, f64) {
        match self {
            Self::A0 => (33.11, 46.81),
            Self::A1 => (23.39, 33.11),
            Self::A2 => (16.54, 23.39),
            Self::A3 => (11.69, 16.54),
            Self::A4 => (8.27, 11.69),
            Self::A5 => (5.83, 8.27),
            Self::A6 => (4.13, 5.83),
            Self::Letter => (8.5, 11.0),
            Self::Legal => (8.5, 14.0),
            Self::Tabloid => (11.0, 17.0),
            Self::Ledger => (17.0, 11.0),
        }
    }
}

impl Action {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        let selector = match self {
            Self::Wait {
                milliseconds,
                selector,
            } => match (milliseconds, selector) {
                (Some(0), _) => return Err("milliseconds must be positive".into()),
                (Some(_), None) => None,
                (None, Some(selector)) => Some(selector),
                _ => return Err("wait needs either milliseconds or selector".into()),
            },
            Self::Click { selector, .. } => Some(selector),
            Self::Scroll { selector, .. } => selector.as_ref(),
            Self::Screenshot(screenshot) => return screenshot.check(),
            Self::Press { key } => return super::keys::read(key).map(drop),
            Self::Write { text } if text.len() > MAX_TEXT => {
                return Err(format!("text has more than {MAX_TEXT} bytes"));
            }
            Self::ExecuteJavascript { script } if script.len() > MAX_TEXT => {
                return Err(format!("script has more than {MAX_TEXT} bytes"));
            }
            Self::Pdf { scale, .. } if !SCALE.contains(scale) => {
                return Err("scale must be 0.1 to 2".into());
            }
            Self::Write { .. }
            | Self::ExecuteJavascript { .. }
            | Self::Pdf { .. }
            | Self::Scrape => None,
        };
        match selector {
            Some(selector) if selector.is_empty() || selector.len() > MAX_SELECTOR => {
                Err(format!("selector must have 1 to {MAX_SELECTOR} bytes"))
            }
            _ => Ok(()),
        }
    }

    /// Milliseconds it waits in any case.
    pub(super) fn waits(&self) -> u64 {
        match self {
            Self::Wait { milliseconds, .. } => milliseconds.unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether it only looks, so that a replay leaves it out. A script counts as such: what it does
    /// can be a purchase.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::Screenshot(_) | Self::Scrape | Self::ExecuteJavascript { .. } | Self::Pdf { .. }
        )
    }

    /// Its name on the wire.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Wait { .. } => "wait",
            Self::Click { .. } => "click",
            Self::Write { .. } => "write",
            Self::Press { .. } => "press",
            Self::Scroll { .. } => "scroll",
            Self::Screenshot(_) => "screenshot",
            Self::Scrape => "scrape",
            Self::ExecuteJavascript { .. } => "executeJavascript",
            Self::Pdf { .. } => "pdf",
        }
    }
}

/// What the actions of a scrape have brought, each kind in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionResults {
    /// Pictures as data URLs.
    pub screenshots: Vec<String>,
    /// Pages as they were.
    pub scrapes: Vec<ScrapedPage>,
    /// What scripts came to.
    pub javascript_returns: Vec<ScriptResult>,
    /// PDFs as data URLs.
    pub pdfs: Vec<String>,
}

/// A page as an action found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrapedPage {
    /// Where.
    pub url: String,
    /// Its HTML.
    pub html: String,
}

/// What a script came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScriptResult {
    /// As `typeof` names it.
    pub r#type: String,
    /// As JSON; null for what JSON cannot say.
    pub value: Value,
}
