//! The network boundary, in an internet of our own: what a session's page and code reach, what
//! they do not, and what would have been reached.

mod world;
