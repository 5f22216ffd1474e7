//! A runner: claims sagas that are due, drives them, and hands them back when it stops.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use buttress_core::{Clock, Moment, Observer, Observers};
use buttress_store::{Claim, StoreError, Token};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
};

use crate::{
    Event, EventKind, Saga,
    definition::Definition,
    drive::{Drive, Engine, Gather, Stop},
    policy::{PolicyError, RunnerPolicy},
    store::{Alone, Ask, Claimed, Store},
};

/// Claims sagas that are due and drives them. Any number of runners, in any number of processes,
/// share the work; each saga is driven by one at a time.
///
/// It claims only sagas of the definitions it was given, of exactly that version and shape.
#[must_use = "run it"]
pub struct Runner {
    engine: Engine,
    stop: watch::Sender<Stop>,
    definitions: Vec<Arc<Definition>>,
}

/// A runner in the making.
#[must_use = "build it"]
pub struct RunnerBuilder {
    store: Arc<dyn Store>,
    wake: Arc<watch::Sender<()>>,
    longest_input: usize,
    policy: RunnerPolicy,
    clock: Clock,
    observers: Observers<Event>,
    definitions: Vec<Arc<Definition>>,
}

impl RunnerBuilder {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        wake: Arc<watch::Sender<()>>,
        longest_input: usize,
    ) -> Self {
        Self {
            store,
            wake,
            longest_input,
            policy: RunnerPolicy::default(),
            clock: Clock::tokio(),
            observers: Observers::none(),
            definitions: Vec::new(),
        }
    }

    /// It drives sagas of this definition. Give it the older versions too, while some of them run,
    /// and the definitions of [children](crate::SagaBuilder::child), unless others drive them.
    pub fn saga<I, O>(mut self, saga: &Saga<I, O>) -> Self {
        self.definitions.push(Arc::clone(&saga.definition));
        self
    }

    /// And of all children of those that it has.
    #[cfg(feature = "testing")]
    pub(crate) fn with_children(mut self) -> Self {
        let mut place = 0;
        while let Some(definition) = self.definitions.get(place).cloned() {
            for child in definition.steps.iter().filter_map(|it| it.child()) {
                if self
                    .definitions
                    .iter()
                    .all(|it| it.key != child.definition.key)
                {
                    self.definitions.push(Arc::clone(&child.definition));
                }
            }
            place += 1;
        }
        self
    }

    /// It works like this.
    pub fn policy(mut self, policy: RunnerPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// It tells its leases' time by this clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// This hears what happens.
    pub fn observer(mut self, observer: impl Observer<Event> + 'static) -> Self {
        self.observers = self.observers.with(observer);
        self
    }

    /// Checks the policy.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], which names the field and its range.
    pub fn build(self) -> Result<Runner, PolicyError> {
        self.policy.check()?;
        if self.definitions.is_empty() {
            return Err(PolicyError::new("saga", "given at least once"));
        }
        let (stop, receiver) = watch::channel(Stop::No);
        Ok(Runner {
            engine: Engine {
                gather: Gather::new(Arc::clone(&self.store)),
                store: self.store,
                policy: self.policy,
                clock: self.clock,
                observers: self.observers,
                stop: receiver,
                wake: self.wake,
                longest_input: self.longest_input,
            },
            stop,
            definitions: self.definitions,
        })
    }
}

/// How long those that end are waited for, while most places of a runner are taken.
const TOGETHER: Duration = Duration::from_millis(5);

/// Which questions are worth asking.
#[derive(Clone, Copy)]
struct Look {
    /// For those left behind by the dead, when nothing runs here.
    alone: bool,
    /// The same beside others.
    company: bool,
    /// For those that are due.
    due: bool,
}

impl Look {
    const ALL: Self = Self {
        alone: true,
        company: true,
        due: true,
    };
}

/// Whether there may be more to claim.
enum Filled {
    /// Perhaps, and there is room for it.
    Room,
    /// Perhaps, once one of those that run has ended, or has shown that it does no harm.
    Full,
    /// No: all that was due is here.
    Dry,
}

/// The sagas that a runner drives at this moment.
#[derive(Default)]
struct Under {
    tasks: JoinSet<()>,
    /// Which definition each is of, by its place.
    of: HashMap<Id, usize>,
    /// Somebody died on the one that runs, and it has shown no progress yet.
    suspect: Option<Arc<AtomicBool>>,
}

