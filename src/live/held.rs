//! What people hold down, so that nothing stays down when they go: pure.

use std::collections::HashMap;

use super::message::{Button, FromViewer, Key, KeyKind, Mouse, MouseKind, Touch, TouchKind};

/// Keys of one person that are remembered, more than fingers hold.
const MAX_KEYS: usize = 32;

/// By the viewer; one who holds nothing is not in it.
#[derive(Debug, Default)]
pub(super) struct Held(HashMap<u64, Hands>);

#[derive(Debug, Default)]
struct Hands {
    /// The oldest first.
    keys: Vec<Key>,
    buttons: Vec<Button>,
    touches: bool,
}

impl Held {
    /// A viewer has done something.
    pub(super) fn did(&mut self, viewer: u64, act: &FromViewer) {
        if !matches!(
            act,
            FromViewer::Key(_) | FromViewer::Mouse(_) | FromViewer::Touch(_)
        ) {
            return;
        }
        let hands = self.0.entry(viewer).or_default();
        match act {
            FromViewer::Key(key) => {
                hands.keys.retain(|held| !is_same(held, key));
                if key.kind == KeyKind::Down && hands.keys.len() < MAX_KEYS {
                    hands.keys.push(key.clone());
                }
            }
            FromViewer::Mouse(mouse) => match mouse.kind {
                MouseKind::Down if !hands.buttons.contains(&mouse.button) => {
                    hands.buttons.push(mouse.button);
                }
                MouseKind::Up => hands.buttons.retain(|held| *held != mouse.button),
                _ => {}
            },
            FromViewer::Touch(touch) => {
                let is_over = touch.kind == TouchKind::Cancel
                    || touch.kind == TouchKind::End && touch.points.is_empty();
                hands.touches = !is_over;
            }
            _ => {}
        }
        if hands.keys.is_empty() && hands.buttons.is_empty() && !hands.touches {
            self.0.remove(&viewer);
        }
    }

    /// Who holds anything.
    pub(super) fn viewers(&self) -> Vec<u64> {
        self.0.keys().copied().collect()
    }

    /// What a viewer must do to hold nothing any more, the mouse being there; it counts as done.
    pub(super) fn let_go(&mut self, viewer: u64, (x, y): (f64, f64)) -> Vec<FromViewer> {
        let Some(hands) = self.0.remove(&viewer) else {
            return Vec::new();
        };
        let touches = hands.touches.then_some(FromViewer::Touch(Touch {
            kind: TouchKind::Cancel,
            points: Vec::new(),
            modifiers: 0,
        }));
        let buttons = hands.buttons.into_iter().map(|button| {
            FromViewer::Mouse(Mouse {
                kind: MouseKind::Up,
                x,
                y,
                button,
                buttons: 0,
                clicks: 1,
                dx: 0.0,
                dy: 0.0,
                modifiers: 0,
            })
        });
        // The newest first: modifiers last.
        let keys = hands.keys.into_iter().rev().map(|key| {
            FromViewer::Key(Key {
                kind: KeyKind::Up,
                repeat: false,
                modifiers: 0,
                ..key
            })
        });
        touches.into_iter().chain(buttons).chain(keys).collect()
    }
}

/// By where it is; a drawn keyboard says only what it types.
fn is_same(one: &Key, other: &Key) -> bool {
    match one.code.is_empty() && other.code.is_empty() {
        true => one.key == other.key,
        false => one.code == other.code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(text: &str) -> FromViewer {
        FromViewer::read(text).unwrap()
    }

    fn key(kind: &str, code: &str) -> FromViewer {
        act(&format!(
            r#"{{"type":"key","kind":"{kind}","key":"{code}","code":"{code}","modifiers":8}}"#
        ))
    }

    #[test]
    fn what_is_down_is_let_go_and_nothing_else() {
        let mut held = Held::default();
        for act in [
            key("down", "ShiftLeft"),
            key("down", "KeyA"),
            key("down", "KeyA"),
            key("down", "KeyB"),
            key("up", "KeyA"),
            act(r#"{"type":"mouse","kind":"down","x":1,"y":2,"button":"left"}"#),
            act(r#"{"type":"mouse","kind":"move","x":1,"y":2}"#),
            act(r#"{"type":"touch","kind":"start","points":[{"id":1,"x":1,"y":2}]}"#),
            act(r#"{"type":"text","text":"x"}"#),
        ] {
            held.did(7, &act);
        }
        held.did(8, &key("down", "KeyC"));
        held.did(8, &key("up", "KeyC"));
        assert_eq!(held.viewers(), [7]);
        let done = held.let_go(7, (3.0, 4.0));
        let expected = [
            act(r#"{"type":"touch","kind":"cancel"}"#),
            act(r#"{"type":"mouse","kind":"up","x":3,"y":4,"button":"left","clicks":1}"#),
            act(r#"{"type":"key","kind":"up","key":"KeyB","code":"KeyB"}"#),
            act(r#"{"type":"key","kind":"up","key":"ShiftLeft","code":"ShiftLeft"}"#),
        ];
        assert_eq!(done, expected);
        assert!(held.viewers().is_empty() && held.let_go(7, (0.0, 0.0)).is_empty());
    }

    #[test]
    fn a_finger_that_stays_is_still_there() {
        let mut held = Held::default();
        let touch = |kind: &str, points: &str| {
            act(&format!(
                r#"{{"type":"touch","kind":"{kind}","points":[{points}]}}"#
            ))
        };
        held.did(
            1,
            &touch("start", r#"{"id":1,"x":1,"y":2},{"id":2,"x":3,"y":4}"#),
        );
        held.did(1, &touch("end", r#"{"id":1,"x":1,"y":2}"#));
        assert_eq!(held.viewers(), [1]);
        held.did(1, &touch("end", ""));
        assert!(held.viewers().is_empty());
    }

    #[test]
    fn keys_are_bounded() {
        let mut held = Held::default();
        for number in 0..2 * MAX_KEYS {
            held.did(1, &key("down", &number.to_string()));
        }
        assert_eq!(held.let_go(1, (0.0, 0.0)).len(), MAX_KEYS);
    }
}
