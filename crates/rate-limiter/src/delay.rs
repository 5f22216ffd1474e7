//! Progressive delay: whoever fails waits, twice as long each time.

use std::{
    borrow::Borrow, borrow::Cow, fmt, hash::Hash, hash::RandomState, marker::PhantomData,
    sync::Arc, time::Duration,
};

use buttress_core::{Clock, Rejection, RejectionKind};

use crate::{
    PolicyError,
    keyed::table::{Hashing, State, Table},
    machine::{Penalty, PenaltyRule},
};

/// Login throttling: each failure of a key doubles its wait, a success clears it.
///
/// An attempt counts as failed from its beginning until [`succeeded`](Self::succeeded) is told: so a
/// thousand guesses that are made at once are a thousand failures, of which all but the first few are
/// refused before the password is looked at. Bounded, as [`KeyedRateLimiter`](crate::KeyedRateLimiter)
/// is. Cheap to clone; clones share what is known.
///
/// | what | default | range |
/// | --- | --- | --- |
/// | failures that cost nothing | 3 | 0 to 1,000,000 |
/// | first wait | 1 s | 1 ms to a day |
/// | longest wait | 15 min | first wait to 30 days |
/// | forgotten, after the end of the wait | 1 h | 0 to 30 days |
/// | keys | 1,000,000 | 1 to 100,000,000 |
///
/// ```
/// use std::time::Duration;
/// use buttress_core::Clock;
/// use buttress_rate_limiter::ProgressiveDelay;
///
/// let (clock, hand) = Clock::manual();
/// let logins = ProgressiveDelay::<String>::builder("logins").free(1).clock(clock).build()?;
/// assert!(logins.attempt("eve").is_ok() && logins.attempt("eve").is_ok()); // one is free, one waits
/// let refused = logins.attempt("eve").unwrap_err();
/// assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));
/// hand.advance(Duration::from_secs(1));
/// assert!(logins.attempt("eve").is_ok());
/// logins.succeeded("eve"); // the password was right
/// assert_eq!(logins.failures("eve"), 0);
/// # Ok::<(), buttress_rate_limiter::PolicyError>(())
/// ```
pub struct ProgressiveDelay<K> {
    inside: Arc<Inside<K>>,
}

struct Inside<K> {
    table: Table<K, Penalty>,
    rule: PenaltyRule,
    clock: Clock,
    name: Cow<'static, str>,
}

impl State for Penalty {
    type Rules = PenaltyRule;

    fn fresh(_: &PenaltyRule) -> Self {
        Self::default()
    }

    fn left(&mut self, rule: &PenaltyRule, now: u64) -> u64 {
        rule.left(*self, now)
    }
}

impl<K: Hash + Eq> ProgressiveDelay<K> {
    /// The defaults.
    ///
    /// # Errors
    ///
    /// None: the defaults can work.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Result<Self, PolicyError> {
        Self::builder(name).build()
    }

    /// Chooses the numbers.
    pub fn builder(name: impl Into<Cow<'static, str>>) -> ProgressiveDelayBuilder<K> {
        ProgressiveDelayBuilder {
            name: name.into(),
            free: 3,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(900),
            memory: Duration::from_secs(3600),
            keys: 1_000_000,
            clock: Clock::default(),
            key: PhantomData,
        }
    }

    /// Begins an attempt, which has failed until it is told otherwise.
    ///
    /// # Errors
    ///
    /// [`Rejection`], while the key has to wait: nothing is counted then.
    pub fn attempt<Q>(&self, key: &Q) -> Result<(), Rejection>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let clock = || {
            let now = self.now();
            (now, now)
        };
        let visit = self.inside.table.visit(key, clock, |rule, state, at| {
            *state = rule.attempt(*state, at.0)?;
            Ok::<(), u64>(())
        });
        visit.result.map_err(|wait| {
            Rejection::new(RejectionKind::RateLimited, self.inside.name.clone())
                .with_retry_after(Duration::from_nanos(wait))
        })
    }

    /// The attempt succeeded: the key's failures are forgotten.
    pub fn succeeded<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inside.table.remove(key);
    }

    /// How many failures of the key are remembered.
    #[must_use]
    pub fn failures<Q>(&self, key: &Q) -> u32
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let table = &self.inside.table;
        table.peek(
            key,
            || self.now(),
            |rule, state, now| rule.remembered(*state, now),
        )
    }

    /// How long the key has to wait now.
    #[must_use]
    pub fn wait<Q>(&self, key: &Q) -> Duration
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let table = &self.inside.table;
        Duration::from_nanos(table.peek(key, || self.now(), |_, state, now| state.wait(now)))
    }

    /// The wait after so many failures.
    #[must_use]
    pub fn delay_after(&self, failures: u32) -> Duration {
        Duration::from_nanos(self.inside.rule.delay(failures))
    }

    /// How many keys are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inside.table.len()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn now(&self) -> u64 {
        self.inside.clock.now().as_nanos()
    }
}

