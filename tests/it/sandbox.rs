//! Sandboxes against the real kernel: what is inside, what is denied, what is left afterwards.

mod browser;
mod harness;
mod images;
mod inside;
mod lifecycle;
