//! Each operation of the store fails once, in each way, in the middle of a whole story: appends,
//! one of them rolled back, a message that is refused, one that dies, one that panics its
//! publisher, an inbox behind it all, an operator who puts back what died.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "outside of a test function too: what cannot go on fails the test, which prints its figures"
)]

#[cfg(feature = "postgres")]
mod ring;
mod store;
mod sweep;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_retry_backoff::Backoff;
use buttress_store::{
    Deadline, Guarded, SqlDatabase, StoreError,
    sqlite::{Writer, options},
};
use buttress_testkit::{
    fault::{Fault, Injection, Plan},
    short_or_long,
};
use sqlx::{Pool, Sqlite, sqlite::SqlitePoolOptions};

use self::{
    store::{FaultStore, error},
    sweep::sweep,
};
use crate::{
    Delivery, Inbox, Message, Outbox, OutboxError, OutboxStore, PublishError, Relay, RelayPolicy,
    Taken, Topic, TopicPolicy, publisher::in_process, wake::Wake,
};

const KEYS: [&str; 4] = ["calm", "refused", "dies", "panics"];
const EACH: u32 = 2;
/// The shortest; what a fault leaves claimed lapses so soon.
const LEASE: Duration = Duration::from_millis(300);
/// So often is tried again what failed. A story without a fault needs less.
const PATIENCE: u32 = 12;

/// What the world outside of the store has seen.
#[derive(Default)]
struct Seen {
    committed: BTreeSet<String>,
    heard: Vec<String>,
    /// Which words were said already.
    said: BTreeSet<&'static str>,
}

/// A database for stories: each has topics of its own on it.
struct Stage<DB: SqlDatabase> {
    pool: Pool<DB>,
    store: OutboxStore,
    /// What hangs is ended then, as by a store's own deadline.
    deadline: Duration,
    /// Its topics are in a ring.
    ring: bool,
}

impl Stage<Sqlite> {
    async fn on(folder: &tempfile::TempDir) -> Self {
        buttress_testkit::tally::uses(buttress_testkit::tally::Store::Sqlite);
        let pool = SqlitePoolOptions::new().max_connections(3);
        let pool = pool.connect_lazy_with(options(folder.path().join("story.db")));
        let store = OutboxStore::sqlite(Writer::new(pool.clone())).unwrap();
        store.migrate().await.unwrap();
        // Later than a heartbeat is due.
        let deadline = Duration::from_millis(250);
        Self {
            pool,
            store,
            deadline,
            ring: false,
        }
    }
}

struct Story<DB: SqlDatabase> {
    topic: Topic,
    pool: Pool<DB>,
    outbox: Outbox,
    inbox: Inbox,
    /// Where the consumer's effects go: messages, for these can be written on every database.
    effects: Outbox,
    seen: Arc<Mutex<Seen>>,
}

/// What its messages make a consumer do.
const EFFECTS: &str = "effects";

impl<DB: SqlDatabase> Story<DB> {
    fn on(stage: &Stage<DB>, plan: Plan<StoreError>) -> Self {
        let (pool, inner) = (stage.pool.clone(), stage.store.clone());
        let effects = Outbox::new(inner.clone());
        let topic = Topic::new(format!("story-{}", uuid::Uuid::now_v7())).unwrap();
        let store = OutboxStore {
            store: Arc::new(FaultStore {
                inner: inner.store,
                plan,
                deadline: stage.deadline,
            }),
            wake: Wake::default(),
            announcer: None,
            rings: Arc::new(if stage.ring {
                BTreeSet::from([topic.as_str().to_owned()])
            } else {
                BTreeSet::new()
            }),
        };
        Self {
            pool,
            outbox: Outbox::new(store.clone()),
            inbox: Inbox::new(store, topic.as_str()).unwrap(),
            topic,
            effects,
            seen: Arc::default(),
        }
    }

    async fn begin(pool: &Pool<DB>) -> Result<Guarded<DB>, StoreError> {
        Guarded::begin(pool, Deadline::after(Deadline::SQL)).await
    }

