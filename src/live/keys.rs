//! What a key of a viewer's keyboard is in the session's browser, which is Chromium on Linux: pure.

use serde_json::{Value, json};

use super::message::{Key, KeyKind};

const ALT: u8 = 1;
const CTRL: u8 = 2;
const META: u8 = 4;
const SHIFT: u8 = 8;
/// All there are.
const MODIFIERS: u8 = ALT | CTRL | META | SHIFT;
/// `KeyboardEvent.location` of the number pad.
const NUMPAD: u8 = 3;

/// Windows' numbers of keys that type no letter or digit, by `KeyboardEvent.code`.
const NUMBERS: &[(&str, u16)] = &[
    ("Backspace", 8),
    ("Tab", 9),
    ("Enter", 13),
    ("NumpadEnter", 13),
    ("ShiftLeft", 16),
    ("ShiftRight", 16),
    ("ControlLeft", 17),
    ("ControlRight", 17),
    ("AltLeft", 18),
    ("AltRight", 18),
    ("Pause", 19),
    ("CapsLock", 20),
    ("Escape", 27),
    ("Space", 32),
    ("PageUp", 33),
    ("PageDown", 34),
    ("End", 35),
    ("Home", 36),
    ("ArrowLeft", 37),
    ("ArrowUp", 38),
    ("ArrowRight", 39),
    ("ArrowDown", 40),
    ("Insert", 45),
    ("Delete", 46),
    ("MetaLeft", 91),
    ("MetaRight", 92),
    ("ContextMenu", 93),
    ("NumpadMultiply", 106),
    ("NumpadAdd", 107),
    ("NumpadSubtract", 109),
    ("NumpadDecimal", 110),
    ("NumpadDivide", 111),
    ("NumLock", 144),
    ("Semicolon", 186),
    ("Equal", 187),
    ("Comma", 188),
    ("Minus", 189),
    ("Period", 190),
    ("Slash", 191),
    ("Backquote", 192),
    ("BracketLeft", 219),
    ("Backslash", 220),
    ("BracketRight", 221),
    ("Quote", 222),
    ("IntlBackslash", 226),
];

/// Whether a character is typed with AltGr, which Windows tells as Control and Alt. A shortcut of
/// these two has a letter or a digit.
fn is_alt_gr(key: &str, modifiers: u8) -> bool {
    let is_shortcut = key.chars().all(|c| c.is_ascii_alphanumeric());
    modifiers & (CTRL | ALT | META) == CTRL | ALT && !is_shortcut
}

/// What a key types: a character of its own, unless it is held with Control or Meta.
fn text(key: &str, modifiers: u8) -> Option<String> {
    let mut characters = key.chars();
    let one = match (characters.next(), characters.next()) {
        (Some(c), None) if !c.is_control() => c,
        _ if key == "Enter" => return Some("\r".to_owned()),
        _ => return None,
    };
    let is_typed = modifiers & (CTRL | META) == 0 || is_alt_gr(key, modifiers);
    is_typed.then(|| one.to_string())
}

/// By what it types where that is a letter or a digit, since keyboards differ; else by where it is.
fn number(key: &str, code: &str) -> u16 {
    if let [byte] = key.as_bytes()
        && byte.is_ascii_alphanumeric()
        && !code.starts_with("Numpad")
    {
        return u16::from(byte.to_ascii_uppercase());
    }
    let digit = |prefix: &str| {
        let digit = code.strip_prefix(prefix)?.parse::<u16>().ok()?;
        (digit <= 9).then_some(digit)
    };
    if let Some(digit) = digit("Digit") {
        return 48 + digit;
    }
    if let Some(digit) = digit("Numpad")
        && key.parse::<u8>().is_ok()
    {
        return 96 + digit;
    }
    if let Some(letter) = code.strip_prefix("Key")
        && let [byte @ b'A'..=b'Z'] = letter.as_bytes()
    {
        return u16::from(*byte);
    }
    let function = code.strip_prefix('F').and_then(|n| n.parse::<u16>().ok());
    if let Some(function @ 1..=24) = function {
        return 111 + function;
    }
    // By its name on the pad without NumLock, and on keyboards that are only drawn.
    let named = |name: &str| NUMBERS.iter().find(|(known, _)| *known == name);
    named(code)
        .or_else(|| named(key))
        .map_or(0, |(_, number)| *number)
}

