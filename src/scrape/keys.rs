//! Keys by their names, as the DOM has them.

/// A key with those held meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Alt 1, Control 2, Meta 4, Shift 8.
    pub(super) modifiers: u8,
    /// `KeyboardEvent.key`.
    pub(super) key: String,
    /// `KeyboardEvent.code`; empty for characters that have no key of their own.
    pub(super) code: String,
    /// Windows' number of it; 0 likewise.
    pub(super) number: u16,
    /// What it types.
    pub(super) text: Option<String>,
}

const NAMED: [(&str, u16, Option<&str>); 34] = [
    ("Enter", 13, Some("\r")),
    ("Tab", 9, None),
    ("Space", 32, Some(" ")),
    ("Backspace", 8, None),
    ("Delete", 46, None),
    ("Insert", 45, None),
    ("Escape", 27, None),
    ("ArrowUp", 38, None),
    ("ArrowDown", 40, None),
    ("ArrowLeft", 37, None),
    ("ArrowRight", 39, None),
    ("Home", 36, None),
    ("End", 35, None),
    ("PageUp", 33, None),
    ("PageDown", 34, None),
    ("Shift", 16, None),
    ("Control", 17, None),
    ("Alt", 18, None),
    ("Meta", 91, None),
    ("CapsLock", 20, None),
    ("ContextMenu", 93, None),
    ("F1", 112, None),
    ("F2", 113, None),
    ("F3", 114, None),
    ("F4", 115, None),
    ("F5", 116, None),
    ("F6", 117, None),
    ("F7", 118, None),
    ("F8", 119, None),
    ("F9", 120, None),
    ("F10", 121, None),
    ("F11", 122, None),
    ("F12", 123, None),
    ("Pause", 19, None),
];

/// Reads `Enter`, `a`, `Control+Shift+ArrowLeft`.
pub(super) fn read(name: &str) -> Result<Key, String> {
    let mut modifiers = 0;
    let mut rest = name;
    while let Some((held, more)) = rest.split_once('+').filter(|(_, more)| !more.is_empty()) {
        modifiers |= match held {
            "Alt" => 1,
            "Control" | "ControlOrMeta" => 2,
            "Meta" => 4,
            "Shift" => 8,
            _ => return Err(format!("key {name:?}: {held:?} cannot be held")),
        };
        rest = more;
    }
    let mut characters = rest.chars();
    let mut key = match (characters.next(), characters.next()) {
        (Some(c), None) => typed(c),
        _ => {
            let rest = if rest == "Return" { "Enter" } else { rest };
            let found = NAMED
                .iter()
                .find(|(known, ..)| known.eq_ignore_ascii_case(rest));
            let (known, number, text) = found.ok_or_else(|| format!("there is no key {name:?}"))?;
            Key {
                modifiers: 0,
                key: text.filter(|text| *text == " ").unwrap_or(known).to_owned(),
                code: (*known).to_owned(),
                number: *number,
                text: text.map(str::to_owned),
            }
        }
    };
    key.modifiers = modifiers;
    if modifiers & !8 != 0 {
        key.text = None;
    } else if modifiers == 8 && key.text.is_some() && key.key.len() == 1 {
        key.key = key.key.to_ascii_uppercase();
        key.text = Some(key.key.clone());
    }
    Ok(key)
}

/// The key that types a character.
pub(super) fn typed(c: char) -> Key {
    if matches!(c, '\n' | '\r') {
        return Key {
            modifiers: 0,
            key: "Enter".into(),
            code: "Enter".into(),
            number: 13,
            text: Some("\r".into()),
        };
    }
    let upper = c.to_ascii_uppercase();
    let (code, number) = match upper {
        'A'..='Z' => (format!("Key{upper}"), upper as u16),
        '0'..='9' => (format!("Digit{upper}"), upper as u16),
        ' ' => ("Space".to_owned(), 32),
        _ => (String::new(), 0),
    };
    Key {
        modifiers: 0,
        key: c.to_string(),
        code,
        number,
        text: Some(c.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_by_name_and_by_character() {
        let enter = read("enter").unwrap();
        assert_eq!((&*enter.key, enter.text.as_deref()), ("Enter", Some("\r")));
        let all = read("Control+a").unwrap();
        assert_eq!((all.modifiers, &*all.code, all.text), (2, "KeyA", None));
        assert_eq!(read("Shift+b").unwrap().text.as_deref(), Some("B"));
        assert_eq!(read("+").unwrap().key, "+");
        assert_eq!(read("Control++").unwrap().key, "+");
        assert_eq!(read("ß").unwrap().text.as_deref(), Some("ß"));
        for wrong in ["", "Entr", "Hyper+a", "ab"] {
            read(wrong).unwrap_err();
        }
    }
}
