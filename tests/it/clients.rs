//! Every client people use in a session, for real, through the session's proxy.

mod packages;
