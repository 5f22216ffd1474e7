//! A handle for each of a few threads: a future must own its breaker, and if all futures counted
//! themselves on one line, two threads would fight for it with every call.

use std::sync::Arc;

use crate::{CircuitBreaker, breaker::Core, lane::lane, permit::Leads};

const LANES: usize = 16;

/// One handle, whose count of owners is on a line of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Lane(CircuitBreaker);

/// The handles of one layer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    lanes: Arc<[Arc<Lane>; LANES]>,
}

impl Lanes {
    pub(super) fn new(breaker: &CircuitBreaker) -> Self {
        let lanes = std::array::from_fn(|_| Arc::new(Lane(breaker.clone())));
        Self {
            lanes: Arc::new(lanes),
        }
    }

    /// That of this thread, which it may share with others.
    #[inline]
    pub(super) fn mine(&self) -> &Arc<Lane> {
        &self.lanes[lane().unwrap_or(0) % LANES]
    }
}

impl Leads for Arc<Lane> {
    #[inline]
    fn core(&self) -> &Core {
        self.0.core_ref()
    }
}
