//! The handle that delivers: it claims lanes, publishes what is in them, and settles.

mod bound;
mod builder;
mod chores;
#[cfg(all(test, feature = "sqlite"))]
mod faults;
mod hints;
mod keeper;
mod lanes;
mod ledger;
mod line;
mod publish;
mod read;
mod ring;
mod round;
mod run;
mod send;
mod worker;

use std::{fmt, sync::Arc};

use buttress_core::{Clock, Observers};
use buttress_retry_backoff::Dice;
use tokio::task::JoinSet;

pub use self::builder::RelayBuilder;
use self::run::TopicRun;
use crate::{Event, Outbox, OutboxError, OutboxStore, Publisher, RelayPolicy, Topic, TopicPolicy};

/// Delivers what was appended: it claims lanes of its topics, reads them in order, publishes
/// outside of any transaction, and settles under the lanes' fences.
///
/// Run as many as you like, in as many processes: they share the lanes among them. Of one key
/// nothing overtakes, whoever delivers it.
#[derive(Clone)]
pub struct Relay {
    inner: Arc<Inner>,
}

struct Inner {
    store: OutboxStore,
    policy: RelayPolicy,
    topics: Vec<Served>,
    observers: Observers<Event>,
    clock: Clock,
    dice: Dice,
}

/// A topic, and where its messages go.
#[derive(Clone)]
struct Served {
    topic: Topic,
    policy: TopicPolicy,
    publisher: Arc<dyn Publisher>,
}

/// What one pass of a relay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pass {
    /// Messages that were delivered, and settled.
    pub delivered: usize,
    /// Keys that were set aside.
    pub set_aside: usize,
    /// Messages that were given up.
    pub died: usize,
    /// Messages whose settlement was refused: another relay had taken over.
    pub stale: usize,
    /// Topics whose destination is down, gone or paused, or whose next message is
    /// [held back](crate::EventKind::HeldBack).
    pub held_up: usize,
}

impl Pass {
    fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.set_aside += other.set_aside;
        self.died += other.died;
        self.stale += other.stale;
        self.held_up += other.held_up;
    }
}

impl Relay {
    /// A relay in the making, for the tables of this outbox.
    pub fn builder(outbox: &Outbox) -> RelayBuilder {
        RelayBuilder::new(outbox.store.clone())
    }

    /// Delivers until `shutdown` is ready; then what is being published is finished and settled,
    /// and all lanes are handed back, so that others take over at once. That takes at most the
    /// publish deadline and a store's deadline.
    ///
    /// While the store is away it waits and tries again; observers hear of it.
    ///
    /// Dropping the future stops it on the spot: what was being published comes again, and its
    /// lanes wait for their lease to lapse.
    pub async fn run_until(&self, shutdown: impl Future<Output = ()> + Send) {
        let _listening = hints::listening(&self.inner);
        let stop = tokio::sync::watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for run in self.runs() {
            tasks.spawn(run.deliver(stop.subscribe()));
        }
        shutdown.await;
        stop.send_replace(true);
        while tasks.join_next().await.is_some() {}
    }

    /// One pass: claims its share of lanes, delivers all that is due in them now, and hands them
    /// back. For a scheduler's job, a test, a demo.
    ///
    /// Dropping the future stops it on the spot: what was being published comes again, and its
    /// lanes wait for their lease to lapse.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`]: what was delivered is settled or comes again.
    pub async fn run_once(&self) -> Result<Pass, OutboxError> {
        let mut pass = Pass::default();
        for run in self.runs() {
            pass.add(run.pass().await?);
        }
        Ok(pass)
    }

    fn runs(&self) -> impl Iterator<Item = Arc<TopicRun>> {
        let inner = &self.inner;
        inner.topics.iter().map(|served| {
            Arc::new(TopicRun::new(
                inner.store.clone(),
                inner.policy.clone(),
                served.clone(),
                inner.observers.clone(),
                inner.clock.clone(),
                inner.dice.clone(),
            ))
        })
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics: Vec<&Topic> = self.inner.topics.iter().map(|it| &it.topic).collect();
        f.debug_struct("Relay")
            .field("store", &self.inner.store)
            .field("topics", &topics)
            .finish_non_exhaustive()
    }
}
