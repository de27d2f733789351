//! The proxy over real sockets. Only the way out is replaced: names have the addresses a test
//! gives them, and public addresses lead to servers on loopback.

mod bounds;
mod clients;
mod http;
mod log;
mod lookup;
mod own_loopback;
mod session;
mod support;
mod tunnel;
mod upstream;
