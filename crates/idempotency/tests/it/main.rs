//! What can be seen from outside, a file per subject.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "real stores have real clocks, and what must come in time is measured"
)]

mod cancelled;
mod completer;
mod conformance;
mod faults;
mod handle;
mod http;
mod in_transaction;
mod killed;
mod linear;
mod migrated;
mod network;
mod phases;
mod planted;
mod redriven;
mod stand;
mod vectors;
