//! A register that several clients share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::yield_now;

/// What is wrong with a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterBug {
    /// Nothing.
    None,
    /// A compare-and-set compares, waits, and sets whatever has been set meanwhile.
    LostWrite,
    /// A read is answered from a copy that is one write late.
    StaleRead,
}

#[derive(Debug)]
struct Values {
    now: u32,
    before: u32,
}

/// Holds a number, at first 0.
#[derive(Debug)]
pub struct SharedRegister {
    bug: RegisterBug,
    values: Mutex<Values>,
}

impl SharedRegister {
    /// One with this bug.
    #[must_use]
    pub const fn new(bug: RegisterBug) -> Self {
        let values = Values { now: 0, before: 0 };
        Self {
            bug,
            values: Mutex::new(values),
        }
    }

    /// What it holds. May be dropped.
    pub async fn read(&self) -> u32 {
        yield_now().await;
        let value = {
            let values = self.values();
            match self.bug {
                RegisterBug::StaleRead => values.before,
                _ => values.now,
            }
        };
        yield_now().await;
        value
    }

    /// Dropped, it may be written or not.
    pub async fn write(&self, value: u32) {
        yield_now().await;
        self.values().set(value);
        yield_now().await;
    }

    /// Whether it held `from`, and holds `to` now. Dropped, it may be set or not.
    pub async fn compare_and_set(&self, from: u32, to: u32) -> bool {
        yield_now().await;
        let held = {
            let mut values = self.values();
            let held = values.now == from;
            if held && self.bug != RegisterBug::LostWrite {
                values.set(to);
            }
            held
        };
        yield_now().await;
        if held && self.bug == RegisterBug::LostWrite {
            self.values().set(to);
        }
        held
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Values {
    const fn set(&mut self, value: u32) {
        self.before = self.now;
        self.now = value;
    }
}
