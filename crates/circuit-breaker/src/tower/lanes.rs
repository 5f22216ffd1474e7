//! A handle for each of a few threads: a future must own its breaker, and if all futures counted
//! themselves on one line, two threads would fight for it with every call.

use std::{ptr, sync::Arc};

use crate::{CircuitBreaker, breaker::Core, permit::Leads};

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
        thread_local! {
            static PLACE: u8 = const { 0 };
        }
        // Where a thread has its own variables tells it from the others; multiplied by 2^64
        // through the golden ratio, the upper bits depend on all of it.
        let place = PLACE.with(|place| ptr::from_ref(place).addr() as u64);
        let lane = (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) & (LANES as u64 - 1);
        &self.lanes[usize::try_from(lane).unwrap_or(0)]
    }
}

impl Leads for Arc<Lane> {
    #[inline]
    fn core(&self) -> &Core {
        self.0.core_ref()
    }
}
