//! The page of the live view in a frame, in a real browser: each test is a script of
//! `tests/clients/node/live`, whose assertions are its own.

use std::path::Path;

use crate::official::passes;
use crate::shared::daemon;

async fn script_passes(name: &str) {
    let script = format!("node/live/{name}.mjs");
    passes(Path::new("node"), &[&script], daemon()).await;
}

#[tokio::test]
async fn pictures_are_watched() {
    script_passes("watch").await;
}

#[tokio::test]
async fn mouse_touch_and_keyboard_reach_the_page() {
    script_passes("input").await;
}

#[tokio::test]
async fn panels_do_what_they_say() {
    script_passes("panels").await;
}

/// With `PAGEBOX_PICTURES`, a folder, it keeps pictures there: `light-control` and `dark-list` are in `docs/`.
#[tokio::test]
async fn everything_has_its_place() {
    script_passes("looks").await;
}
