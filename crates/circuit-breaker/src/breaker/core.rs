//! What all clones of a handle share, and everything that runs outside of the cell's lock.

use std::{
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Clock, Moment, Observers, Outcome, Registered, Rejection, RejectionKind};
use tokio::sync::Notify;

use crate::{
    Counts, Event, EventKind, OpenTime, Opening, Policy, State,
    cell::{Acquired, Cell, Opens, Predicate, Refusal, Settled, Taken, Ticket},
    chance::Chance,
    machine::{Move, Sample},
    policy::Abandoned,
    window::Changed,
};

type OpenTimeRule = Arc<dyn Fn(&Opening) -> Duration + Send + Sync>;
type PredicateRule = Arc<dyn Fn(&Counts) -> bool + Send + Sync>;

/// The user's own code in a breaker.
#[derive(Clone, Default)]
pub(crate) struct OwnRules {
    pub(crate) predicate: Option<PredicateRule>,
    pub(crate) open_time: Option<OpenTimeRule>,
}

/// What clones share.
pub(crate) struct Core {
    pub(crate) name: Cow<'static, str>,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) cell: Cell,
    pub(crate) clock: Clock,
    pub(crate) observers: Observers<Event>,
    pub(crate) chance: Chance,
    pub(crate) own: OwnRules,
    pub(crate) policy: std::sync::RwLock<Policy>,
    /// Rings when a probe's slot is free again, and when the state changes.
    pub(crate) bell: Notify,
    pub(crate) late: AtomicU64,
    /// As in the policy, where every rejection can read it.
    pub(crate) shadow: AtomicBool,
    /// Who wants to know of changes of state soon, when it is of a fleet.
    pub(crate) fleet: OnceLock<Arc<Notify>>,
    /// When somebody last closed it by hand, in nanoseconds of its clock; 0 for never.
    pub(crate) closed_by_hand: AtomicU64,
}

impl Core {
    /// A ticket, where it is closed and nothing is measured.
    #[inline]
    pub(crate) fn acquire_plain(&self) -> Option<Ticket> {
        self.cell.acquire_plain()
    }

    /// A ticket, or the rejection.
    #[inline]
    pub(crate) fn acquire(&self) -> Result<Ticket, Rejection> {
        match self.acquire_plain() {
            Some(ticket) => Ok(ticket),
            None => self.acquire_or_reject(),
        }
    }

    #[inline(never)]
    fn acquire_or_reject(&self) -> Result<Ticket, Rejection> {
        if let Some(rest) = self.open_rest() {
            return self.refused(Refusal::Now(State::Open, Some(rest)));
        }
        match self.admit() {
            Ok(ticket) => Ok(ticket),
            Err(refusal) => self.refused(refusal),
        }
    }

    /// How long a call is still rejected: what an open breaker is asked all the time.
    #[inline]
    pub(crate) fn open_rest(&self) -> Option<Duration> {
        self.cell.open_rest(|| self.clock.now())
    }

    /// A ticket, or why there is none.
    #[inline]
    pub(crate) fn admit(&self) -> Result<Ticket, Refusal> {
        self.acquired(
            self.cell
                .acquire(|| self.clock.now(), || self.chance.next()),
        )
    }

    #[inline]
    fn acquired(&self, acquired: Acquired) -> Result<Ticket, Refusal> {
        match acquired {
            Acquired::Ticket(ticket, moved) => {
                self.moved(moved);
                Ok(ticket)
            }
            Acquired::Refused(refusal) => Err(refusal),
            Acquired::MustOpen(opens) => {
                self.open(&opens, None);
                // Now it is open, by us or by another one. Should its time be over already, then
                // this call does not begin the next round: it would be a loop.
                let rest = self.cell.remaining(|| self.clock.now());
                Err(Refusal::Now(State::Open, rest))
            }
        }
    }

    /// What the caller is told, and whether it is let through all the same.
    pub(crate) fn refused(&self, refusal: Refusal) -> Result<Ticket, Rejection> {
        let (state, rest) = match refusal {
            Refusal::Now(state, rest) => (state, rest),
            Refusal::Full => (State::HalfOpen, None),
        };
        let shadow = self.shadow.load(Relaxed);
        self.tell(None, || EventKind::Rejected { state, shadow });
        if shadow {
            return Ok(Ticket::UNCOUNTED);
        }
        let rejection = Rejection::new(RejectionKind::CircuitOpen, self.name.clone());
        Err(match rest {
            Some(rest) => rejection.with_retry_after(rest),
            None => rejection,
        })
    }

