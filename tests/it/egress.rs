//! The network boundary, in an internet of our own: what a session's page and code reach, what
//! they do not, and what would have been reached.
//!
//! "Refused" is never taken from the client alone: after every test nothing may have reached an
//! address that is closed (`world::nothing_closed_was_reached`).

mod boundary;
mod clients;
mod rebinding;
mod redirects;
mod routes;
mod spellings;
mod stalling;
mod upstream;
mod workers;
mod world;
