//! One picture of the page: how it comes from Chromium, and how it goes to a viewer.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Deserialize;

/// What stands before the image.
const HEADER: usize = 16;
/// The format's number on the wire.
const JPEG: u8 = 1;

/// A picture; all viewers share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Counts up from 1 while somebody watches.
    pub number: u32,
    /// Of the page's viewport that it shows, in CSS pixels.
    pub width: u16,
    /// Likewise.
    pub height: u16,
    /// A JPEG, of any size.
    pub image: Bytes,
}

impl Frame {
    /// As a viewer gets it, whose connection has lasted for `since`.
    pub(super) fn message(&self, since: Duration) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER + self.image.len());
        out.put_u32(self.number);
        out.put_u16(self.width);
        out.put_u16(self.height);
        out.put_u8(JPEG);
        out.put_bytes(0, 3);
        out.put_u32(u32::try_from(since.as_millis()).unwrap_or(u32::MAX));
        out.extend_from_slice(&self.image);
        out.freeze()
    }
}

/// `Page.screencastFrame`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Screencast<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    metadata: Metadata,
    session_id: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    device_width: f64,
    device_height: f64,
}

/// `Page.captureScreenshot`'s answer.
#[derive(Deserialize)]
struct Screenshot<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// A picture without its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) image: Bytes,
}

impl Picture {
    /// Of a screencast's event; with what Chromium wants to be told when it may send another.
    pub(super) fn of_screencast(params: &str) -> Option<(Self, i64)> {
        let event: Screencast<'_> = serde_json::from_str(params).ok()?;
        let image = BASE64_STANDARD.decode(event.data.as_bytes()).ok()?;
        let picture = Self {
            width: pixels(event.metadata.device_width),
            height: pixels(event.metadata.device_height),
            image: image.into(),
        };
        Some((picture, event.session_id))
    }

    /// Of a screenshot's answer. The page has `scale` pixels of it for one of CSS.
    pub(super) fn of_screenshot(answer: &[u8], scale: f64) -> Option<Self> {
        let answer: Screenshot<'_> = serde_json::from_slice(answer).ok()?;
        let image: Bytes = BASE64_STANDARD.decode(answer.data.as_bytes()).ok()?.into();
        let (width, height) = jpeg_size(&image)?;
        Some(Self {
            width: pixels(f64::from(width) / scale),
            height: pixels(f64::from(height) / scale),
            image,
        })
    }

    pub(super) fn numbered(self, number: u32) -> Frame {
        Frame {
            number,
            width: self.width,
            height: self.height,
            image: self.image,
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded before"
)]
fn pixels(number: f64) -> u16 {
    number.round().clamp(0.0, f64::from(u16::MAX)) as u16
}

/// Width and height of a JPEG, as its frame header says them.
fn jpeg_size(image: &[u8]) -> Option<(u16, u16)> {
    let mut at = 2;
    image.starts_with(&[0xff, 0xd8]).then_some(())?;
    loop {
        let [0xff, marker, high, low] = *image.get(at..at + 4)? else {
            return None;
        };
        // Frame headers, without tables (c4), arithmetic coding's (cc) and the reserved one (c8).
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let [h1, h2, w1, w2] = *image.get(at + 5..at + 9)? else {
                return None;
            };
            return Some((u16::from_be_bytes([w1, w2]), u16::from_be_bytes([h1, h2])));
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_travels_behind_its_header() {
        let frame = Frame {
            number: 0x0102_0304,
            width: 1280,
            height: 720,
            image: Bytes::from_static(b"image"),
        };
        let message = frame.message(Duration::from_millis(258));
        assert_eq!(
            &message[..],
            b"\x01\x02\x03\x04\x05\x00\x02\xd0\x01\x00\x00\x00\x00\x00\x01\x02image"
        );
    }

    #[test]
    fn a_screencast_is_read_and_anything_else_is_not() {
        let event = r#"{"data":"aGk=","sessionId":7,"metadata":{"offsetTop":0,"pageScaleFactor":1,
            "deviceWidth":1280,"deviceHeight":719.6,"scrollOffsetX":0,"scrollOffsetY":0}}"#;
        let (picture, ack) = Picture::of_screencast(event).unwrap();
        assert_eq!((picture.width, picture.height, ack), (1280, 720, 7));
        assert_eq!(&picture.image[..], b"hi");
        for bad in ["", "{}", r#"{"data":"!","sessionId":1,"metadata":{}}"#] {
            assert_eq!(Picture::of_screencast(bad), None);
        }
    }

    #[test]
    fn the_size_of_a_jpeg_is_that_of_its_frame_header() {
        // A comment of two bytes, then a frame header (progressive) of 2 x 258.
        let image = [
            0xff, 0xd8, 0xff, 0xfe, 0, 4, 1, 2, 0xff, 0xc2, 0, 11, 8, 1, 2, 0, 2, 1,
        ];
        assert_eq!(jpeg_size(&image), Some((2, 258)));
        for cut in 0..image.len() - 1 {
            assert_eq!(jpeg_size(&image[..cut.min(16)]), None, "{cut}");
        }
        assert_eq!(jpeg_size(b"\xff\xd8\xff\xe0\0\0\0\0\0\0"), None);
        assert_eq!(jpeg_size(b"\x89PNG"), None);
    }
}
