//! What he holds whose key it is.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::Class;
use buttress_store::{AfterCommit, Fence, Lease, LeaseLost, SqlConnection, StoreError};
use bytes::Bytes;
use tokio::{sync::watch, task::AbortHandle, time::sleep};

use crate::{
    Abandoned, CompleteError, EventKind, IdempotencyError, ScopedKey, idempotency::Inner,
    progress::Progress, tracker::Finishing,
};

/// The first and the longest pause between two tries to record an outcome.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// A key that is yours: do the work, and say how it ended.
///
/// While you hold it, a heartbeat keeps it, up to the lease's ceiling. Dropped without a verdict it
/// is handed back on a task of its own, in doubt or released, as the policy says of
/// [`Abandoned`](crate::Abandoned) ones.
#[must_use = "the key is in doubt when this is dropped without a verdict"]
pub struct Guard {
    pub(crate) inner: Arc<Inner>,
    pub(crate) key: ScopedKey,
    /// `None` when the store was down and the work is done without protection.
    pub(crate) held: Option<Held>,
    /// What is done with it when it is dropped.
    dropped: Option<Verdict>,
    pub(crate) progress: Progress,
    /// A phase was passed in a transaction that is not known to be committed.
    pub(crate) passing: bool,
    /// Told a completer when a phase was passed: his drive was not in vain.
    moved: Option<Arc<AtomicBool>>,
}

/// A claim that is kept.
pub(crate) struct Held {
    pub(crate) lease: Lease,
    lost: watch::Receiver<Option<LeaseLost>>,
    heartbeat: AbortHandle,
}

/// How a claim ends that is not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Doubt,
    Release,
    /// As released, and nobody was told how it ended.
    HandBack,
}

impl Guard {
    pub(crate) fn new(inner: Arc<Inner>, key: ScopedKey, lease: Lease, passed: Bytes) -> Self {
        let held = Held::keep(&inner, &key, lease);
        let mut guard = Self::made(inner, key, Some(held));
        guard.progress = Progress::new(passed);
        guard
    }

    pub(crate) fn unprotected(inner: Arc<Inner>, key: ScopedKey) -> Self {
        Self::made(inner, key, None)
    }

    fn made(inner: Arc<Inner>, key: ScopedKey, held: Option<Held>) -> Self {
        inner.guards(1);
        let dropped = match inner.policy.abandoned() {
            Abandoned::Doubt => Verdict::Doubt,
            // Nobody is told how it ended.
            Abandoned::Release => Verdict::HandBack,
        };
        Self {
            inner,
            key,
            held,
            dropped: Some(dropped),
            progress: Progress::new(Bytes::new()),
            passing: false,
            moved: None,
        }
    }

    /// Whether it has passed a phase, for somebody who has no guard.
    pub(crate) fn watch_progress(&mut self) -> Arc<AtomicBool> {
        Arc::clone(self.moved.get_or_insert_default())
    }

    /// The key, from which keys for the steps of the work are
    /// [derived](ScopedKey::derive).
    #[must_use]
    pub const fn key(&self) -> &ScopedKey {
        &self.key
    }

    /// The key to use with somebody else for one step of this work, [derived](ScopedKey::derive)
    /// from this one: the same whoever takes the work up again, so that *he* knows the second try
    /// of the step as the second. It is as hard to guess as the caller's key.
    #[must_use]
    pub fn derived_key(&self, step: &str) -> String {
        self.key.derive(step)
    }

