//! The invariants of `docs/ARCHITECTURE.md` that are about isolation, one thorough check each, named
//! after their numbers there.

mod confined;
mod deaths;
mod hostile;
mod ports;
mod sight;