impl Under {
    fn is_exclusive(&self) -> bool {
        self.suspect
            .as_ref()
            .is_some_and(|cleared| !cleared.load(Ordering::Relaxed))
            && !self.tasks.is_empty()
    }

    fn of(&self, place: usize) -> usize {
        self.of.values().filter(|it| **it == place).count()
    }

    /// Forgets those that have ended.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended);
        }
    }

    fn forget(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        self.of.remove(&id);
    }
}

impl Runner {
    /// Drives sagas until `shutdown` is ready. Then nothing new begins, what is under way may end
    /// within the grace of the policy, what has not ended is dropped and counted as interrupted,
    /// and all claims are given back.
    ///
    /// While the store does not answer it waits and asks again.
    ///
    /// Dropping the future stops all at once; the claims run out.
    pub async fn run_until(self, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        let mut under = Under::default();
        let mut turn = 0;
        let (length, poll) = (self.engine.policy.lease.length(), self.engine.policy.poll);
        let (mut company, mut alone) = (self.engine.clock.now(), self.engine.clock.now());
        let mut polled = self.engine.clock.now();
        let mut due = true;
        let mut claimed = None;
        // Each runner of the handle hears of everything, for another may not have the definition.
        let mut woken = self.engine.wake.subscribe();
        loop {
            under.reap();
            let now = self.engine.clock.now();
            if let Some(wait) = self.gathers_room(&under, now, claimed) {
                tokio::select! {
                    () = &mut shutdown => break,
                    () = tokio::time::sleep(wait) => claimed = None,
                    Some(ended) = under.tasks.join_next_with_id() => under.forget(ended),
                }
                continue;
            }
            claimed = Some(now);
            let look = Look {
                // What was left behind by the dead comes first, but between two sagas of a long
                // row it is not asked for each time.
                alone: now >= alone,
                // While others are at work here, it can wait a lease.
                company: now >= company,
                // Once nothing more was due, it is asked again at the next poll, or when woken,
                // and not whenever a saga ends.
                due: due || now >= polled,
            };
            if look.company {
                company = now.saturating_add(length);
            }
            if look.due {
                polled = now.saturating_add(poll);
            }
            let idle = under.tasks.is_empty();
            // A store that fails is asked again at the next poll.
            let filled = self.fill(&mut under, &mut turn, look).await;
            if look.alone && idle && under.suspect.is_none() && filled.is_ok() {
                alone = now.saturating_add(poll);
            }
            match filled {
                Ok(Filled::Room) => continue,
                Ok(Filled::Full) => due = true,
                Ok(Filled::Dry) | Err(_) => due = false,
            }
            let rest = polled.saturating_since(self.engine.clock.now());
            tokio::select! {
                () = &mut shutdown => break,
                _ = woken.changed() => due = true,
                () = tokio::time::sleep(rest) => (due, alone) = (true, now),
                Some(ended) = under.tasks.join_next_with_id() => under.forget(ended),
            }
        }
        self.finish(under).await;
    }

    /// Drives what is due now until it rests, and says how many sagas that were. What waits for
    /// another attempt is left for later.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when sagas could not be claimed. Those that were are driven first.
    pub async fn run_once(&self) -> Result<usize, StoreError> {
        let mut under = Under::default();
        let (mut turn, mut count) = (0, 0);
        loop {
            let before = under.of.len();
            let filled = self.fill(&mut under, &mut turn, Look::ALL).await;
            count += under.of.len() - before;
            match (filled, under.tasks.join_next_with_id().await) {
                (Err(error), None) => return Err(error),
                (_, None) => return Ok(count),
                (_, Some(ended)) => under.forget(ended),
            }
        }
    }

