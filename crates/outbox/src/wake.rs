//! The wake-up hint within a process.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

/// Wakes all relays of a store. Any number of hints between two looks are one.
#[derive(Clone)]
pub(crate) struct Wake {
    sender: Arc<watch::Sender<u64>>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            sender: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Wake {
    pub(crate) fn fire(&self) {
        self.sender
            .send_modify(|hints| *hints = hints.wrapping_add(1));
    }

    /// An ear that hears what is fired from now on.
    pub(crate) fn ear(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wake").finish_non_exhaustive()
    }
}
