//! One topic on one relay, from its first claim until its lanes are handed back.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use buttress_core::{Clock, Moment, Observers};
use buttress_retry_backoff::{Backoff, Dice};
use buttress_store::StoreError;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    Pass, Served, bound::Bound, chores::Chores, keeper::Keeper, lanes::Lanes, line::Stall,
    worker::After,
};
use crate::{
    Event, EventKind, OutboxStore, RelayPolicy, Topic, TopicPolicy,
    machine::{Outage, wait},
};

/// How many messages a publisher is given at first; more or fewer when it turns out how fast it is.
const FIRST_CALL: u32 = 64;

/// A read that takes longer is divided: well within a store's deadline.
const LONG_READ: Duration = Duration::from_millis(800);

/// More lanes than a relay can hold.
const MOST_LANES: u32 = 1024;

/// A pass ends after so many turns that only set keys aside: without a wait between attempts they
/// would come again for ever.
const FRUITLESS: u32 = 16;

/// A backoff grows no more after so many steps.
const STEPS: u32 = 64;

pub(super) struct TopicRun {
    pub(super) store: OutboxStore,
    pub(super) relay: RelayPolicy,
    pub(super) served: Served,
    pub(super) clock: Clock,
    observers: Observers<Event>,
    dice: Dice,
    /// This relay, among those that are alive.
    pub(super) id: [u8; 16],
    lanes: Mutex<Lanes>,
    /// Lanes have come: idle workers look at once.
    pub(super) claimed: Notify,
    /// One message is tried alone at a time, so that a crash can be told whose it was.
    pub(super) lone: Semaphore,
    outage: Mutex<(Outage, Moment)>,
    /// One worker asks whether the destination is back.
    pub(super) probe: Semaphore,
    call: AtomicU32,
    /// How many lanes are read at once.
    stretch: AtomicU32,
    bound: Mutex<(Bound, Moment)>,
    stall: Mutex<Option<Stall>>,
    /// One at a time looks who writes: of two looks the later must be told last.
    pub(super) seeing: Semaphore,
    /// It holds or held a lane of the ring.
    pub(super) has_ring: AtomicBool,
    /// All lanes are lanes of the ring.
    pub(super) opened: AtomicBool,
    /// Messages that were moved out of the stream.
    pub(super) moved: AtomicU64,
}

impl TopicRun {
    pub(super) fn new(
        store: OutboxStore,
        relay: RelayPolicy,
        served: Served,
        observers: Observers<Event>,
        clock: Clock,
        dice: Dice,
    ) -> Self {
        Self {
            outage: Mutex::new((Outage::default(), clock.now())),
            bound: Mutex::new((Bound::default(), clock.now())),
            stall: Mutex::default(),
            seeing: Semaphore::new(1),
            has_ring: AtomicBool::new(false),
            opened: AtomicBool::new(false),
            moved: AtomicU64::new(0),
            stretch: AtomicU32::new(MOST_LANES),
            call: AtomicU32::new(FIRST_CALL.min(relay.batch)),
            store,
            relay,
            served,
            clock,
            observers,
            dice,
            id: rand::random(),
            lanes: Mutex::default(),
            claimed: Notify::new(),
            lone: Semaphore::new(1),
            probe: Semaphore::new(1),
        }
    }

    pub(super) const fn topic(&self) -> &Topic {
        &self.served.topic
    }

    pub(super) const fn policy(&self) -> &TopicPolicy {
        &self.served.policy
    }

    /// In one line there is one place to work at.
    pub(super) fn workers(&self) -> u32 {
        if self.policy().is_one_line() {
            1
        } else {
            self.relay.workers
        }
    }

