//! The real clients: skipped where they are not installed.