impl<K> Clone for ProgressiveDelay<K> {
    fn clone(&self) -> Self {
        Self {
            inside: Arc::clone(&self.inside),
        }
    }
}

impl<K> fmt::Debug for ProgressiveDelay<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressiveDelay")
            .field("name", &self.inside.name)
            .field("rule", &self.inside.rule)
            .finish_non_exhaustive()
    }
}

/// Makes a [`ProgressiveDelay`]. The fields, their defaults and their ranges are in its table.
#[derive(Clone, Debug)]
#[must_use]
pub struct ProgressiveDelayBuilder<K> {
    name: Cow<'static, str>,
    free: u32,
    first: Duration,
    longest: Duration,
    memory: Duration,
    keys: usize,
    clock: Clock,
    key: PhantomData<fn(K)>,
}

impl<K: Hash + Eq> ProgressiveDelayBuilder<K> {
    /// How many failures cost nothing.
    pub const fn free(mut self, failures: u32) -> Self {
        self.free = failures;
        self
    }

    /// The wait after the first failure that costs something; doubled by each further one.
    pub const fn first(mut self, wait: Duration) -> Self {
        self.first = wait;
        self
    }

    /// The longest wait.
    pub const fn longest(mut self, wait: Duration) -> Self {
        self.longest = wait;
        self
    }

    /// How long after the end of its wait a key's failures are forgotten.
    pub const fn forget_after(mut self, memory: Duration) -> Self {
        self.memory = memory;
        self
    }

    /// How many keys it may hold.
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self
    }

    /// The clock that it is told the time by.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The throttle.
    ///
    /// # Errors
    ///
    /// What cannot work: the field, and its range.
    pub fn build(self) -> Result<ProgressiveDelay<K>, PolicyError> {
        const DAY: Duration = Duration::from_secs(86_400);
        const MONTH: Duration = Duration::from_secs(30 * 86_400);
        if self.free > 1_000_000 {
            return Err(PolicyError::new("free", "0 to 1000000"));
        }
        if !(Duration::from_millis(1)..=DAY).contains(&self.first) {
            return Err(PolicyError::new("first", "1 ms to a day"));
        }
        if !(self.first..=MONTH).contains(&self.longest) {
            return Err(PolicyError::new("longest", "the first wait to 30 days"));
        }
        if self.memory > MONTH {
            return Err(PolicyError::new("forget_after", "0 to 30 days"));
        }
        if !(1..=100_000_000).contains(&self.keys) {
            return Err(PolicyError::new("max_keys", "1 to 100000000"));
        }
        let nanos = |it: Duration| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX);
        let rule = PenaltyRule {
            free: self.free,
            first: nanos(self.first),
            longest: nanos(self.longest),
            memory: nanos(self.memory),
        };
        let table = Table::new(&rule, self.keys, Hashing::Hostile(RandomState::new()));
        Ok(ProgressiveDelay {
            inside: Arc::new(Inside {
                table,
                rule,
                clock: self.clock,
                name: self.name,
            }),
        })
    }
}
