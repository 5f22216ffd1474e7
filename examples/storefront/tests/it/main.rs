//! The shop's contract, checked from outside: over HTTP, against the program itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "the program under test lives in real time"
)]

mod cache;
mod contract;
mod demo;
mod document;
mod errors;
mod events;
mod faults;
mod figures;
mod hostile;
mod keys;
mod lifecycle;
mod outage;
mod quotes;
mod rates;
mod rolling;
mod several;
mod shop;
mod stream;
mod traces;