    /// Takes the result of a call.
    #[inline]
    pub(crate) fn settle(&self, ticket: Ticket, outcome: Outcome, retry_after: Option<Duration>) {
        let untouched = outcome == Outcome::Success && self.cell.is_untouched_by_success(&ticket);
        if !untouched || !self.observers.is_silent() {
            self.settle_changed(ticket, outcome, retry_after);
        }
    }

    /// The result may change something, or somebody hears of it.
    #[inline(never)]
    fn settle_changed(&self, ticket: Ticket, outcome: Outcome, retry_after: Option<Duration>) {
        // The rule would have to be asked after each change.
        if outcome == Outcome::Success && self.own.predicate.is_none() && self.observers.is_silent()
        {
            match self.cell.take_success(&ticket, || self.clock.now()) {
                Taken::Yes => return,
                Taken::Changes(changed) => return self.took_success(ticket, changed, retry_after),
                Taken::No => {}
            }
        }
        match outcome {
            Outcome::Success => self.take(ticket, Sample::SUCCESS, retry_after),
            Outcome::Failure => self.take(ticket, Sample::FAILURE, retry_after),
            _ => self.ignored(ticket),
        }
    }

    #[inline(never)]
    fn took_success(&self, ticket: Ticket, changed: Changed, hint: Option<Duration>) {
        let settled = self
            .cell
            .judge_success(ticket, changed, || self.clock.now());
        if settled != Settled::Counted {
            self.settled(ticket, settled, Sample::SUCCESS, hint);
        }
    }

    #[inline(never)]
    fn take(&self, ticket: Ticket, sample: Sample, retry_after: Option<Duration>) {
        if !ticket.is_counted() {
            return;
        }
        let (settled, sample) = self.with_predicate(|predicate| {
            self.cell
                .settle(ticket, sample, || self.clock.now(), predicate)
        });
        if settled == Settled::Counted && self.observers.is_silent() {
            return;
        }
        self.settled(ticket, settled, sample, retry_after);
    }

