//! A breaker that is held isolated.

use std::{fmt, sync::Arc};

use crate::breaker::Core;

/// Keeps a breaker rejecting as long as it lives; several may, and the last one ends it. Made by
/// [`CircuitBreaker::isolate`](crate::CircuitBreaker::isolate).
///
/// States that are asked for by hand meanwhile take effect when the last one is dropped.
#[must_use = "it ends when it is dropped"]
pub struct Isolation {
    core: Arc<Core>,
}

impl Isolation {
    /// The one who makes it has isolated the cell.
    pub(crate) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

impl Drop for Isolation {
    fn drop(&mut self) {
        self.core.moved(self.core.cell.rejoin());
    }
}

impl fmt::Debug for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Isolation").field(&self.core).finish()
    }
}