/// Parameters of `Input.dispatchKeyEvent`.
pub(super) fn event(key: &Key) -> Value {
    let mut modifiers = key.modifiers & MODIFIERS;
    let typed = match key.kind {
        KeyKind::Down => text(&key.key, modifiers),
        KeyKind::Up => None,
    };
    if typed.is_some() && is_alt_gr(&key.key, modifiers) {
        modifiers &= SHIFT;
    }
    let number = number(&key.key, &key.code);
    let mut event = json!({
        "type": match (key.kind, &typed) {
            (KeyKind::Down, Some(_)) => "keyDown",
            (KeyKind::Down, None) => "rawKeyDown",
            (KeyKind::Up, _) => "keyUp",
        },
        "modifiers": modifiers,
        "key": key.key,
        "code": key.code,
        "windowsVirtualKeyCode": number,
        "nativeVirtualKeyCode": number,
        "autoRepeat": key.repeat,
        "isKeypad": key.location == NUMPAD,
        // Left and right only: the pad is said before.
        "location": if key.location == NUMPAD { 0 } else { key.location.min(2) },
    });
    if let Some(text) = typed {
        event["text"] = text.clone().into();
        event["unmodifiedText"] = text.into();
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(key: &str, code: &str, modifiers: u8) -> Value {
        event(&Key {
            kind: KeyKind::Down,
            key: key.to_owned(),
            code: code.to_owned(),
            location: 0,
            repeat: false,
            modifiers,
        })
    }

    #[test]
    fn keys_type_unless_they_are_shortcuts() {
        for (key, modifiers, text) in [
            ("a", 0, Some("a")),
            ("A", SHIFT, Some("A")),
            ("ß", 0, Some("ß")),
            ("漢", 0, Some("漢")),
            ("å", ALT, Some("å")),
            ("@", CTRL | ALT, Some("@")),
            ("a", CTRL | ALT, None),
            ("a", CTRL, None),
            ("a", META, None),
            ("Enter", 0, Some("\r")),
            ("Enter", CTRL, Some("\r")),
            ("Tab", 0, None),
            ("Dead", 0, None),
            ("ArrowUp", 0, None),
            ("", 0, None),
            ("\u{7f}", 0, None),
        ] {
            assert_eq!(super::text(key, modifiers).as_deref(), text, "{key}");
        }
        let at = down("@", "KeyQ", CTRL | ALT);
        assert_eq!(
            (&at["type"], &at["modifiers"]),
            (&json!("keyDown"), &json!(0))
        );
        assert_eq!(down("Enter", "Enter", CTRL)["modifiers"], CTRL);
        let copy = down("c", "KeyC", CTRL);
        assert_eq!(copy["type"], "rawKeyDown");
        assert_eq!((&copy["modifiers"], copy.get("text")), (&json!(2), None));
    }

    #[test]
    fn a_key_has_the_number_of_what_it_types_or_of_its_place() {
        for (key, code, number) in [
            ("a", "KeyQ", 65),
            ("A", "KeyA", 65),
            ("1", "Digit1", 49),
            ("!", "Digit1", 49),
            ("ф", "KeyA", 65),
            ("1", "Numpad1", 97),
            ("End", "Numpad1", 35),
            ("Backspace", "", 8),
            ("Enter", "NumpadEnter", 13),
            ("F12", "F12", 123),
            (";", "Semicolon", 186),
            ("Fn", "Fn", 0),
            ("Unidentified", "", 0),
        ] {
            assert_eq!(super::number(key, code), number, "{key} {code}");
        }
    }

    #[test]
    fn a_key_that_goes_up_types_nothing() {
        let up = event(&Key {
            kind: KeyKind::Up,
            key: "a".into(),
            code: "KeyA".into(),
            location: 0,
            repeat: false,
            modifiers: 0xff,
        });
        assert_eq!((&up["type"], up.get("text")), (&json!("keyUp"), None));
        assert_eq!(up["modifiers"], 15);
    }
}