    /// Whether somebody began this work before and did not finish it: it may have had its effect,
    /// or a part of it. Which phases he passed is told by `passed` (feature `phases`).
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.fence().is_some_and(|fence| fence.epoch() > 1)
    }

    /// By what the store knows this claim: to be passed on to what can refuse an older one. `None`
    /// when the store was down and nothing was claimed.
    #[must_use]
    pub fn fence(&self) -> Option<Fence> {
        self.held.as_ref().map(|held| held.lease.fence())
    }

    /// Whether the key is yours for certain. Only the fence protects what is recorded: look here
    /// to stop early, not to be sure.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.lease.is_held())
    }

    /// Waits until the key is lost: stop then, somebody else may be at it. Never, for work without
    /// protection.
    ///
    /// Dropping the future does nothing.
    pub async fn lost(&self) -> LeaseLost {
        self.watch().await
    }

    /// The same, for somebody who has no guard: a key that is given back, or done, is not lost.
    pub(crate) fn watch(&self) -> impl Future<Output = LeaseLost> + Send + use<> {
        let lost = self.held.as_ref().map(|held| held.lost.clone());
        async move {
            let Some(mut lost) = lost else {
                return std::future::pending().await;
            };
            match lost.wait_for(Option::is_some).await.map(|it| *it) {
                Ok(Some(reason)) => reason,
                // The heartbeat was ended, with the claim or with its runtime.
                _ => std::future::pending().await,
            }
        }
    }

    /// The work is done, and this came of it; whoever comes with the key is told so, for as long
    /// as the policy keeps it.
    ///
    /// When the store does not answer it is tried again, for the policy's patience.
    ///
    /// Dropping the future does not stop it: it runs to its end on a task of its own.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]: it is not recorded, or nobody knows.
    pub async fn complete(mut self, outcome: impl Into<Bytes>) -> Result<(), CompleteError> {
        let outcome = self.fitting(outcome.into())?;
        self.dropped = None;
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        let (inner, key) = (Arc::clone(&self.inner), self.key.clone());
        let tracker = inner.tracker.clone();
        let record = async move { record(&inner, &key, &held, &outcome).await };
        Finishing::new(&tracker, record, |_| None).await
    }

    /// As [`complete`](Self::complete), in a transaction of yours that holds all that this work
    /// did: both are committed, or neither. Do it last, and commit at once: who comes with the key
    /// meanwhile may have to wait for it. The transaction must have been begun after the key was
    /// claimed.
    ///
    /// Fire what this returns when you have committed. Dropped unfired, it gives the key back
    /// unless the transaction was committed, which is right when it was rolled back, and costs a
    /// statement when not.
    ///
    /// Dropping the future leaves the connection in the middle of a statement: roll back.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]: roll back. Of kind `Misused` where the store is on another database than
    /// the connection, or has no transactions.
    pub async fn complete_in<C: SqlConnection>(
        mut self,
        connection: &mut C,
        outcome: impl Into<Bytes>,
    ) -> Result<AfterCommit, CompleteError> {
        let outcome = self.fitting(outcome.into())?;
        // From here on the record itself says whether the work was done.
        self.dropped = Some(Verdict::HandBack);
        let Some(held) = &self.held else {
            self.dropped = None;
            return Ok(AfterCommit::nothing());
        };
        // An extension would wait for this very transaction.
        held.heartbeat.abort();
        let fence = held.lease.fence();
        self.inner
            .complete_in(connection, &self.key, fence, &outcome)
            .await?;
        Ok(AfterCommit::new(move || {
            self.dropped = None;
            self.inner.tell(EventKind::Completed);
        }))
    }

    /// The work was certainly not done, and had no effect: whoever comes next with the key, and
    /// with whatever request, does it. A key that was [`resumed`](Self::resumed) stays bound to its
    /// request, for of the earlier work nobody knows. What was kept of the request is gone: who asked
    /// is told, and no completer does it behind his back.
    ///
    /// Dropping the future does not stop it.
    ///
    /// # Errors
    ///
    /// When the store does not answer. The key is free when its lease is over.
    pub async fn release(self) -> Result<(), IdempotencyError> {
        self.end(Verdict::Release).await
    }

    /// Nobody knows whether the work was done. The key is left alone until its lease is over; then
    /// the next who comes with it, and with the same request, does the work again, and can see
    /// that he is not the first ([`resumed`](Self::resumed)).
    ///
    /// Dropping the future does not stop it.
    ///
    /// # Errors
    ///
    /// When the store does not answer. It comes to the same: the lease runs out.
    pub async fn keep_unknown(self) -> Result<(), IdempotencyError> {
        self.end(Verdict::Doubt).await
    }

    /// As [`release`](Self::release), when nobody is told how it ended: a completer may have it.
    pub(crate) async fn hand_back(self) -> Result<(), IdempotencyError> {
        self.end(Verdict::HandBack).await
    }

    async fn end(mut self, verdict: Verdict) -> Result<(), IdempotencyError> {
        self.dropped = None;
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        let tracker = self.inner.tracker.clone();
        let end = end(Arc::clone(&self.inner), self.key.clone(), held, verdict);
        Finishing::new(&tracker, end, |_| None).await?;
        Ok(())
    }

    /// The outcome, if it is not too large and all phases were passed that must have been.
    /// Otherwise the work is done and cannot be recorded.
    fn fitting(&mut self, outcome: Bytes) -> Result<Bytes, CompleteError> {
        self.confirm();
        let finished = self.progress.finish().map_err(CompleteError::from);
        let fits = finished.and_then(|()| self.inner.fitting(outcome));
        if fits.is_err() {
            self.dropped = Some(Verdict::Doubt);
        }
        fits
    }
}

impl Guard {
    /// Nothing is said of it any more: that was done elsewhere.
    pub(crate) fn let_go(mut self) {
        self.dropped = None;
    }

    /// Who goes on has committed the phase before.
    pub(crate) fn confirm(&mut self) {
        if std::mem::take(&mut self.passing) {
            if let Some(moved) = &self.moved {
                moved.store(true, Relaxed);
            }
            self.inner.tell(EventKind::Passed);
        }
    }
}

