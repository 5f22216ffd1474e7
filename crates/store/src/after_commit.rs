//! What is worth doing once a transaction has been committed.

use std::fmt;

/// What is worth doing once the transaction in which it was made has been committed: waking a
/// relay or a runner, sending an invalidation.
///
/// Firing it is optional. Whoever forgets it, or dies before, waits for the next poll: nothing is
/// lost. It never fires by itself, for only the one who commits knows that he did.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use buttress_store::AfterCommit;
///
/// static WOKEN: AtomicBool = AtomicBool::new(false);
/// let wake = AfterCommit::new(|| WOKEN.store(true, Ordering::Relaxed));
/// // transaction.commit().await?;
/// wake.fire();
/// assert!(WOKEN.load(Ordering::Relaxed));
/// ```
#[must_use = "fire it after the commit, or what was written waits for the next poll"]
#[derive(Default)]
pub struct AfterCommit {
    first: Option<Box<dyn FnOnce() + Send + Sync>>,
    then: Vec<Self>,
}

impl AfterCommit {
    /// There is nothing to do.
    pub const fn nothing() -> Self {
        Self {
            first: None,
            then: Vec::new(),
        }
    }

    /// `act` is worth doing. It must be quick and must not block: it runs where [`fire`](Self::fire)
    /// is called.
    pub fn new(act: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self {
            first: Some(Box::new(act)),
            then: Vec::new(),
        }
    }

    /// Both, this one first: two patterns in one transaction.
    pub fn and(mut self, other: Self) -> Self {
        self.then.push(other);
        self
    }

    /// Does it, now that the commit has succeeded.
    pub fn fire(self) {
        if let Some(act) = self.first {
            act();
        }
        for other in self.then {
            other.fire();
        }
    }
}

impl fmt::Debug for AfterCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterCommit").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn noting(note: &Arc<Mutex<Vec<u8>>>, number: u8) -> AfterCommit {
        let note = Arc::clone(note);
        AfterCommit::new(move || note.lock().unwrap().push(number))
    }

    #[test]
    fn it_fires_in_order_and_never_when_dropped() {
        let note = Arc::default();
        drop(noting(&note, 1).and(noting(&note, 2)));
        assert!(note.lock().unwrap().is_empty());
        let both = noting(&note, 1).and(AfterCommit::nothing().and(noting(&note, 2)));
        both.and(noting(&note, 3)).fire();
        assert_eq!(*note.lock().unwrap(), [1, 2, 3]);
    }
}
