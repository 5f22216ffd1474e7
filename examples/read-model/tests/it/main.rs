//! The read model, while its projectors die, its events come twice, and it is built anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "processes live in real time")]

mod deliveries;
mod demo;
mod killed;
mod place;
mod rebuilt;
