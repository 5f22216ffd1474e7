//! A part of a test in a process of its own, to be killed or stopped in.
//!
//! The parent starts its own test binary once more, for one test alone, which is the role:
//!
//! ```no_run
//! use std::time::Duration;
//! use buttress_testkit::child::{Child, role};
//!
//! // A role is a test that does nothing unless it is started as a role.
//! #[test]
//! fn worker_role() {
//!     let Some(role) = role("worker") else { return };
//!     // … claims something, and then, where it is to be killed:
//!     role.announce("claimed", "order 7");
//!     role.wait_at("before the commit");
//! }
//!
//! #[tokio::test]
//! async fn a_killed_workers_claim_lapses() {
//!     let mut worker = Child::role("worker", "worker_role").spawn();
//!     assert_eq!(worker.until("claimed").await, "order 7");
//!     worker.until("before the commit").await;
//!     worker.kill();
//!     // … and here is checked what must hold.
//! }
//! ```

mod parent;
mod part;
mod points;

pub use self::{
    parent::{Child, Spawn},
    part::{Role, role},
};

/// Says to a process which role it has.
const ROLE_VARIABLE: &str = "BUTTRESS_TEST_ROLE";
/// Begins a line that announces a point. No text of libtest's or of a test's begins so.
const MARK: &str = "\u{1}point ";
/// The parent's word to go on from the point at which a role waits.
const GO_ON: &str = "go on";
