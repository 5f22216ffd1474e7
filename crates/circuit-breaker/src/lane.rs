//! A small number for each thread, so that threads can count on lines of their own.

#[cfg(not(buttress_loom))]
pub(crate) use self::threads::lane;

/// As many threads have a number; the others share what is shared.
pub(crate) const LANES: usize = 32;

/// For loom, whose threads are none of the system's: a test says which it is.
#[cfg(buttress_loom)]
pub(crate) mod told {
    use std::cell::Cell;

    loom::thread_local! {
        static LANE: Cell<usize> = Cell::new(0);
    }

    pub(crate) fn be(lane: usize) {
        LANE.with(|it| it.set(lane));
    }

    pub(crate) fn lane() -> Option<usize> {
        Some(LANE.with(Cell::get)).filter(|it| *it < super::LANES)
    }
}

#[cfg(buttress_loom)]
pub(crate) use self::told::lane;

#[cfg(not(buttress_loom))]
mod threads {
    use std::{
        cell::Cell,
        sync::{Mutex, PoisonError},
    };

    use super::LANES;

    /// No number was asked for yet.
    const NEW: usize = usize::MAX;
    /// There was none left, or the thread is ending.
    const NONE: usize = usize::MAX - 1;

    /// Which numbers are taken, as bits. The lock orders the last owner of a number before the next.
    static TAKEN: Mutex<u32> = Mutex::new(0);

    thread_local! {
        static LANE: Cell<usize> = const { Cell::new(NEW) };
        static HELD: Held = const { Held };
    }

    /// Gives the number back when the thread ends.
    struct Held;

    impl Drop for Held {
        fn drop(&mut self) {
            let lane = LANE.replace(NONE);
            if lane < LANES {
                *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) &= !(1 << lane);
            }
        }
    }

    /// That of this thread, below [`LANES`], and no other living thread's; `None` where there are more
    /// threads than numbers.
    #[inline]
    pub(crate) fn lane() -> Option<usize> {
        match LANE.get() {
            lane if lane < LANES => Some(lane),
            NEW => take(),
            _ => None,
        }
    }

    #[cold]
    fn take() -> Option<usize> {
        // Without a destructor that gives it back, a number must not be taken.
        let lane = match HELD.try_with(|_| ()) {
            Err(_) => NONE,
            Ok(()) => {
                let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
                let lane = usize::try_from(taken.trailing_ones()).unwrap_or(NONE);
                if lane < LANES {
                    *taken |= 1 << lane;
                    lane
                } else {
                    NONE
                }
            }
        };
        LANE.set(lane);
        (lane < LANES).then_some(lane)
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    #[test]
    fn no_two_living_threads_have_one_number_and_a_dead_ones_is_given_out_again() {
        let round = || {
            let together = Barrier::new(LANES + 8);
            let mut lanes: Vec<_> = thread::scope(|scope| {
                let asks = || {
                    let mine = lane();
                    together.wait();
                    assert_eq!(lane(), mine);
                    mine
                };
                let threads: Vec<_> = (0..LANES + 8).map(|_| scope.spawn(asks)).collect();
                threads
                    .into_iter()
                    .filter_map(|it| it.join().unwrap())
                    .collect()
            });
            let found = lanes.len();
            lanes.sort_unstable();
            lanes.dedup();
            assert_eq!(lanes.len(), found);
            found
        };
        // Other tests' threads have some of them.
        assert!((1..=LANES).contains(&round()));
        assert!((1..=LANES).contains(&round()));
    }
}
