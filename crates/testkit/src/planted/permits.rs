//! Permits that come back.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::task::yield_now;

/// What is wrong with permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PermitBug {
    /// Nothing.
    None,
    /// A permit comes back at the end of the work, and not when the work is dropped.
    LostOnDrop,
}

/// Counts how many permits are out.
#[derive(Clone, Debug)]
pub struct Permits {
    bug: PermitBug,
    out: Arc<AtomicU32>,
}

/// A permit that is out until it is dropped.
#[derive(Debug)]
pub struct Permit(Arc<AtomicU32>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Permits {
    /// Some with this bug.
    #[must_use]
    pub fn new(bug: PermitBug) -> Self {
        Self {
            bug,
            out: Arc::default(),
        }
    }

    /// Works under a permit. May be dropped: the right one gives its permit back.
    pub async fn work(&self) {
        yield_now().await;
        self.out.fetch_add(1, Ordering::Relaxed);
        let guard = (self.bug == PermitBug::None).then(|| Permit(Arc::clone(&self.out)));
        yield_now().await;
        if guard.is_none() {
            self.out.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many are out.
    #[must_use]
    pub fn out(&self) -> u32 {
        self.out.load(Ordering::Relaxed)
    }
}
