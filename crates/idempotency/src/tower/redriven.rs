//! The mark of a request that is made again without its client.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use super::layer::Settings;
use crate::{Fingerprint, Guard, Orphan};

/// In the extensions of a request that a completer makes again: its client has not asked for it a
/// second time and does not wait for the answer. No caller can set it.
///
/// The layer takes it under the key that it had. What stands further out (authentication, limits)
/// sees it too, and should let it pass as what it was allowed to be.
#[derive(Clone)]
pub struct Redriven {
    drive: u32,
    version: u32,
    inside: Arc<Inside>,
}

struct Inside {
    fingerprint: Fingerprint,
    /// Until the layer takes it.
    guard: Mutex<Option<Guard>>,
    /// It is known to be done.
    done: AtomicBool,
}

impl Redriven {
    pub(super) fn new(orphan: Orphan, version: u32) -> Self {
        let inside = Inside {
            fingerprint: orphan.fingerprint,
            guard: Mutex::new(Some(orphan.guard)),
            done: AtomicBool::new(false),
        };
        Self {
            drive: orphan.drive,
            version,
            inside: Arc::new(inside),
        }
    }

    /// Which drive this is, from one.
    #[must_use]
    pub const fn drive(&self) -> u32 {
        self.drive
    }

    /// The number that was kept with the request, by
    /// [`KeptRequests::version`](super::KeptRequests::version).
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.inside.fingerprint
    }

    pub(super) fn take(&self) -> Option<Guard> {
        let mut guard = self.place();
        guard.take()
    }

    /// The guard, for the layer whose key it is.
    pub(super) fn take_for(&self, settings: &Settings) -> Option<Guard> {
        let ours = settings.idempotency.inner();
        let mut guard = self.place();
        guard.take_if(|it| settings.kept.is_some() && Arc::ptr_eq(&it.inner, ours))
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Option<Guard>> {
        let guard = self.inside.guard.lock();
        guard.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_done(&self) {
        self.inside.done.store(true, SeqCst);
    }

    pub(super) fn is_done(&self) -> bool {
        self.inside.done.load(SeqCst)
    }
}

impl fmt::Debug for Redriven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redriven")
            .field("drive", &self.drive)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
