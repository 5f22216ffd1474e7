//! Faults and crashes at chosen operations of a store.
//!
//! A store's tests wrap it once, and hand each of its methods to [`Plan::around`]:
//!
//! ```
//! use buttress_testkit::fault::{Fault, Injected, Plan, fault_sweep};
//!
//! #[derive(Clone, Copy, Debug, PartialEq)]
//! enum StoreError { Unavailable, Unknown }
//!
//! fn as_store_error(injected: Injected) -> StoreError {
//!     if injected.may_have_been_done() { StoreError::Unknown } else { StoreError::Unavailable }
//! }
//!
//! struct FaultStore<S> { inner: S, plan: Plan<StoreError> }
//! # struct Memory;
//! # impl Memory { async fn add(&self, _: u32) -> Result<u32, StoreError> { Ok(1) } }
//!
//! impl FaultStore<Memory> {
//!     async fn add(&self, amount: u32) -> Result<u32, StoreError> {
//!         self.plan.around("add", self.inner.add(amount)).await
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let faults = [Fault::Before, Fault::DoneThenError];
//! let runs = fault_sweep(&faults, as_store_error, async |plan| {
//!     let store = FaultStore { inner: Memory, plan };
//!     let _ = store.add(1).await;
//!     // … and here is checked what must hold, whatever came.
//! })
//! .await;
//! assert_eq!(runs, 2);
//! # }
//! ```

mod crash;
mod plan;
mod sweep;

use std::{fmt, time::Duration};

pub use self::{
    crash::{CrashPoint, NoCrashPoint, crash_points},
    plan::Plan,
    sweep::{fault_sweep, pairs, sweep},
};

/// What can go wrong with one operation of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// It is not done, and an error says so: a refused connection.
    Before,
    /// It is done, and an error is returned all the same: the answer was lost.
    DoneThenError,
    /// It is not done, and never returns: a packet lost on the way there. Needs a deadline.
    Hang,
    /// It is done, and never returns: a packet lost on the way back. Needs a deadline.
    DoneThenHang,
    /// It is done, so much later.
    Slow(Duration),
    /// It is begun, dropped where it first waits, and an error returned: a connection reset in the
    /// middle. What never waits is done. Whether it was done is not known.
    Reset,
}

impl Fault {
    /// All, the slow one by a millisecond.
    pub const ALL: [Self; 6] = [
        Self::Before,
        Self::DoneThenError,
        Self::Hang,
        Self::DoneThenHang,
        Self::Slow(Duration::from_millis(1)),
        Self::Reset,
    ];
}

/// A fault at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Injection {
    /// Which operation it strikes, counted from 1.
    pub operation: u32,
    /// What happens to it.
    pub fault: Fault,
}

impl Injection {
    /// `fault` at the operation of this number, counted from 1.
    #[must_use]
    pub const fn new(operation: u32, fault: Fault) -> Self {
        Self { operation, fault }
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at operation {}", self.fault, self.operation)
    }
}

/// Why an operation failed: it was told to. A test makes the store's own error of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Injected {
    /// Of [`Fault::Before`]: certainly not done.
    NotDone,
    /// Of [`Fault::DoneThenError`]: done, as the test knows and the caller cannot.
    Done,
    /// Of [`Fault::Reset`].
    Reset,
}

impl Injected {
    /// Whether an honest error would call the effect unknown.
    #[must_use]
    pub const fn may_have_been_done(self) -> bool {
        !matches!(self, Self::NotDone)
    }
}
