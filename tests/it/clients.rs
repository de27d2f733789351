//! Every client people use in a session, for real, through the session's proxy: what it reaches, what it
//! says of a refusal, that what it sends and gets is unharmed, and that it finds the session's own
//! servers without the proxy.

mod install;
mod local;
mod net;
mod packages;
mod reach;
mod table;
mod transfers;