    /// Claims as much as may run beside what does.
    async fn fill(
        &self,
        under: &mut Under,
        turn: &mut usize,
        look: Look,
    ) -> Result<Filled, StoreError> {
        if under.is_exclusive() {
            return Ok(Filled::Full);
        }
        under.suspect = None;
        let count = self.definitions.len();
        // Whom a dead worker left behind comes first, and alone: the next death is its own doing.
        if look.alone && under.tasks.is_empty() {
            for place in 0..count {
                if self.claim(under, place, 1, Some(Alone::Yes)).await? > 0 {
                    return Ok(Filled::Full);
                }
            }
        }
        let (mut full, mut more) = (false, false);
        for offset in 0..count {
            let place = (*turn + offset) % count;
            let room = self.room(under, place);
            if room == 0 {
                more = true;
                continue;
            }
            let mut claimed = 0;
            if look.company && !under.tasks.is_empty() {
                claimed = self.claim(under, place, room, Some(Alone::No)).await?;
            }
            if look.due && room > claimed {
                claimed += self.claim(under, place, room - claimed, None).await?;
            }
            full |= claimed >= room;
        }
        *turn = turn.wrapping_add(1);
        if full && under.tasks.len() < self.engine.policy.concurrency {
            return Ok(Filled::Room);
        }
        Ok(if full || more {
            Filled::Full
        } else {
            Filled::Dry
        })
    }

    /// Sagas that end one shortly after the other make room together: one question for all of it.
    /// For how long it is worth waiting, while most places are taken.
    fn gathers_room(
        &self,
        under: &Under,
        now: Moment,
        claimed: Option<Moment>,
    ) -> Option<Duration> {
        let places = self.engine.policy.concurrency;
        if places - under.tasks.len().min(places) >= places.div_ceil(4) {
            return None;
        }
        let wait = TOGETHER.saturating_sub(now.saturating_since(claimed?));
        (!wait.is_zero()).then_some(wait)
    }

    fn room(&self, under: &Under, place: usize) -> usize {
        let limit = self.definitions[place].limit.unwrap_or(usize::MAX);
        let own = limit.saturating_sub(under.of(place));
        let all = self
            .engine
            .policy
            .concurrency
            .saturating_sub(under.tasks.len());
        own.min(all)
    }

    async fn claim(
        &self,
        under: &mut Under,
        place: usize,
        limit: usize,
        lapsed: Option<Alone>,
    ) -> Result<usize, StoreError> {
        let definition = &self.definitions[place];
        let ask = Ask {
            definition: definition.key.clone(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            length: self.engine.policy.lease.length(),
            token: Token::random(),
            lapsed,
        };
        // Leases count from before the claims are sent. Should this future be dropped in between,
        // they run out, and nobody has begun anything.
        let terms = self.engine.policy.lease;
        let sent: Vec<_> = (0..limit)
            .map(|_| Claim::new(terms, self.engine.clock.clone()))
            .collect();
        let claimed = self.engine.store.claim(&ask).await?;
        let count = claimed.len();
        for (claim, claimed) in sent.into_iter().zip(claimed) {
            self.spawn(under, place, claim, claimed, lapsed);
        }
        Ok(count)
    }

    fn spawn(
        &self,
        under: &mut Under,
        place: usize,
        claim: Claim,
        claimed: Claimed,
        lapsed: Option<Alone>,
    ) {
        let definition = Arc::clone(&self.definitions[place]);
        let Claimed { fence, record } = claimed;
        self.engine.observers.tell(|| Event {
            id: record.id,
            name: definition.key.name.clone(),
            epoch: fence.epoch(),
            kind: EventKind::Claimed {
                lapsed: lapsed.is_some(),
            },
        });
        let on_progress: Box<dyn Fn() + Send + Sync> = if lapsed == Some(Alone::Yes) {
            let cleared = Arc::new(AtomicBool::new(false));
            under.suspect = Some(Arc::clone(&cleared));
            let wake = Arc::clone(&self.engine.wake);
            Box::new(move || {
                if !cleared.swap(true, Ordering::Relaxed) {
                    wake.send_replace(());
                }
            })
        } else {
            Box::new(|| {})
        };
        let engine = self.engine.clone();
        let drive = Drive::new(
            engine,
            definition,
            claim.granted(fence),
            record,
            on_progress,
        );
        let task = under.tasks.spawn(drive.drive());
        under.of.insert(task.id(), place);
    }

    /// Lets what is under way end, and drops what does not.
    async fn finish(&self, mut under: Under) {
        // Nobody listens any more when nothing runs.
        let _ = self.stop.send(Stop::Soon);
        let grace = self.engine.policy.grace;
        let ended = async { while under.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ended).await.is_ok() {
            return;
        }
        let _ = self.stop.send(Stop::Now);
        while under.tasks.join_next().await.is_some() {}
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("policy", &self.engine.policy)
            .field("definitions", &self.definitions)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RunnerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerBuilder")
            .field("policy", &self.policy)
            .field("definitions", &self.definitions)
            .finish_non_exhaustive()
    }
}
