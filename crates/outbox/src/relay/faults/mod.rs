//! Each operation of the store fails once, in each way, in the middle of a whole story: appends,
//! one of them rolled back, a message that is refused, one that dies, one that panics its
//! publisher, an inbox behind it all, an operator who puts back what died.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "outside of a test function too: what cannot go on fails the test, which prints its figures"
)]

mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_retry_backoff::Backoff;
use buttress_store::{
    Deadline, Guarded, StoreError,
    sqlite::{Writer, options},
};
use buttress_testkit::{
    fault::{Fault, Injection, Plan},
    short_or_long,
};
use futures_util::StreamExt as _;
use sqlx::{Sqlite, SqlitePool, sqlite::SqlitePoolOptions};

use self::store::{FaultStore, error};
use crate::{
    Delivery, Inbox, Message, Outbox, OutboxError, OutboxStore, PublishError, Relay, RelayPolicy,
    Taken, Topic, TopicPolicy, publisher::in_process, wake::Wake,
};

const TOPIC: &str = "story";
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

struct Story {
    pool: SqlitePool,
    outbox: Outbox,
    inbox: Inbox,
    seen: Arc<Mutex<Seen>>,
}

impl Story {
    async fn on(pool: SqlitePool, plan: Plan<StoreError>) -> Self {
        let inner = OutboxStore::sqlite(Writer::new(pool.clone())).unwrap();
        inner.migrate().await.unwrap();
        sqlx::query("CREATE TABLE effects (subject TEXT NOT NULL)")
            .execute(&pool)
            .await
            .unwrap();
        let store = OutboxStore {
            store: Arc::new(FaultStore {
                inner: inner.store,
                plan,
            }),
            wake: Wake::default(),
            announcer: None,
        };
        Self {
            pool,
            outbox: Outbox::new(store.clone()),
            inbox: Inbox::new(store, "story").unwrap(),
            seen: Arc::default(),
        }
    }

    async fn begin(pool: &SqlitePool) -> Result<Guarded<Sqlite>, StoreError> {
        Guarded::begin(pool, Deadline::after(Deadline::SQL)).await
    }

