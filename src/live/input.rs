//! What people do, as CDP has it: pure.

use serde_json::{Value, json};

use super::message::{Mouse, MouseKind, Touch, TouchKind};

/// Largest viewport a person may ask for, in CSS pixels; the smallest one too.
const VIEWPORT: ((u32, u32), (u32, u32)) = ((200, 150), (3840, 2160));
/// Clicks of one press that are told apart.
const MAX_CLICKS: u32 = 3;

/// Parameters of `Input.dispatchMouseEvent`.
pub(super) fn mouse(mouse: &Mouse) -> Value {
    let kind = match mouse.kind {
        MouseKind::Move => "mouseMoved",
        MouseKind::Down => "mousePressed",
        MouseKind::Up => "mouseReleased",
        MouseKind::Wheel => "mouseWheel",
    };
    let mut event = json!({
        "type": kind,
        "x": mouse.x,
        "y": mouse.y,
        "modifiers": mouse.modifiers & 15,
        "button": mouse.button.name(),
        "buttons": mouse.buttons & 31,
        "pointerType": "mouse",
        // As PointerEvent.pressure has it of a mouse.
        "force": if mouse.buttons == 0 { 0.0 } else { 0.5 },
    });
    match mouse.kind {
        MouseKind::Down | MouseKind::Up => {
            event["clickCount"] = mouse.clicks.clamp(1, MAX_CLICKS).into();
        }
        MouseKind::Wheel => {
            event["button"] = "none".into();
            event["deltaX"] = mouse.dx.into();
            event["deltaY"] = mouse.dy.into();
        }
        MouseKind::Move => {}
    }
    event
}

/// Parameters of `Input.dispatchTouchEvent`. CDP wants none of the points in the last two.
pub(super) fn touch(touch: &Touch) -> Value {
    let (kind, points) = match touch.kind {
        TouchKind::Start => ("touchStart", &touch.points[..]),
        TouchKind::Move => ("touchMove", &touch.points[..]),
        // Other fingers stay.
        TouchKind::End if !touch.points.is_empty() => ("touchMove", &touch.points[..]),
        TouchKind::End => ("touchEnd", &[][..]),
        TouchKind::Cancel => ("touchCancel", &[][..]),
    };
    let points = points.iter();
    let points: Vec<Value> = points
        .map(|point| json!({ "x": point.x, "y": point.y, "id": point.id }))
        .collect();
    json!({ "type": kind, "touchPoints": points, "modifiers": touch.modifiers & 15 })
}

/// Parameters of `Input.dispatchDragEvent`, of what is dragged over the page.
pub(super) fn drag(kind: &'static str, mouse: &Mouse, data: &Value) -> Value {
    json!({
        "type": kind, "x": mouse.x, "y": mouse.y, "data": data,
        "modifiers": mouse.modifiers & 15,
    })
}

/// Where a person may send a page: the web, and nowhere.
pub(super) fn url(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text == "about:blank" {
        return Ok(text.to_owned());
    }
    let parsed = url::Url::parse(text).map_err(|error| format!("that is no address: {error}"))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed.into()),
        other => Err(format!(
            "{other}: addresses begin with http:// or https:// here"
        )),
    }
}

/// A viewport within bounds.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded before"
)]
pub(super) fn viewport(width: f64, height: f64) -> (u32, u32) {
    let edge = |number: f64, least: u32, most: u32| {
        number.round().clamp(f64::from(least), f64::from(most)) as u32
    };
    let (least, most) = VIEWPORT;
    (edge(width, least.0, most.0), edge(height, least.1, most.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::message::{Button, Point};

    fn at(kind: MouseKind) -> Mouse {
        Mouse {
            kind,
            x: 1.5,
            y: 2.0,
            button: Button::Left,
            buttons: 1,
            clicks: 9,
            dx: 3.0,
            dy: -4.0,
            modifiers: 0xf8,
        }
    }

    #[test]
    fn a_mouse_says_what_belongs_to_what_it_does() {
        let down = mouse(&at(MouseKind::Down));
        assert_eq!(down["clickCount"], 3);
        assert_eq!(
            (&down["button"], &down["modifiers"]),
            (&json!("left"), &json!(8))
        );
        let wheel = mouse(&at(MouseKind::Wheel));
        assert_eq!(
            (&wheel["deltaX"], &wheel["deltaY"]),
            (&json!(3.0), &json!(-4.0))
        );
        assert_eq!(wheel["button"], "none");
        assert_eq!(wheel["force"], 0.5);
        assert_eq!(mouse(&at(MouseKind::Move)).get("clickCount"), None);
    }

    #[test]
    fn a_touch_ends_without_points() {
        let of = |kind, count| {
            let point = Point {
                id: 1,
                x: 2.0,
                y: 3.0,
            };
            let points = vec![point; count];
            touch(&Touch {
                kind,
                points,
                modifiers: 0,
            })
        };
        assert_eq!(of(TouchKind::Start, 1)["touchPoints"][0]["y"], 3.0);
        assert_eq!(of(TouchKind::End, 0)["type"], "touchEnd");
        assert_eq!(of(TouchKind::End, 1)["type"], "touchMove");
        assert_eq!(of(TouchKind::Cancel, 2)["touchPoints"], json!([]));
    }

    #[test]
    fn pages_are_sent_to_the_web_only() {
        assert_eq!(url(" https://a.test/b "), Ok("https://a.test/b".to_owned()));
        assert_eq!(url("about:blank"), Ok("about:blank".to_owned()));
        for bad in ["", "a.test", "file:///etc", "javascript:1", "about:version"] {
            url(bad).unwrap_err();
        }
    }

    #[test]
    fn viewports_are_bounded() {
        assert_eq!(viewport(800.4, 600.5), (800, 601));
        assert_eq!(viewport(-1.0, 1e9), (200, 2160));
    }
}