    /// A transaction of business; whoever is told that it failed does it again.
    async fn append(&self, key: &str, subject: &str, commits: bool) {
        let message = Message::builder(self.topic.as_str(), "/story", "told").key(key);
        let message = message.subject(subject).build().unwrap();
        for _ in 0..PATIENCE {
            let mut transaction = Self::begin(&self.pool).await.unwrap();
            let appended = self.outbox.append_in(&mut *transaction, &message).await;
            if !commits || appended.is_err() {
                transaction.rollback().await.unwrap();
                if commits {
                    continue;
                }
                return;
            }
            transaction.commit().await.unwrap();
            appended.unwrap().fire();
            let mut seen = self.seen.lock().unwrap();
            seen.committed.insert(subject.to_owned());
            return;
        }
        panic!("{subject} cannot be appended");
    }

    fn relay(&self) -> Relay {
        let consumer = Arc::new(Consumer {
            pool: self.pool.clone(),
            inbox: self.inbox.clone(),
            effects: self.effects.clone(),
            topic: self.effects_of(),
            seen: Arc::clone(&self.seen),
        });
        let publisher = in_process(move |delivery| {
            let consumer = Arc::clone(&consumer);
            async move { consumer.hear(&delivery).await }
        });
        let policy = TopicPolicy::new()
            .with_backoff(Backoff::none())
            .with_outage_backoff(Backoff::none());
        Relay::builder(&self.outbox)
            .policy(RelayPolicy::new().with_lease(LEASE))
            .topic_with(self.topic.as_str(), policy, publisher)
            .build()
            .unwrap()
    }

    fn effects_of(&self) -> String {
        format!("{EFFECTS}-of-{}", self.topic.as_str())
    }

    /// The subjects of all effects, once.
    async fn effects(&self) -> Vec<String> {
        let effects = Arc::new(Mutex::new(Vec::new()));
        let had = Arc::clone(&effects);
        let publisher = in_process(move |delivery| {
            let subject = delivery.message().subject().unwrap_or_default().to_owned();
            had.lock().unwrap().push(subject);
            std::future::ready(Ok(()))
        });
        let relay = Relay::builder(&self.effects).topic(self.effects_of(), publisher);
        relay.build().unwrap().run_once().await.unwrap();
        std::mem::take(&mut *effects.lock().unwrap())
    }

    /// The operator, who repeats what he is told has failed.
    async fn again<T>(what: &str, mut act: impl AsyncFnMut() -> Result<T, OutboxError>) -> T {
        for _ in 0..PATIENCE {
            if let Ok(done) = act().await {
                return done;
            }
        }
        panic!("{what} fails for ever");
    }

    async fn tell(&self) {
        let topic = self.topic.clone();
        for number in 1..=EACH {
            for key in KEYS {
                self.append(key, &format!("{key} {number}"), true).await;
            }
            self.append("calm", "never", false).await;
        }
        let relay = self.relay();
        // A pass that fails is one that a scheduler makes again.
        let _ = relay.run_once().await;
        Self::again("pause", async || self.outbox.pause(&topic, "a look").await).await;
        let _ = relay.run_once().await;
        Self::again("resume", async || self.outbox.resume(&topic).await).await;
        let ring = !self.outbox.store.rings.is_empty();
        for _ in 0..if ring { 20 * PATIENCE } else { PATIENCE } {
            let _ = relay.run_once().await;
            if ring {
                // Transactions of other stories hold it back.
                tokio::time::sleep(LEASE / 20).await;
            }
            let count = async || self.outbox.counts(&topic).await;
            let counts = Self::again("counts", count).await;
            if counts.depth == 0 && counts.dead == 0 {
                break;
            }
            let list = async || self.outbox.dead_letters(&topic, 0, 10).await;
            let letters = Self::again("dead letters", list).await;
            for letter in letters {
                self.seen.lock().unwrap().said.insert("put back");
                let requeue = async || match self.outbox.requeue(&topic, letter.sequence).await {
                    // The first time it was done after all.
                    Err(OutboxError::NoSuchDeadLetter) => Ok(()),
                    done => done,
                };
                Self::again("requeue", requeue).await;
            }
            if counts.held_lanes > 0 {
                // A fault left them behind.
                tokio::time::sleep(LEASE).await;
            }
        }
        let prune = async || self.outbox.prune(&topic, Duration::from_secs(60), 10).await;
        Self::again("prune", prune).await;
    }