    /// A transaction of business; whoever is told that it failed does it again.
    async fn append(&self, key: &str, subject: &str, commits: bool) {
        let message = Message::builder(TOPIC, "/story", "told").key(key);
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
        let (pool, inbox) = (self.pool.clone(), self.inbox.clone());
        let seen = Arc::clone(&self.seen);
        let publisher = in_process(move |delivery| {
            let (pool, inbox) = (pool.clone(), inbox.clone());
            let seen = Arc::clone(&seen);
            async move { hear(&pool, &inbox, &seen, &delivery).await }
        });
        let policy = TopicPolicy::new()
            .with_backoff(Backoff::none())
            .with_outage_backoff(Backoff::none());
        Relay::builder(&self.outbox)
            .policy(RelayPolicy::new().with_lease(LEASE))
            .topic_with(TOPIC, policy, publisher)
            .build()
            .unwrap()
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
        let topic = Topic::new(TOPIC).unwrap();
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
        for _ in 0..PATIENCE {
            let _ = relay.run_once().await;
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
    async fn check(&self) -> Result<(), String> {
        let effects: Vec<String> = sqlx::query_scalar("SELECT subject FROM effects")
            .fetch_all(&self.pool)
            .await
            .unwrap();
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
async fn hear(
    pool: &SqlitePool,
    inbox: &Inbox,
    seen: &Mutex<Seen>,
    delivery: &Delivery,
) -> Result<(), PublishError> {
    let subject = delivery.message().subject().unwrap_or_default().to_owned();
    let first = |word| seen.lock().unwrap().said.insert(word);
    let said = |word| seen.lock().unwrap().said.contains(word);
    match subject.as_str() {
        // What is said beside a panic is not heard.
        "refused 1" if said("panic") && first("not yet") => {
            return Err(PublishError::refused("not yet"));
        }
        "dies 1" if !said("put back") => return Err(PublishError::refused_for_good("never")),
        "panics 1" if first("panic") => panic!("planted"),
        _ => {}
    }
    seen.lock().unwrap().heard.push(subject.clone());
    let taking = async {
        let mut transaction = Story::begin(pool).await?;
        let taken = inbox.take_in(&mut *transaction, delivery.message().id());
        if taken.await? == Taken::First {
            sqlx::query("INSERT INTO effects (subject) VALUES (?)")
                .bind(&subject)
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::in_transaction)?;
        }
        transaction.commit().await?;
        Ok::<(), OutboxError>(())
    };
    taking.await.map_err(|_| PublishError::down("its database"))
}

/// The story with that fault. Which operation was struck, if any was.
async fn told(injection: Option<Injection>) -> Option<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let pool = SqlitePoolOptions::new().max_connections(3);
    let pool = pool.connect_lazy_with(options(folder.path().join("story.db")));
    let plan = injection.map_or_else(Plan::none, |it| Plan::new([it], error));
    let story = Story::on(pool.clone(), plan.clone()).await;
    story.tell().await;
    let names = plan.names();
    if let Err(what) = story.check().await {
        panic!("{injection:?}: {what}, of {names:?}");
    }
    drop(story);
    pool.close().await;
    let place = injection.filter(|_| plan.struck() == 1)?.operation;
    names.get(usize::try_from(place).ok()? - 1).copied()
}

/// What was committed is delivered, what was not is not, of each key in order, and its effect is
/// had once: whichever operation fails, in whichever way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_operation_may_fail_in_every_way() {
    told(None).await;
    let few = &[Fault::Before, Fault::DoneThenError, Fault::DoneThenHang];
    let faults = short_or_long(&few[..], &Fault::ALL[..]);
    let mut struck = BTreeSet::new();
    let mut injected = 0;
    for fault in faults {
        // On until one comes too late to strike: how many operations there are is not known.
        for from in (1..).step_by(8) {
            let some = futures_util::stream::iter(from..from + 8);
            let some = some.map(|operation| told(Some(Injection::new(operation, *fault))));
            let names: Vec<_> = some.buffer_unordered(8).collect().await;
            injected += names.iter().flatten().count();
            struck.extend(names.iter().copied().flatten());
            if names.contains(&None) {
                break;
            }
        }
    }
    println!("{injected} faults, at {struck:?}");
    let must = [
        "alone", "append", "asides", "beat", "claim", "counts", "dead", "leave", "pause",
        "prepare", "prune", "release", "requeue", "settle", "take", "window",
    ];
    for name in must {
        assert!(struck.contains(name), "{name} was never struck: {struck:?}");
    }
}

/// The check must be able to fail: each of these is one change to what a whole story leaves.
#[tokio::test]
async fn what_is_lost_overtaken_made_up_or_done_twice_fails_the_check() {
    type Plant = fn(&mut Seen) -> Option<&'static str>;
    let plants: [(&str, Plant); 5] = [
        ("overtook", |seen| {
            let place = |of: &str| seen.heard.iter().position(|it| it == of).unwrap();
            let (first, second) = (place("calm 1"), place("calm 2"));
            seen.heard.swap(first, second);
            None
        }),
        ("was not heard", |seen| {
            seen.heard.retain(|it| it != "calm 2");
            None
        }),
        ("never", |seen| {
            seen.heard.push("never".to_owned());
            None
        }),
        ("the effects were", |_| {
            Some("INSERT INTO effects VALUES ('calm 1')")
        }),
        ("the effects were", |_| {
            Some("DELETE FROM effects WHERE subject = 'dies 1'")
        }),
    ];
    for (expected, plant) in plants {
        let folder = tempfile::tempdir().unwrap();
        let pool = SqlitePoolOptions::new().max_connections(3);
        let pool = pool.connect_lazy_with(options(folder.path().join("story.db")));
        let story = Story::on(pool.clone(), Plan::none()).await;
        story.tell().await;
        assert_eq!(story.check().await, Ok(()));
        let sql = plant(&mut story.seen.lock().unwrap());
        if let Some(sql) = sql {
            sqlx::query(sql).execute(&pool).await.unwrap();
        }
        let found = story.check().await.unwrap_err();
        assert!(found.contains(expected), "{expected}: {found}");
    }
}
