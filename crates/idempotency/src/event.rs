//! What happened, for those who listen.

use std::borrow::Cow;

use buttress_core::Observer;
use buttress_store::LeaseLost;

/// Something that happened to a key. The key itself is not said: it may be somebody's address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The handle's name.
    pub name: Cow<'static, str>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// Somebody came with a key and got it.
    #[non_exhaustive]
    Claimed {
        /// Which claim of this key it is: above one, somebody began before and did not finish.
        epoch: i64,
    },
    /// The work was done already; the outcome was handed out.
    Replayed,
    /// Somebody else was at it.
    InFlight,
    /// The key had been used for another request.
    Mismatched,
    /// The outcome was recorded.
    Completed,
    /// The key was given back.
    Released,
    /// The key is in doubt until its lease is over.
    Doubted,
    /// A guard was dropped without a verdict: its holder panicked, or was dropped.
    Abandoned,
    /// Work goes on whose claim is lost.
    #[non_exhaustive]
    LeaseLost {
        /// Why.
        reason: LeaseLost,
    },
    /// A late worker came to complete what another had taken over, and was refused.
    Refused,
    /// The store did not do what it was asked.
    #[non_exhaustive]
    StoreFailed {
        /// Which operation of the store it was.
        operation: &'static str,
    },
    /// The store could not be asked, and the work is done without protection, as the policy says.
    Unprotected,
    /// A phase was passed.
    Passed,
    /// A completer took up work that nobody finishes.
    #[non_exhaustive]
    Adopted {
        /// How often it has been by now.
        drive: u32,
    },
    /// A completer could not finish it, and it waits.
    Postponed,
    /// A completer could not finish it, and none will take it up again unless somebody
    /// [says so](crate::Idempotency::unpark).
    Parked,
    /// A request was not kept with its key: it is done as any other, and nobody finishes it without
    /// its client.
    #[non_exhaustive]
    NotKept {
        /// Why.
        reason: NotKept,
    },
    /// Records that had expired were removed.
    #[non_exhaustive]
    Reaped {
        /// How many.
        records: u64,
    },
}

/// Why a request was not kept with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotKept {
    /// The program chose not to.
    Unwanted,
    /// It is larger than the policy's longest request, with its head.
    TooLarge,
    /// It could not be sealed.
    Unsealed,
}

impl NotKept {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unwanted => "unwanted",
            Self::TooLarge => "too_large",
            Self::Unsealed => "unsealed",
        }
    }
}

/// Writes what happens to the log, by `tracing`: what somebody should look at as a warning, the
/// rest at debug.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a unit struct: it is its own value"
)]
pub struct TraceEvents;

impl Observer<Event> for TraceEvents {
    fn on_event(&self, event: &Event) {
        let (name, words) = (event.name.escape_debug(), event.kind.words());
        match event.kind {
            EventKind::Claimed { epoch } if epoch > 1 => {
                tracing::info!(idempotency.name = %name, idempotency.epoch = epoch, "{words}");
            }
            EventKind::LeaseLost { reason } => {
                tracing::warn!(idempotency.name = %name, idempotency.reason = %reason, "{words}");
            }
            EventKind::StoreFailed { operation } => {
                tracing::warn!(idempotency.name = %name, idempotency.operation = operation, "{words}");
            }
            EventKind::Reaped { records } => {
                tracing::debug!(idempotency.name = %name, idempotency.records = records, "{words}");
            }
            EventKind::Adopted { drive } => {
                tracing::info!(idempotency.name = %name, idempotency.drive = drive, "{words}");
            }
            EventKind::NotKept { reason } => {
                let reason = reason.as_str();
                tracing::info!(idempotency.name = %name, idempotency.reason = reason, "{words}");
            }
            EventKind::Refused | EventKind::Unprotected | EventKind::Parked => {
                tracing::warn!(idempotency.name = %name, "{words}");
            }
            EventKind::Mismatched
            | EventKind::Doubted
            | EventKind::Abandoned
            | EventKind::Postponed => {
                tracing::info!(idempotency.name = %name, "{words}");
            }
            _ => tracing::debug!(idempotency.name = %name, "{words}"),
        }
    }
}

impl EventKind {
    const fn words(self) -> &'static str {
        match self {
            Self::Claimed { epoch: ..=1 } => "a key was claimed",
            Self::Claimed { .. } => "a key was taken over whose work was begun and not finished",
            Self::Replayed => "an outcome was replayed",
            Self::InFlight => "a duplicate came while the first is under way",
            Self::Mismatched => "a key came with another request than before",
            Self::Completed => "an outcome was recorded",
            Self::Released => "a key was given back",
            Self::Doubted => "a key is in doubt until its lease is over",
            Self::Abandoned => "work under a key was dropped without a verdict",
            Self::LeaseLost { .. } => "work goes on whose claim is lost",
            Self::Refused => "a late outcome was refused; the key is another's",
            Self::StoreFailed { .. } => "the store of idempotency keys failed",
            Self::Unprotected => "work is done without protection, for the store is down",
            Self::Passed => "a phase was passed",
            Self::Adopted { .. } => "work that nobody finishes was taken up",
            Self::Postponed => "work that nobody finishes could not be finished, and waits",
            Self::Parked => "work that nobody finishes could not be finished, and is parked",
            Self::NotKept { .. } => "a request was not kept, and needs its client to be finished",
            Self::Reaped { .. } => "records that had expired were removed",
        }
    }
}