    /// What must be, whatever failed.
    fn check(&self, effects: &[String]) -> Result<(), String> {
        let seen = self.seen.lock().unwrap();
        let mut once: Vec<&String> = effects.iter().collect();
        once.sort();
        if !once.iter().copied().eq(&seen.committed) {
            let committed = &seen.committed;
            return Err(format!("of {committed:?} the effects were {once:?}"));
        }
        let mut last: BTreeMap<&str, u32> = BTreeMap::new();
        for subject in &seen.heard {
            let (key, number) = subject.split_once(' ').ok_or(subject.clone())?;
            let number: u32 = number.parse().map_err(|_| subject.clone())?;
            let last = last.entry(key).or_default();
            if number > *last + 1 {
                return Err(format!("{subject} overtook: {:?}", seen.heard));
            }
            *last = (*last).max(number);
        }
        if last.len() != KEYS.len() || last.values().any(|last| *last != EACH) {
            return Err(format!("what was committed was not heard: {last:?}"));
        }
        Ok(())
    }
}

/// The destination, and its consumer behind the inbox. What it says no to it has not heard.
struct Consumer<DB: SqlDatabase> {
    pool: Pool<DB>,
    inbox: Inbox,
    effects: Outbox,
    topic: String,
    seen: Arc<Mutex<Seen>>,
}

impl<DB: SqlDatabase> Consumer<DB> {
    async fn hear(&self, delivery: &Delivery) -> Result<(), PublishError> {
        let subject = delivery.message().subject().unwrap_or_default().to_owned();
        let first = |word| self.seen.lock().unwrap().said.insert(word);
        let said = |word| self.seen.lock().unwrap().said.contains(word);
        match subject.as_str() {
            // What is said beside a panic is not heard.
            "refused 1" if said("panic") && first("not yet") => {
                return Err(PublishError::refused("not yet"));
            }
            "dies 1" if !said("put back") => return Err(PublishError::refused_for_good("never")),
            // No hook writes a backtrace, which can take longer than the lease.
            "panics 1" if first("panic") => std::panic::resume_unwind(Box::new("planted")),
            _ => {}
        }
        self.seen.lock().unwrap().heard.push(subject.clone());
        let taken = self.take(delivery, &subject).await;
        taken.map_err(|_| PublishError::down("its database"))
    }

    async fn take(&self, delivery: &Delivery, subject: &str) -> Result<(), OutboxError> {
        let mut transaction = Story::begin(&self.pool).await?;
        let taken = self
            .inbox
            .take_in(&mut *transaction, delivery.message().id());
        if taken.await? == Taken::First {
            let effect = Message::builder(&self.topic, "/story", "had").subject(subject);
            let effect = effect.build()?;
            drop(self.effects.append_in(&mut *transaction, &effect).await?);
        }
        Ok(transaction.commit().await?)
    }
}

/// Which operation was struck, if any was, and all of them.
type Told = (Option<&'static str>, Vec<&'static str>);

/// The story with that fault.
async fn told<DB: SqlDatabase>(stage: &Stage<DB>, injection: Option<Injection>) -> Told {
    let plan = injection.map_or_else(Plan::none, |it| Plan::new([it], error));
    let story = Story::on(stage, plan.clone());
    if stage.ring {
        let store = &stage.store.store;
        store.prepare(&story.topic).await.unwrap();
        assert!(store.ring(&story.topic).await.unwrap());
    }
    story.tell().await;
    let names = plan.names();
    let effects = story.effects().await;
    if let Err(what) = story.check(&effects) {
        panic!("{injection:?}: {what}, of {names:?}");
    }
    let place = injection.filter(|_| plan.struck() == 1);
    let place = place.and_then(|it| usize::try_from(it.operation - 1).ok());
    (place.and_then(|place| names.get(place).copied()), names)
}

