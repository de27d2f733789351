//! The forms a page can be asked for in.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::Error;
use crate::agent::Wanted;
use crate::execution::BadRequest;

/// Known, but made by a service that is not here.
const NOT_SUPPORTED: [&str; 13] = [
    "rawBase64",
    "deterministicJson",
    "attributes",
    "changeTracking",
    "branding",
    "product",
    "menu",
    "highlights",
    "query",
    "audio",
    "video",
    "extract",
    "llmsText",
];
/// Begins the message of such a one, as it comes through serde.
const MARK: &str = "not supported here: ";
const MAX_VIEWPORT: (u32, u32) = (7680, 4320);

/// A form of the page.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Format {
    /// Markdown.
    Markdown,
    /// HTML without scripts and styles, links absolute.
    Html,
    /// HTML as it is.
    RawHtml,
    /// Absolute URLs of all links.
    Links,
    /// Absolute URLs of all images.
    Images,
    /// A picture of it.
    Screenshot(Screenshot),
    /// What a language model makes of its text.
    Extract(Wanted),
}

/// How a picture is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Screenshot {
    /// All of the page, not only what the window shows.
    pub full_page: bool,
    /// 1 to 100: JPEG of that quality; PNG when not set.
    pub quality: Option<u8>,
    /// Of a window of this size; as it is when not set.
    pub viewport: Option<Viewport>,
}

/// A window's size in CSS pixels, at most 7680 x 4320.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Viewport {
    /// Left to right.
    pub width: u32,
    /// Top to bottom.
    pub height: u32,
}

impl Screenshot {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        if self
            .quality
            .is_some_and(|quality| !(1..=100).contains(&quality))
        {
            return Err("quality must be 1 to 100".into());
        }
        if let Some(Viewport { width, height }) = self.viewport
            && (!(1..=MAX_VIEWPORT.0).contains(&width) || !(1..=MAX_VIEWPORT.1).contains(&height))
        {
            let (width, height) = MAX_VIEWPORT;
            return Err(format!("viewport must be from 1 x 1 to {width} x {height}"));
        }
        Ok(())
    }
}

impl TryFrom<Value> for Format {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let (name, mut rest) = match value {
            Value::String(name) => (name, serde_json::Map::new()),
            Value::Object(mut fields) => match fields.remove("type") {
                Some(Value::String(name)) => (name, fields),
                _ => return Err("a format object needs a type".into()),
            },
            _ => return Err("a format is a string or an object with a type".into()),
        };
        rest.retain(|_, value| !value.is_null());
        let format = match &*name {
            "markdown" => Self::Markdown,
            "html" => Self::Html,
            "rawHtml" => Self::RawHtml,
            "links" => Self::Links,
            "images" => Self::Images,
            "screenshot" => {
                let options = std::mem::take(&mut rest);
                let screenshot: Screenshot = serde_json::from_value(Value::Object(options))
                    .map_err(|error| format!("screenshot: {error}"))?;
                screenshot
                    .check()
                    .map_err(|why| format!("screenshot: {why}"))?;
                Self::Screenshot(screenshot)
            }
            "summary" => Self::Extract(Wanted::Summary),
            "question" => Self::Extract(match rest.remove("question") {
                Some(Value::String(question)) => Wanted::Question(question),
                _ => return Err("question needs a question, a text".into()),
            }),
            "json" => Self::Extract(Wanted::Json {
                prompt: match rest.remove("prompt") {
                    None => None,
                    Some(Value::String(prompt)) => Some(prompt),
                    Some(_) => return Err("json: prompt must be a text".into()),
                },
                schema: rest.remove("schema"),
            }),
            name if NOT_SUPPORTED.contains(&name) => return Err(format!("{MARK}format {name}")),
            name => return Err(format!("there is no format {name:?}")),
        };
        if let Self::Extract(wanted) = &format {
            wanted.check().map_err(|why| format!("{name}: {why}"))?;
        }
        match rest.keys().next() {
            Some(key) => Err(format!("{name} has no option {key:?}")),
            None => Ok(format),
        }
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = match self {
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::RawHtml => "rawHtml",
            Self::Links => "links",
            Self::Images => "images",
            Self::Screenshot(screenshot) => {
                #[derive(Serialize)]
                struct Tagged<'a> {
                    r#type: &'static str,
                    #[serde(flatten)]
                    screenshot: &'a Screenshot,
                }
                let r#type = "screenshot";
                return Tagged { r#type, screenshot }.serialize(serializer);
            }
            Self::Extract(Wanted::Summary) => "summary",
            Self::Extract(Wanted::Question(question)) => {
                let tagged = json!({ "type": "question", "question": question });
                return tagged.serialize(serializer);
            }
            Self::Extract(Wanted::Json { prompt, schema }) => {
                let tagged = json!({ "type": "json", "prompt": prompt, "schema": schema });
                return tagged.serialize(serializer);
            }
        };
        serializer.serialize_str(name)
    }
}

/// What an error says is known but not there, if it says so.
pub(super) fn not_supported(error: &serde_json::Error) -> Option<String> {
    let text = error.to_string();
    text.strip_prefix(MARK).map(str::to_owned)
}

impl Format {
    /// What a model is to make of the page, if that is what it is.
    pub(super) fn wanted(&self) -> Option<&Wanted> {
        match self {
            Self::Extract(wanted) => Some(wanted),
            _ => None,
        }
    }
}

/// Checks what no single one shows.
pub(super) fn check(formats: &[Format]) -> Result<(), Error> {
    let pictures = formats
        .iter()
        .filter(|f| matches!(f, Format::Screenshot(_)));
    if pictures.count() > 1 {
        let message = "You may only specify one screenshot format";
        return Err(BadRequest::new("formats", message.to_owned()).into());
    }
    let kinds = formats.iter().filter_map(Format::wanted);
    let kinds: Vec<_> = kinds.map(std::mem::discriminant).collect();
    if (1..kinds.len()).any(|at| kinds[..at].contains(&kinds[at])) {
        let message = "has json, summary or question more than once";
        return Err(BadRequest::new("formats", message).into());
    }
    Ok(())
}