impl Held {
    fn keep(inner: &Arc<Inner>, key: &ScopedKey, lease: Lease) -> Self {
        let (says, lost) = watch::channel(None);
        let (inner, key, kept) = (Arc::clone(inner), key.clone(), lease.clone());
        let heartbeat = tokio::spawn(async move {
            let (policy, store) = (&inner.policy, &inner.store);
            let (length, retention) = (policy.lease().length(), policy.retention());
            let reason = kept
                .keep(|fence| store.extend(&key, fence, length, retention))
                .await;
            says.send_replace(Some(reason));
            inner.tell(EventKind::LeaseLost { reason });
        });
        Self {
            lease,
            lost,
            heartbeat: heartbeat.abort_handle(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.inner.guards(-1);
        let (Some(verdict), Some(held)) = (self.dropped, self.held.take()) else {
            return;
        };
        let (inner, key) = (Arc::clone(&self.inner), self.key.clone());
        let tracker = inner.tracker.clone();
        tracker.finish(async move {
            inner.tell(EventKind::Abandoned);
            // Told as an event; the lease runs out in any case.
            let _ = end(inner, key, held, verdict).await;
        });
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("key", &self.key)
            .field("fence", &self.fence())
            .finish_non_exhaustive()
    }
}

/// Records an outcome, and does not give up at the first error: the work has been done.
async fn record(
    inner: &Inner,
    key: &ScopedKey,
    held: &Held,
    outcome: &Bytes,
) -> Result<(), CompleteError> {
    let (fence, retention) = (held.lease.fence(), inner.policy.retention());
    let complete = || inner.store.complete(key, fence, outcome, retention);
    match insist(inner, "complete", complete).await? {
        true => {
            inner.tell(EventKind::Completed);
            Ok(())
        }
        false => {
            inner.tell(EventKind::Refused);
            Err(CompleteError::Lost(LeaseLost::Taken))
        }
    }
}

/// Asks the store until it answers, for the policy's patience.
pub(crate) async fn insist<F>(
    inner: &Inner,
    operation: &'static str,
    ask: impl Fn() -> F,
) -> Result<bool, StoreError>
where
    F: Future<Output = Result<bool, StoreError>>,
{
    let began = inner.clock.now();
    let [mut pause, longest] = PAUSES;
    loop {
        let error = match ask().await {
            Ok(said) => return Ok(said),
            Err(error) => error,
        };
        inner.failed(operation);
        let wait = pause.max(error.retry_after().unwrap_or_default());
        let spent = inner.clock.now().saturating_since(began);
        if error.class() == Class::Final || spent + wait > inner.policy.patience() {
            return Err(error);
        }
        sleep(wait).await;
        pause = (pause * 2).min(longest);
    }
}

async fn end(
    inner: Arc<Inner>,
    key: ScopedKey,
    held: Held,
    verdict: Verdict,
) -> Result<(), StoreError> {
    held.heartbeat.abort();
    let fence = held.lease.fence();
    let ended = match verdict {
        Verdict::Doubt => inner.store.doubt(&key, fence).await,
        Verdict::Release => inner.store.release(&key, fence).await,
        Verdict::HandBack => inner.store.hand_back(&key, fence).await,
    };
    match ended {
        Ok(true) => {
            inner.tell(match verdict {
                Verdict::Doubt => EventKind::Doubted,
                Verdict::Release | Verdict::HandBack => EventKind::Released,
            });
            Ok(())
        }
        // It is another's by now, or done: there is nothing to hand back.
        Ok(false) => Ok(()),
        Err(error) => {
            inner.failed(match verdict {
                Verdict::Doubt => "doubt",
                Verdict::Release => "release",
                Verdict::HandBack => "hand_back",
            });
            Err(error)
        }
    }
}

/// A key that is yours in a transaction of yours: its claim is committed with your writes, or gone
/// with them. Others are told meanwhile that it is in flight.
#[must_use = "complete it in the same transaction, or roll back"]
pub struct TransactionGuard {
    inner: Arc<Inner>,
    key: ScopedKey,
    fence: Fence,
    progress: Progress,
}

impl TransactionGuard {
    pub(crate) const fn new(
        inner: Arc<Inner>,
        key: ScopedKey,
        fence: Fence,
        passed: Bytes,
    ) -> Self {
        let progress = Progress::new(passed);
        Self {
            inner,
            key,
            fence,
            progress,
        }
    }

    /// The key, from which keys for the steps of the work are [derived](ScopedKey::derive).
    #[must_use]
    pub const fn key(&self) -> &ScopedKey {
        &self.key
    }

    /// Whether somebody began this work before, outside of a transaction, and did not finish it.
    #[must_use]
    pub const fn resumed(&self) -> bool {
        self.fence.epoch() > 1
    }

    /// The work is done, and this came of it: written in the transaction in which it was claimed.
    /// To give the key back, roll the transaction back.
    ///
    /// Fire what this returns when you have committed; all it does is to tell those who listen.
    /// Dropping the future leaves the connection in the middle of a statement: roll back.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]: roll back.
    pub async fn complete_in<C: SqlConnection>(
        self,
        connection: &mut C,
        outcome: impl Into<Bytes>,
    ) -> Result<AfterCommit, CompleteError> {
        let Self {
            inner,
            key,
            fence,
            progress,
        } = self;
        // Work that is in phases is not finished by a program that has none.
        progress.finish()?;
        let outcome = inner.fitting(outcome.into())?;
        inner.complete_in(connection, &key, fence, &outcome).await?;
        Ok(AfterCommit::new(move || inner.tell(EventKind::Completed)))
    }
}

impl fmt::Debug for TransactionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionGuard")
            .field("key", &self.key)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}
