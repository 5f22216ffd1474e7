//! What can be seen from outside, a file per subject.

#![expect(
    clippy::unwrap_used,
    reason = "outside of a test function too: what cannot go on fails the test"
)]

mod adaptive;
mod beside_machine;
mod cancelled;
mod concurrency;
mod faults;
mod fixed;
mod fleet;
mod keyed;
mod oracle;
mod outage;
mod over_http;
mod same_moment;
mod share;
mod shared;
mod stand;
mod stores;
mod threads;
mod told;
mod vectors;
mod vectors_live;
mod waiting;