/// What every story does often. What it does once is not always struck where its place depends on
/// the time, as over a network.
const OFTEN: [&str; 5] = ["append", "claim", "settle", "take", "window"];

/// All that every story does.
const ALL: [&str; 16] = [
    "alone", "append", "asides", "beat", "claim", "counts", "dead", "leave", "pause", "prepare",
    "prune", "release", "requeue", "settle", "take", "window",
];

/// What was committed is delivered, what was not is not, of each key in order, and its effect is
/// had once: whichever operation fails, in whichever way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_operation_may_fail_in_every_way() {
    let few = &[Fault::Before, Fault::DoneThenError, Fault::DoneThenHang];
    let faults = short_or_long(&few[..], &Fault::ALL[..]);
    sweep("sqlite", faults, &ALL, async |injection| {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::<Sqlite>::on(&folder).await;
        let struck = told(&stage, injection).await;
        stage.pool.close().await;
        struck
    })
    .await;
}

/// The same over a network: what is done and not answered is what differs there.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_operation_may_fail_on_postgres() {
    let Some(database) = buttress_testkit::postgres::fresh_database().await else {
        return;
    };
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(32);
    let pool = pool.connect(database.url()).await.unwrap();
    let store = OutboxStore::postgres(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let deadline = Duration::from_secs(2);
    let stage = Stage {
        pool,
        store,
        deadline,
        ring: false,
    };
    let faults = short_or_long(&[Fault::DoneThenError][..], &Fault::ALL[..]);
    let tell = async |injection| told(&stage, injection).await;
    sweep("postgres", faults, &OFTEN, tell).await;
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_operation_may_fail_on_mariadb() {
    let Some(database) = buttress_testkit::mysql::fresh_database().await else {
        return;
    };
    let pool = sqlx::mysql::MySqlPoolOptions::new().max_connections(32);
    let pool = pool.connect(database.url()).await.unwrap();
    let store = OutboxStore::mysql(pool.clone()).unwrap();
    store.migrate().await.unwrap();
    let deadline = Duration::from_secs(2);
    let stage = Stage {
        pool,
        store,
        deadline,
        ring: false,
    };
    let faults = short_or_long(&[Fault::DoneThenError][..], &Fault::ALL[..]);
    let tell = async |injection| told(&stage, injection).await;
    sweep("mariadb", faults, &OFTEN, tell).await;
}

/// The check must be able to fail: each of these is one change to what a whole story leaves.
#[tokio::test]
async fn what_is_lost_overtaken_made_up_or_done_twice_fails_the_check() {
    let tally = buttress_testkit::tally::suite("X2");
    type Plant = fn(&mut Seen, &mut Vec<String>);
    let plants: [(&str, Plant); 5] = [
        ("overtook", |seen, _| {
            let place = |of: &str| seen.heard.iter().position(|it| it == of).unwrap();
            let (first, second) = (place("calm 1"), place("calm 2"));
            seen.heard.swap(first, second);
        }),
        ("was not heard", |seen, _| {
            seen.heard.retain(|it| it != "calm 2");
        }),
        ("never", |seen, _| seen.heard.push("never".to_owned())),
        ("the effects were", |_, effects| {
            effects.push("calm 1".to_owned());
        }),
        ("the effects were", |_, effects| {
            effects.retain(|it| it != "dies 1");
        }),
    ];
    for (expected, plant) in plants {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::<Sqlite>::on(&folder).await;
        let story = Story::on(&stage, Plan::none());
        story.tell().await;
        let mut effects = story.effects().await;
        assert_eq!(story.check(&effects), Ok(()));
        plant(&mut story.seen.lock().unwrap(), &mut effects);
        let found = story.check(&effects).unwrap_err();
        assert!(found.contains(expected), "{expected}: {found}");
    }
    tally.caught(5);
}