    /// Lends the user's rule over the counts, guarded.
    fn with_predicate<T>(&self, act: impl FnOnce(Predicate<'_>) -> T) -> T {
        match &self.own.predicate {
            None => act(None),
            Some(rule) => act(Some(&|counts: &Counts| {
                guard(|| rule(counts)).unwrap_or(false)
            })),
        }
    }

    #[cold]
    fn settled(&self, ticket: Ticket, settled: Settled, sample: Sample, hint: Option<Duration>) {
        if settled == Settled::Late {
            return self.came_late(ticket);
        }
        self.tell(Some(ticket.generation()), || {
            if sample.is_abandoned() {
                return EventKind::Abandoned;
            }
            EventKind::Settled {
                outcome: match sample.is_failed() {
                    true => Outcome::Failure,
                    false => Outcome::Success,
                },
                slow: sample.is_slow(),
            }
        });
        match settled {
            Settled::Counted | Settled::Late => {}
            Settled::Freed => self.bell.notify_waiters(),
            Settled::Moved(moved) => self.moved(Some(moved)),
            Settled::MustOpen(opens) => self.open(&opens, hint),
            Settled::Exceeded(causes, counts) => {
                for cause in causes.iter() {
                    tracing::warn!(name = %self.name, key = ?self.key, %cause,
                        "a threshold is reached, and the circuit breaker may not open");
                    self.tell(Some(ticket.generation()), || EventKind::Exceeded {
                        cause,
                        counts,
                    });
                }
            }
        }
    }

    #[cold]
    fn ignored(&self, ticket: Ticket) {
        if !ticket.is_counted() {
            return;
        }
        match self.cell.give_back(ticket) {
            Settled::Late => return self.came_late(ticket),
            Settled::Freed => self.bell.notify_waiters(),
            _ => {}
        }
        self.tell(Some(ticket.generation()), || EventKind::Settled {
            outcome: Outcome::Ignored,
            slow: false,
        });
    }

    /// A permit was dropped without a verdict.
    #[cold]
    pub(crate) fn abandoned(&self, ticket: Ticket) {
        match self.cell.limits().abandoned() {
            Abandoned::Failure => self.take(ticket, Sample::FAILURE, None),
            Abandoned::FailureWhenMost => self.take(ticket, Sample::DROPPED, None),
            Abandoned::Neutral if ticket.is_counted() => {
                match self.cell.give_back(ticket) {
                    Settled::Late => return self.came_late(ticket),
                    Settled::Freed => self.bell.notify_waiters(),
                    _ => {}
                }
                self.tell(Some(ticket.generation()), || EventKind::Abandoned);
            }
            Abandoned::Neutral => {}
        }
    }

    fn came_late(&self, ticket: Ticket) {
        self.late.fetch_add(1, Relaxed);
        self.tell(Some(ticket.generation()), || EventKind::Late);
    }

    /// Asks for how long, outside of all locks, and opens, if that is still to be done.
    #[cold]
    pub(super) fn open(&self, opens: &Opens, retry_after: Option<Duration>) {
        let open_time: OpenTime = self.policy().open_time;
        let by_policy = open_time.duration(opens.openings, retry_after, self.chance.next());
        let duration = self.own.open_time.as_ref().and_then(|rule| {
            let opening = Opening {
                openings: opens.openings,
                cause: opens.cause,
                counts: opens.counts,
                retry_after,
                by_policy,
            };
            guard(|| rule(&opening))
        });
        let now = self.clock.now();
        let until = now.saturating_add(duration.unwrap_or(by_policy));
        let moved = self.cell.open(opens, now, until);
        self.moved(moved);
    }

    /// Tells everybody of a change of state.
    pub(crate) fn moved(&self, moved: Option<Move>) {
        let Some(moved) = moved else { return };
        self.bell.notify_waiters();
        if let Some(fleet) = self.fleet.get() {
            fleet.notify_one();
        }
        let Move {
            from,
            to,
            cause,
            generation,
        } = moved;
        let (name, key) = (&self.name, &self.key);
        if to == State::Open {
            tracing::warn!(%name, ?key, %from, %cause, generation, "the circuit breaker opened");
        } else {
            tracing::info!(%name, ?key, %from, %to, %cause, generation, "the circuit breaker changed its state");
        }
        self.tell(Some(generation), || EventKind::Moved { from, to, cause });
    }

    fn tell(&self, generation: Option<u64>, kind: impl FnOnce() -> EventKind) {
        self.observers.tell(|| Event {
            name: self.name.clone(),
            key: self.key.clone(),
            generation: generation.unwrap_or_else(|| self.cell.word().generation()),
            kind: kind(),
        });
    }

    pub(crate) fn policy(&self) -> Policy {
        let policy = self.policy.read();
        policy
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }
}

/// Runs the user's code; a panic in it is logged and is no answer.
fn guard<T>(code: impl FnOnce() -> T) -> Option<T> {
    // It is the user's, and what it leaves half-done is its own.
    let answer = catch_unwind(AssertUnwindSafe(code)).ok();
    if answer.is_none() {
        tracing::error!("a rule that was given to a circuit breaker panicked");
    }
    answer
}

impl Registered for Core {
    fn pattern(&self) -> &'static str {
        "circuit_breaker"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> &'static str {
        self.cell.word().state().as_str()
    }

    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let counts = self.cell.counts(self.now());
        let rejects = matches!(
            self.cell.word().state(),
            State::Open | State::ForcedOpen | State::Isolated
        );
        each("buttress_circuit_breaker_open", u64::from(rejects));
        each("buttress_circuit_breaker_window_calls", counts.calls);
        each("buttress_circuit_breaker_window_failed", counts.failed);
        each("buttress_circuit_breaker_window_slow", counts.slow);
        each(
            "buttress_circuit_breaker_window_abandoned",
            counts.abandoned,
        );
        each(
            "buttress_circuit_breaker_openings",
            self.cell.openings().into(),
        );
        each(
            "buttress_circuit_breaker_late_results",
            self.late.load(Relaxed),
        );
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.name)
            .field("key", &self.key)
            .field("state", &self.cell.word().state())
            .finish_non_exhaustive()
    }
}