    pub(super) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, kind: impl FnOnce() -> EventKind) {
        self.observers.tell(|| Event {
            topic: self.topic().clone(),
            kind: kind(),
        });
    }

    pub(super) fn failed(&self, operation: &'static str, error: &StoreError) {
        self.tell(|| EventKind::StoreFailed {
            operation,
            class: error.class(),
        });
    }

    /// The wait before a retry: the backoff's, or what was asked for if that is longer.
    pub(super) fn delay(&self, backoff: &Backoff, nth: u32, told: Option<Duration>) -> Duration {
        let nth = usize::try_from(nth.min(STEPS)).unwrap_or_default();
        let mut delays = backoff.delays_with(self.dice.clone());
        let delay = delays.nth(nth).unwrap_or_default();
        wait(delay, told, self.policy().longest_wait)
    }

    /// The destination is down.
    pub(super) fn down(&self, told: Option<Duration>) {
        let nth = self.outage().0.struck();
        let wait = self.delay(&self.policy().outage, nth, told);
        let until = self.clock.now().saturating_add(wait);
        {
            let mut outage = self.outage();
            outage.1 = outage.1.max(until);
        }
        self.tell(|| EventKind::Down { wait });
    }

    /// The destination answered.
    pub(super) fn answered(&self) {
        if self.outage().0.answered() {
            self.tell(|| EventKind::Back);
        }
    }

    /// Whether it is down, and how long it is still to be left alone.
    pub(super) fn outage_left(&self) -> (bool, Duration) {
        let outage = self.outage();
        let left = outage.1.saturating_since(self.clock.now());
        (outage.0.is_down(), left)
    }

    fn outage(&self) -> MutexGuard<'_, (Outage, Moment)> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages a publisher is given at once: so many that it is done well within its
    /// deadline.
    pub(super) fn call_size(&self) -> usize {
        usize::try_from(self.call.load(Ordering::Relaxed)).unwrap_or(1)
    }

    pub(super) fn call_took(&self, time: Duration, messages: usize) {
        let size = self.call.load(Ordering::Relaxed);
        let full = messages >= usize::try_from(size).unwrap_or(usize::MAX);
        let next = if time > self.relay.publish / 4 {
            (size / 2).max(1)
        } else if full && time < self.relay.publish / 16 {
            size.saturating_mul(2).min(self.relay.batch)
        } else {
            return;
        };
        self.call.store(next, Ordering::Relaxed);
    }

    pub(super) fn call_hung(&self) {
        self.call.store(1, Ordering::Relaxed);
    }

    pub(super) fn bound(&self) -> MutexGuard<'_, (Bound, Moment)> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stall(&self) -> MutexGuard<'_, Option<Stall>> {
        self.stall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lanes are read by one statement: all, unless they have many rows that are deleted
    /// and cannot be cleared away, so that one read of all would not be done by its deadline.
    pub(super) fn stretch(&self) -> usize {
        usize::try_from(self.stretch.load(Ordering::Relaxed)).unwrap_or(1)
    }

    /// A read took so long; `None`: it failed.
    pub(super) fn read_took(&self, time: Option<Duration>, lanes: usize) {
        let lanes = u32::try_from(lanes).unwrap_or(u32::MAX);
        let size = self.stretch.load(Ordering::Relaxed);
        let next = match time {
            Some(time) if time < LONG_READ / 8 => size.saturating_mul(2).min(MOST_LANES),
            Some(time) if time < LONG_READ => return,
            _ => (size.min(lanes) / 2).max(1),
        };
        self.stretch.store(next, Ordering::Relaxed);
    }

    /// Until it is told to stop.
    pub(super) async fn deliver(self: Arc<Self>, stop: watch::Receiver<bool>) {
        if !self.prepared(stop.clone()).await {
            return;
        }
        let mut workers = JoinSet::new();
        for _ in 0..self.workers() {
            workers.spawn(Arc::clone(&self).work(stop.clone()));
        }
        let done = watch::Sender::new(false);
        let chores = Chores::new(&self).until(stop.clone());
        let keeping = Keeper::new(&self).keep(stop, done.subscribe());
        let working = async {
            while workers.join_next().await.is_some() {}
            done.send_replace(true);
        };
        tokio::join!(keeping, working, chores);
        self.hand_all_back().await;
    }

    /// Makes the topic's lanes, however often it takes. False: it was told to stop.
    async fn prepared(&self, mut stop: watch::Receiver<bool>) -> bool {
        let mut pause = Duration::from_millis(50);
        loop {
            let prepared = async {
                self.store.store.prepare(self.topic()).await?;
                self.open_ring().await
            };
            let Err(error) = prepared.await else {
                return true;
            };
            self.failed("prepare", &error);
            pause = (pause * 2).min(Duration::from_secs(5));
            let pause = error.retry_after().unwrap_or_default().max(pause);
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return false,
                () = sleep(pause) => {}
            }
        }
    }

    /// One pass over all that is due.
    pub(super) async fn pass(&self) -> Result<Pass, StoreError> {
        self.store.store.prepare(self.topic()).await?;
        self.open_ring().await?;
        let mut keeper = Keeper::new(self);
        keeper.once().await?;
        let mut pass = Pass::default();
        let result = tokio::select! {
            result = self.turns(&mut pass) => result,
            () = keeper.extend() => Ok(()),
        };
        self.hand_all_back().await;
        result.map(|()| pass)
    }

    /// Turns until a read of all lanes from their start finds nothing that is due.
    async fn turns(&self, pass: &mut Pass) -> Result<(), StoreError> {
        let mut all = true;
        let mut idle = 0;
        while idle < FRUITLESS {
            let before = self.done_by(pass);
            let most = self.lanes().count();
            match self.turn(most, !all, pass).await {
                After::Failed(error) => return Err(error),
                After::HeldUp(_) => {
                    pass.held_up += 1;
                    return Ok(());
                }
                After::Rows(_) | After::Fruitless => {
                    all = false;
                    let fruitless = self.done_by(pass) == before;
                    idle = if fruitless { idle + 1 } else { 0 };
                }
                After::Nothing if all => return Ok(()),
                After::Nothing => {
                    self.lanes().look_again(self.clock.now());
                    all = true;
                }
            }
        }
        Ok(())
    }

    /// Grows with all that cannot come again in the same way.
    fn done_by(&self, pass: &Pass) -> u64 {
        let done = u64::try_from(pass.delivered + pass.died).unwrap_or(u64::MAX);
        done.saturating_add(self.moved.load(Ordering::Relaxed))
    }

    async fn hand_all_back(&self) {
        let held = self.lanes().hand_back(usize::MAX);
        if !held.is_empty() {
            match self.store.store.release(self.topic(), &held).await {
                Ok(()) => self.tell(|| EventKind::HandedBack { lanes: held.len() }),
                // They lapse.
                Err(error) => self.failed("release", &error),
            }
        }
        if let Err(error) = self.store.store.leave(self.topic(), &self.id).await {
            self.failed("leave", &error);
        }
    }
}
