//! What viewers say: read, and held against what each may say.

use std::fmt;

use serde::Deserialize;

/// Largest message of a viewer, in bytes.
pub(super) const MAX_MESSAGE: usize = 256 << 10;
/// Points of one touch, fingers of both hands and to spare.
pub(super) const MAX_POINTS: usize = 16;
/// Files for one chooser.
pub(super) const MAX_FILES: usize = 64;

/// A token as it was shown; never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Shown(pub(super) String);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How large the frame is that a viewer shows pictures in.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(super) struct Size {
    /// In CSS pixels.
    width: f64,
    height: f64,
    /// Device pixels in one of them.
    #[serde(default)]
    dpr: Option<f64>,
}

/// Most pixels along an edge that a picture is made for.
const MAX_EDGE: f64 = 7680.0;
/// Smallest useful edge.
const MIN_EDGE: f64 = 160.0;

impl Size {
    /// In device pixels.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded before"
    )]
    pub(super) fn pixels(self) -> (u32, u32) {
        let dpr = self.dpr.unwrap_or(1.0).clamp(0.25, 8.0);
        let edge = |css: f64| (css * dpr).ceil().clamp(MIN_EDGE, MAX_EDGE) as u32;
        (edge(self.width), edge(self.height))
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum FromViewer {
    /// The first one.
    Hello {
        token: Shown,
        #[serde(flatten)]
        size: Size,
    },
    /// The picture of this number is drawn.
    Ack {
        frame: u32,
    },
    /// Its frame has another size.
    Size(Size),
    /// Whether anybody sees it.
    Visible {
        is: bool,
    },
    Mouse(Mouse),
    Touch(Touch),
    Key(Key),
    Text {
        text: String,
    },
    Compose {
        text: String,
        #[serde(default)]
        start: u32,
        #[serde(default)]
        end: u32,
    },
    Navigate {
        url: String,
    },
    History {
        by: i32,
    },
    Reload,
    Stop,
    Tab(Tab),
    Dialog {
        id: u64,
        accept: bool,
        #[serde(default)]
        text: Option<String>,
    },
    Select {
        id: u64,
        values: Option<Vec<u32>>,
    },
    Chosen {
        id: u64,
        paths: Vec<String>,
    },
    Resize {
        width: f64,
        height: f64,
    },
    Copy,
    Control {
        #[serde(rename = "do")]
        what: ControlWish,
    },
}

impl FromViewer {
    /// Reads one.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let message: Self = serde_json::from_str(text)
            .map_err(|error| format!("a message was not read: {error}"))?;
        let too_many = match &message {
            Self::Touch(touch) => touch.points.len() > MAX_POINTS,
            Self::Chosen { paths, .. } => paths.len() > MAX_FILES,
            _ => false,
        };
        match too_many {
            true => Err("a message holds too much".to_owned()),
            false => Ok(message),
        }
    }

    /// Whether it acts on the session, for which a control token is needed.
    pub(super) fn acts(&self) -> bool {
        !matches!(
            self,
            Self::Hello { .. } | Self::Ack { .. } | Self::Size(_) | Self::Visible { .. }
        )
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Mouse {
    pub(super) kind: MouseKind,
    pub(super) x: f64,
    pub(super) y: f64,
    #[serde(default)]
    pub(super) button: Button,
    #[serde(default)]
    pub(super) buttons: u32,
    #[serde(default)]
    pub(super) clicks: u32,
    #[serde(default)]
    pub(super) dx: f64,
    #[serde(default)]
    pub(super) dy: f64,
    #[serde(default)]
    pub(super) modifiers: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum MouseKind {
    Move,
    Down,
    Up,
    Wheel,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Button {
    #[default]
    None,
    Left,
    Middle,
    Right,
    Back,
    Forward,
}

impl Button {
    /// As CDP calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Left => "left",
            Self::Middle => "middle",
            Self::Right => "right",
            Self::Back => "back",
            Self::Forward => "forward",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Touch {
    pub(super) kind: TouchKind,
    #[serde(default)]
    pub(super) points: Vec<Point>,
    #[serde(default)]
    pub(super) modifiers: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TouchKind {
    Start,
    Move,
    End,
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(super) struct Point {
    pub(super) id: i64,
    pub(super) x: f64,
    pub(super) y: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Key {
    pub(super) kind: KeyKind,
    pub(super) key: String,
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) location: u8,
    #[serde(default)]
    pub(super) repeat: bool,
    #[serde(default)]
    pub(super) modifiers: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyKind {
    Down,
    Up,
}

/// What to do with a tab.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(super) enum Tab {
    Activate { id: String },
    Close { id: String },
    New,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ControlWish {
    Request,
    Release,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> FromViewer {
        FromViewer::read(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_message_of_the_protocol_is_read() {
        let hello = read(r#"{"type":"hello","token":"t","width":390,"height":700.5,"dpr":3}"#);
        let FromViewer::Hello { token, size } = &hello else {
            panic!("{hello:?}");
        };
        assert_eq!((&*token.0, size.pixels()), ("t", (1170, 2102)));
        assert!(!format!("{hello:?}").contains("\"t\""));
        for text in [
            r#"{"type":"ack","frame":3}"#,
            r#"{"type":"size","width":1,"height":2,"dpr":1}"#,
            r#"{"type":"visible","is":false}"#,
        ] {
            assert!(!read(text).acts(), "{text}");
        }
        for text in [
            r#"{"type":"mouse","kind":"down","x":1.5,"y":2,"button":"left","buttons":1,"clicks":2,"modifiers":8}"#,
            r#"{"type":"mouse","kind":"wheel","x":1,"y":2,"button":"none","buttons":0,"clicks":0,"dx":0,"dy":-120,"modifiers":0}"#,
            r#"{"type":"touch","kind":"start","points":[{"id":1,"x":1,"y":2}],"modifiers":0}"#,
            r#"{"type":"key","kind":"down","key":"a","code":"KeyA","location":0,"repeat":false,"modifiers":0}"#,
            r#"{"type":"text","text":"ü"}"#,
            r#"{"type":"compose","text":"に","start":1,"end":1}"#,
            r#"{"type":"navigate","url":"https://a.test"}"#,
            r#"{"type":"history","by":-1}"#,
            r#"{"type":"reload"}"#,
            r#"{"type":"stop"}"#,
            r#"{"type":"tab","do":"activate","id":"X"}"#,
            r#"{"type":"tab","do":"new"}"#,
            r#"{"type":"tab","do":"new","id":null}"#,
            r#"{"type":"dialog","id":1,"accept":true,"text":null}"#,
            r#"{"type":"select","id":1,"values":[0,2]}"#,
            r#"{"type":"select","id":1,"values":null}"#,
            r#"{"type":"chosen","id":1,"paths":[]}"#,
            r#"{"type":"resize","width":800,"height":600}"#,
            r#"{"type":"copy"}"#,
            r#"{"type":"control","do":"request"}"#,
        ] {
            assert!(read(text).acts(), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_in_words() {
        let points = vec![r#"{"id":1,"x":1,"y":2}"#; MAX_POINTS + 1].join(",");
        let touch = format!(r#"{{"type":"touch","kind":"move","points":[{points}]}}"#);
        for bad in [
            "",
            "[]",
            r#"{"type":"bye"}"#,
            r#"{"type":"mouse","kind":"down"}"#,
            r#"{"type":"mouse","kind":"down","x":1e999,"y":0}"#,
            r#"{"type":"tab","do":"close"}"#,
            r#"{"type":"control","do":"steal"}"#,
            &touch,
        ] {
            assert!(!FromViewer::read(bad).unwrap_err().is_empty(), "{bad}");
        }
    }

    #[test]
    fn no_size_is_beyond_reason() {
        let of = |width, height, dpr| Size { width, height, dpr }.pixels();
        assert_eq!(of(0.0, -5.0, None), (160, 160));
        assert_eq!(of(1e300, 100.0, Some(1e9)), (7680, 800));
    }
}
