//! Sandboxes against the real kernel: what is inside, what is denied, what is left afterwards.

mod browser;
#[path = "../common/elf.rs"]
mod elf;
mod harness;
mod hostile_browser;
mod images;
mod inside;
mod lifecycle;
mod oom;
#[path = "../common/spawner.rs"]
mod spawner;
mod starving;
