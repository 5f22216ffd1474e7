//! What a handler inside the layer is handed: its key, and the right to complete it itself.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use buttress_store::{AfterCommit, SqlConnection};
use bytes::Bytes;
use http::Response;

use crate::{
    CompleteError, Guard, ScopedKey,
    http::{ReplayedHeaders, StoredResponse},
};

/// In the extensions of a request that the layer has claimed: the key, from which keys for the
/// steps are [derived](ScopedKey::derive), and the right to complete it in a transaction.
///
/// Clones are the same. With feature `axum` it is an extractor.
#[derive(Clone)]
pub struct Idempotent {
    key: ScopedKey,
    resumed: bool,
    headers: Arc<ReplayedHeaders>,
    guard: Arc<Mutex<Option<Guard>>>,
}

impl Idempotent {
    pub(super) fn new(guard: Guard, headers: ReplayedHeaders) -> Self {
        Self {
            key: guard.key().clone(),
            resumed: guard.resumed(),
            headers: Arc::new(headers),
            guard: Arc::new(Mutex::new(Some(guard))),
        }
    }

    /// The key, in its scope.
    #[must_use]
    pub const fn key(&self) -> &ScopedKey {
        &self.key
    }

    /// Whether somebody began this request before and did not finish it: it may have had its
    /// effect, or a part of it.
    #[must_use]
    pub const fn resumed(&self) -> bool {
        self.resumed
    }

    /// The guard, with which everything can be said of the key that there is to say; the layer then
    /// says nothing of it. `None` when it was taken before.
    #[must_use]
    pub fn take(&self) -> Option<Guard> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.take()
    }

    /// Puts the guard back, after work in phases, say: the layer then says by the answer what
    /// becomes of the key, as it does when the guard was never taken. A guard of another key is
    /// dropped.
    pub fn give_back(&self, guard: Guard) {
        let mut place = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_none() && *guard.key() == self.key {
            *place = Some(guard);
        }
    }

    /// Keeps `answer` under the key in a transaction of yours, that holds all that the request did:
    /// both are committed, or neither. Do it last, commit at once, fire what this returns, and
    /// return `answer`, to the byte.
    ///
    /// What may change the answer on its way out (a layer between the handler and this one) is not
    /// kept. As [`Guard::complete_in`] otherwise.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]: roll back, and answer with it. [`CompleteError::Lost`], too, when the
    /// guard was taken before.
    pub async fn complete_in<C: SqlConnection>(
        &self,
        connection: &mut C,
        answer: &Response<Bytes>,
    ) -> Result<AfterCommit, CompleteError> {
        let Some(guard) = self.take() else {
            return Err(CompleteError::Lost(buttress_store::LeaseLost::Taken));
        };
        let record = StoredResponse::of(answer, &self.headers).encode();
        guard.complete_in(connection, record).await
    }
}

impl fmt::Debug for Idempotent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotent")
            .field("key", &self.key)
            .field("resumed", &self.resumed)
            .finish_non_exhaustive()
    }
}
