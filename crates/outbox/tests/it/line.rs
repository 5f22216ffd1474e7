//! One order of all keys on PostgreSQL: places that only grow, whoever commits when, whoever dies;
//! and what is held back for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_outbox::{
    AfterDeath, Delivery, Event, EventKind, Message, Outbox, OutboxError, OutboxStore,
    PublishError, Relay, RelayPolicy, Retention, Topic, TopicOrder, TopicPolicy,
    publisher::in_process,
};
use buttress_retry_backoff::Backoff;
use buttress_testkit::{
    child::{Child, role},
    eventually,
    seed::Seed,
    short_or_long,
};
use rand::{Rng as _, RngExt as _};
use sqlx::{PgPool, Postgres, Transaction, postgres::PgPoolOptions};

use crate::base::{self, Base};

const PATIENCE: Duration = Duration::from_secs(60);
const URL: &str = "BUTTRESS_OUTBOX_LINE_URL";

fn in_one_line() -> TopicPolicy {
    let policy = TopicPolicy::new().with_order(TopicOrder::Global);
    policy.with_backoff(Backoff::none())
}

fn quick() -> RelayPolicy {
    let policy = RelayPolicy::new().with_poll(Duration::from_millis(20));
    policy.with_lease(Duration::from_millis(600))
}

fn message(topic: &str, name: &str) -> Message {
    let message = Message::builder(topic, "/line", name).key(name);
    message.build().unwrap()
}

/// What a destination heard: the place and the name of each.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(i64, String)>>>);

impl Heard {
    fn names(&self) -> Vec<String> {
        let heard = self.0.lock().unwrap();
        heard.iter().map(|(_, name)| name.clone()).collect()
    }

    fn relay(&self, outbox: &Outbox, topic: &str, policy: TopicPolicy) -> Relay {
        self.saying(outbox, topic, policy, |_| Ok(()))
    }

    fn saying(
        &self,
        outbox: &Outbox,
        topic: &str,
        policy: TopicPolicy,
        say: impl Fn(&Delivery) -> Result<(), PublishError> + Send + Sync + 'static,
    ) -> Relay {
        let heard = self.clone();
        let publisher = in_process(move |delivery| {
            let answer = say(&delivery);
            if answer.is_ok() {
                let name = delivery.message().event_type().to_owned();
                heard.0.lock().unwrap().push((delivery.sequence(), name));
            }
            std::future::ready(answer)
        });
        let relay = Relay::builder(outbox).policy(quick());
        relay.topic_with(topic, policy, publisher).build().unwrap()
    }
}

async fn append(outbox: &Outbox, pool: &PgPool, topic: &str, names: &[&str]) {
    for name in names {
        let mut transaction = pool.begin().await.unwrap();
        let one = message(topic, name);
        let wake = outbox.append_in(&mut *transaction, &one).await.unwrap();
        transaction.commit().await.unwrap();
        wake.fire();
    }
}

/// What a writer does, one after the other: he writes something of his own, which gives his
/// transaction its number, he appends, he commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Write,
    Append,
    Commit,
}

type Schedule = Vec<(usize, Deed)>;

/// All orders in which so many writers can do all that.
fn schedules(writers: usize, deeds: &[Deed]) -> Vec<Schedule> {
    fn go(done: &mut Vec<usize>, at: &mut Schedule, deeds: &[Deed], all: &mut Vec<Schedule>) {
        if done.iter().all(|done| *done == deeds.len()) {
            all.push(at.clone());
        }
        for writer in 0..done.len() {
            if let Some(deed) = deeds.get(done[writer]) {
                done[writer] += 1;
                at.push((writer, *deed));
                go(done, at, deeds, all);
                at.pop();
                done[writer] -= 1;
            }
        }
    }
    let mut all = Vec::new();
    go(&mut vec![0; writers], &mut Vec::new(), deeds, &mut all);
    all
}

/// Whoever is asked after each deed what there is to be had.
trait Reader {
    /// Places and names, in the order in which they are handed over.
    async fn read(&mut self, topic: &str) -> Vec<((i64, i64), String)>;
}

struct Relayed {
    outbox: Outbox,
    heard: Heard,
}

impl Reader for Relayed {
    async fn read(&mut self, topic: &str) -> Vec<((i64, i64), String)> {
        let relay = self.heard.relay(&self.outbox, topic, in_one_line());
        relay.run_once().await.unwrap();
        let new = std::mem::take(&mut *self.heard.0.lock().unwrap());
        new.into_iter().map(|(id, name)| ((id, 0), name)).collect()
    }
}

/// Takes what this statement finds.
struct Selected {
    pool: PgPool,
    sql: &'static str,
}

/// Whatever can be seen, by its place.
const WITHOUT_A_GATE: &str = "WITH found AS (DELETE FROM buttress_outbox WHERE topic = $1
     RETURNING id, 0::bigint AS other, convert_from(key, 'UTF8') AS name)
   SELECT id, other, name FROM found ORDER BY id";
/// What no transaction can come before by its number, by that number: the usual advice.
const BY_NUMBER: &str = "WITH found AS (DELETE FROM buttress_outbox WHERE topic = $1
       AND xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
     RETURNING xmin::text::bigint AS number, id, convert_from(key, 'UTF8') AS name)
   SELECT number, id, name FROM found ORDER BY number, id";

impl Reader for Selected {
    async fn read(&mut self, topic: &str) -> Vec<((i64, i64), String)> {
        let rows = sqlx::query_as(self.sql).bind(topic.to_owned());
        let rows: Vec<(i64, i64, String)> = rows.fetch_all(&self.pool).await.unwrap();
        rows.into_iter()
            .map(|(a, b, name)| ((a, b), name))
            .collect()
    }
}

/// Plays a schedule, and judges what was handed over: a consumer that remembers nothing but the
/// last place takes all of it, and whatever could be seen when another was appended comes first.
async fn play(
    pool: &PgPool,
    outbox: &Outbox,
    topic: &str,
    schedule: &Schedule,
    reader: &mut impl Reader,
) -> Result<(), String> {
    let mut open: BTreeMap<usize, Transaction<'_, Postgres>> = BTreeMap::new();
    let (mut taken, mut place) = (Vec::new(), (0, 0));
    let mut take = |read: Vec<((i64, i64), String)>| {
        for (at, name) in read {
            if at > place {
                place = at;
                taken.push(name);
            }
        }
    };
    let mut seen = false;
    for (writer, deed) in schedule {
        match deed {
            Deed::Write => {
                let mut transaction = pool.begin().await.unwrap();
                let write = sqlx::query("INSERT INTO business (writer) VALUES ($1)");
                let number = i32::try_from(*writer).unwrap();
                write.bind(number).execute(&mut *transaction).await.unwrap();
                open.insert(*writer, transaction);
            }
            Deed::Append => {
                if !open.contains_key(writer) {
                    open.insert(*writer, pool.begin().await.unwrap());
                }
                let transaction = open.get_mut(writer).unwrap();
                let one = message(topic, &writer.to_string());
                drop(outbox.append_in(&mut **transaction, &one).await.unwrap());
            }
            Deed::Commit => open.remove(writer).unwrap().commit().await.unwrap(),
        }
        // Before the first commit nobody sees anything.
        seen |= *deed == Deed::Commit;
        if seen {
            take(reader.read(topic).await);
        }
    }
    // A reader that goes by numbers of transactions waits for those of other databases too.
    eventually("all is read", PATIENCE, async || {
        take(reader.read(topic).await);
        let left = sqlx::query_scalar("SELECT count(*) FROM buttress_outbox WHERE topic = $1");
        let left: i64 = left.bind(topic.to_owned()).fetch_one(pool).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    let at = |writer: usize, deed: Deed| schedule.iter().position(|it| *it == (writer, deed));
    let writers = schedule.iter().filter(|it| it.1 == Deed::Commit).count();
    for one in 0..writers {
        let Some(here) = taken.iter().position(|it| *it == one.to_string()) else {
            return Err(format!("{one} is lost in {schedule:?}: {taken:?}"));
        };
        for other in 0..writers {
            let seen = at(one, Deed::Commit) < at(other, Deed::Append);
            let there = taken.iter().position(|it| *it == other.to_string());
            if seen && there.is_some_and(|there| there < here) {
                return Err(format!("{other} overtook {one} in {schedule:?}: {taken:?}"));
            }
        }
    }
    if taken.len() == writers {
        Ok(())
    } else {
        Err(format!("some came twice in {schedule:?}: {taken:?}"))
    }
}

async fn furnish(pool: &PgPool) {
    let table = sqlx::raw_sql("CREATE TABLE business (writer INTEGER NOT NULL)");
    table.execute(pool).await.unwrap();
}

const ALL: [Deed; 3] = [Deed::Write, Deed::Append, Deed::Commit];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_writers_interleave_places_only_grow_and_nothing_that_could_be_seen_is_overtaken() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    furnish(&base.pool).await;
    let outbox = Outbox::new(base.store.clone());
    let mut all = schedules(2, &ALL);
    let seed = Seed::new();
    let mut rng = seed.rng();
    for (mut more, some) in [
        (schedules(3, &ALL[1..]), short_or_long(20, 90)),
        (schedules(3, &ALL), short_or_long(10, 1680)),
    ] {
        for _ in 0..some {
            let any = rng.random_range(0..more.len());
            all.push(more.swap_remove(any));
        }
    }
    for schedule in &all {
        let mut reader = Relayed {
            outbox: outbox.clone(),
            heard: Heard::default(),
        };
        let played = play(&base.pool, &outbox, "line", schedule, &mut reader).await;
        assert_eq!(played, Ok(()));
    }
}

/// The judge finds what the gate is for, and why it does not go by numbers of transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_gate_a_message_is_lost_and_by_transactions_numbers_one_is_overtaken() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    furnish(&base.pool).await;
    let outbox = Outbox::new(base.store.clone());
    for (sql, verdict) in [(WITHOUT_A_GATE, "is lost"), (BY_NUMBER, "overtook")] {
        let mut found = Vec::new();
        for (nth, schedule) in schedules(2, &ALL).iter().enumerate() {
            let mut reader = Selected {
                pool: base.pool.clone(),
                sql,
            };
            let topic = format!("{}.{nth}", verdict.len());
            let played = play(&base.pool, &outbox, &topic, schedule, &mut reader).await;
            found.extend(played.err());
        }
        assert!(found.iter().any(|it| it.contains(verdict)), "{found:?}");
    }
}

/// A relay that runs, and what it says of what it holds back.
struct Running {
    outbox: Outbox,
    heard: Heard,
    told: Arc<Mutex<Vec<(usize, Duration)>>>,
    relaying: tokio::task::JoinHandle<()>,
}

impl Running {
    fn on(base: &Base<Postgres>) -> Self {
        let outbox = Outbox::new(base.store.clone());
        let (heard, told) = (Heard::default(), Arc::new(Mutex::new(Vec::new())));
        let (hears, tell) = (heard.clone(), Arc::clone(&told));
        let publisher = in_process(move |delivery: Delivery| {
            let name = delivery.message().event_type().to_owned();
            hears.0.lock().unwrap().push((delivery.sequence(), name));
            std::future::ready(Ok(()))
        });
        let relay = Relay::builder(&outbox)
            .policy(quick())
            .topic_with("t", in_one_line(), publisher)
            .observe(move |event: &Event| {
                if let EventKind::HeldBack { messages, time, .. } = event.kind {
                    tell.lock().unwrap().push((messages, time));
                }
            })
            .build()
            .unwrap();
        let relaying = tokio::spawn(async move { relay.run_until(std::future::pending()).await });
        Self {
            outbox,
            heard,
            told,
            relaying,
        }
    }

    /// Waits until it has said that so many are held back, for more than a second.
    async fn holds_back(&self, messages: usize) {
        eventually("it is told what is held back", PATIENCE, async || {
            let last = self.told.lock().unwrap().last().copied();
            last.filter(|last| last.0 == messages && last.1 > Duration::from_secs(1))
        })
        .await;
        let topic = Topic::new("t").unwrap();
        let counts = self.outbox.counts(&topic).await.unwrap();
        assert_eq!(counts.depth, u64::try_from(messages).unwrap());
    }

    /// The transactions that it waits for are shown, and since when.
    async fn shows_who(&self) {
        let topic = Topic::new("t").unwrap();
        let counts = self.outbox.counts(&topic).await.unwrap();
        assert_eq!(counts.writers, 1);
        assert!(counts.oldest_writer > Duration::from_secs(1), "{counts:?}");
        assert!(counts.oldest_writer >= counts.oldest_age, "{counts:?}");
    }

    async fn hears(&self, names: &[&str]) {
        eventually("it goes on", PATIENCE, async || {
            (self.heard.names().len() >= names.len()).then_some(())
        })
        .await;
        assert_eq!(self.heard.names(), names);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob_02_a_transaction_that_does_not_end_holds_all_back_is_shown_and_ends() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let running = Running::on(&base);
    let mut open = base.pool.begin().await.unwrap();
    let first = message("t", "first");
    let append_first = running.outbox.append_in(&mut *open, &first).await;
    drop(append_first.unwrap());
    append(&running.outbox, &base.pool, "t", &["second", "third"]).await;
    running.holds_back(2).await;
    running.shows_who().await;
    assert!(running.heard.names().is_empty());
    open.commit().await.unwrap();
    running.hears(&["first", "second", "third"]).await;
}

/// Here a gate by numbers of transactions would be shut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob_03_a_transaction_that_has_appended_nothing_holds_nothing_back_however_long_it_takes() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let running = Running::on(&base);
    furnish(&base.pool).await;
    let mut other = base.pool.begin().await.unwrap();
    let write = sqlx::raw_sql("INSERT INTO business (writer) VALUES (1)");
    write.execute(&mut *other).await.unwrap();
    append(&running.outbox, &base.pool, "t", &["one", "two"]).await;
    running.hears(&["one", "two"]).await;
    other.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob_05_a_prepared_transaction_holds_all_back_and_is_shown() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let running = Running::on(&base);
    let mut own = base.pool.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut *own).await.unwrap();
    let first = message("t", "first");
    let append_first = running.outbox.append_in(&mut *own, &first).await;
    drop(append_first.unwrap());
    let prepare = sqlx::raw_sql("PREPARE TRANSACTION 'line'");
    prepare.execute(&mut *own).await.unwrap();
    append(&running.outbox, &base.pool, "t", &["second"]).await;
    running.holds_back(1).await;
    running.shows_who().await;
    let commit = sqlx::raw_sql("COMMIT PREPARED 'line'");
    commit.execute(&mut *own).await.unwrap();
    running.hears(&["first", "second"]).await;
}

/// A sequence that gives each connection ids in advance: nothing is ever decided, and that is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_sequence_that_has_a_cache_it_stands_still_and_says_so() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let cache = "ALTER SEQUENCE buttress_outbox_id_seq CACHE 500";
    sqlx::raw_sql(cache).execute(&base.pool).await.unwrap();
    let running = Running::on(&base);
    append(&running.outbox, &base.pool, "t", &["one"]).await;
    running.holds_back(1).await;
    assert!(running.heard.names().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_delivered_holds_back_all_behind_it_whatever_its_key() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    let topic = Topic::new("t").unwrap();
    let heard = Heard::default();
    let bad = Arc::new(Mutex::new(true));
    let refuses = Arc::clone(&bad);
    let policy = in_one_line().with_attempts(2);
    let policy = policy.with_retention(Retention::Keep(Duration::from_secs(60)));
    let relay = heard.saying(&outbox, "t", policy, move |delivery| {
        let bad = *refuses.lock().unwrap() && delivery.message().event_type() == "bad";
        if bad {
            Err(PublishError::refused("bad"))
        } else {
            Ok(())
        }
    });
    append(&outbox, &base.pool, "t", &["one", "bad", "two", "three"]).await;
    let pass = relay.run_once().await.unwrap();
    assert_eq!((pass.delivered, pass.died), (1, 1));
    assert_eq!(heard.names(), ["one"]);
    let counts = outbox.counts(&topic).await.unwrap();
    assert_eq!((counts.depth, counts.blocked_keys, counts.dead), (2, 1, 1));
    assert_eq!(relay.run_once().await.unwrap().delivered, 0);
    *bad.lock().unwrap() = false;
    let letters = outbox.dead_letters(&topic, 0, 10).await.unwrap();
    outbox.requeue(&topic, letters[0].sequence).await.unwrap();
    assert_eq!(relay.run_once().await.unwrap().delivered, 3);
    assert_eq!(heard.names(), ["one", "bad", "two", "three"]);
    let kept = outbox.history(&topic, 0, 10).await.unwrap();
    assert!(kept.iter().all(|past| past.delivered_at.is_some()) && kept.len() == 4);

    // One that is not due yet is waited for too.
    let mut transaction = base.pool.begin().await.unwrap();
    let later = Message::builder("t", "/line", "later").key("later");
    let later = later.delayed(Duration::from_secs(1)).build().unwrap();
    drop(outbox.append_in(&mut *transaction, &later).await.unwrap());
    transaction.commit().await.unwrap();
    append(&outbox, &base.pool, "t", &["after"]).await;
    eventually("both come", PATIENCE, async || {
        relay.run_once().await.unwrap();
        (heard.names().len() == 6).then_some(())
    })
    .await;
    assert_eq!(heard.names()[4..], ["later", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kills_its_publisher_dies_alone_and_is_passed_over_if_that_is_the_policy() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    let heard = Heard::default();
    let policy = in_one_line().with_lapses(2).after_death(AfterDeath::Skip);
    let relay = heard.saying(&outbox, "t", policy, |delivery| {
        assert_ne!(delivery.message().event_type(), "poison");
        Ok(())
    });
    let names: Vec<String> = (0..40).map(|n| format!("n{n:02}")).collect();
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.insert(7, "poison");
    append(&outbox, &base.pool, "t", &all).await;
    eventually("all but one are heard", PATIENCE, async || {
        relay.run_once().await.unwrap();
        (heard.names().len() == 40).then_some(())
    })
    .await;
    assert_eq!(heard.names(), names);
    let topic = Topic::new("t").unwrap();
    assert_eq!(outbox.counts(&topic).await.unwrap().dead, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_relay_works_and_another_takes_over_and_none_beside_one_that_goes_by_keys() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    let heard = [(); 3].map(|()| Heard::default());
    let by_key = heard[2].relay(&outbox, "t", TopicPolicy::new());
    let start = |relay: Relay| {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let run = async move { relay.run_until(async { drop(stopped.await) }).await };
        (stop, tokio::spawn(run))
    };
    let held = async |lanes: u64| {
        let topic = Topic::new("t").unwrap();
        let looked = async || {
            let counts = outbox.counts(&topic).await.unwrap();
            (counts.held_lanes == lanes).then_some(())
        };
        eventually("the lanes are held", PATIENCE, looked).await;
    };
    let (stop, keyed) = start(by_key);
    held(64).await;
    let line = heard[0].relay(&outbox, "t", in_one_line());
    append(&outbox, &base.pool, "t", &["one"]).await;
    assert_eq!(line.run_once().await.unwrap().delivered, 0);
    drop(stop);
    keyed.await.unwrap();
    let mut running = Vec::new();
    for heard in &heard[..2] {
        running.push(start(heard.relay(&outbox, "t", in_one_line())));
        held(64).await;
    }
    let both = || heard[..2].iter().map(|it| it.names().len()).sum::<usize>();
    append(&outbox, &base.pool, "t", &["two", "three"]).await;
    let come = async || (heard[2].names().len() + both() == 3).then_some(());
    eventually("they come", PATIENCE, come).await;
    assert!(heard[1].names().is_empty(), "it stands by");
    let (stop, first) = running.remove(0);
    drop(stop);
    first.await.unwrap();
    append(&outbox, &base.pool, "t", &["four", "five"]).await;
    let come = async || (heard[1].names().len() == 2).then_some(());
    eventually("the other one goes on", PATIENCE, come).await;
    assert_eq!(heard[1].names(), ["four", "five"]);
    running.remove(0).1.abort();
}

#[tokio::test]
async fn where_nobody_can_tell_what_may_yet_be_committed_it_is_refused() {
    let stores: [Option<OutboxStore>; 2] = [
        base::on_sqlite().await.map(|base| base.store),
        base::on_mariadb().await.map(|base| base.store),
    ];
    for store in stores.into_iter().flatten() {
        let publisher = in_process(|_| std::future::ready(Ok(())));
        let relay = Relay::builder(&Outbox::new(store));
        let refused = relay.topic_with("t", in_one_line(), publisher).build();
        let Err(OutboxError::Policy(refused)) = refused else {
            panic!("it was not refused");
        };
        assert_eq!(refused.field(), "order");
    }
}

async fn at(url: &str) -> (PgPool, Outbox) {
    let pool = PgPoolOptions::new().max_connections(4);
    let pool = pool.connect(url).await.unwrap();
    let outbox = Outbox::new(OutboxStore::postgres(pool.clone()).unwrap());
    (pool, outbox)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_relay_role() {
    let Some(_role) = role("line relay") else {
        return;
    };
    let (pool, outbox) = at(&std::env::var(URL).unwrap()).await;
    let publisher = in_process(move |delivery| {
        let pool = pool.clone();
        async move {
            let hear = sqlx::query("INSERT INTO heard (sequence) VALUES ($1)");
            let done = hear.bind(delivery.sequence()).execute(&pool).await;
            done.map(drop).map_err(|_| PublishError::down("the table"))
        }
    });
    let relay = Relay::builder(&outbox).policy(quick());
    let relay = relay.topic_with("t", in_one_line(), publisher);
    relay
        .build()
        .unwrap()
        .run_until(std::future::pending())
        .await;
}

/// Writes, holds, takes back, commits; to keys of its own.
async fn write(outbox: Outbox, pool: PgPool, stop: tokio::sync::watch::Receiver<bool>) -> usize {
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut committed = 0;
    while !*stop.borrow() {
        let mut transaction = pool.begin().await.unwrap();
        for _ in 0..rng.random_range(1..3) {
            let one = message("t", &format!("{}", rng.next_u32()));
            drop(outbox.append_in(&mut *transaction, &one).await.unwrap());
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..6000))).await;
        }
        if rng.random_range(0..5) > 0 {
            transaction.commit().await.unwrap();
            committed += 1;
        } else {
            transaction.rollback().await.unwrap();
        }
    }
    committed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_places_only_grow_when_relays_are_killed() {
    let Some(base): Option<Base<Postgres>> = base::on_postgres().await else {
        return;
    };
    let heard = "CREATE TABLE heard (nth BIGINT GENERATED ALWAYS AS IDENTITY, sequence BIGINT)";
    sqlx::raw_sql(heard).execute(&base.pool).await.unwrap();
    let outbox = Outbox::new(base.store.clone());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers = [(); 3].map(|()| {
        let (outbox, pool, stopped) = (outbox.clone(), base.pool.clone(), stopped.clone());
        tokio::spawn(write(outbox, pool, stopped))
    });
    let spawn = || {
        let child = Child::role("line relay", "line::line_relay_role");
        child.environment(URL, &base.url).spawn()
    };
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut relays = [spawn(), spawn()];
    for nth in 0..short_or_long(6, 300) {
        let range = Duration::from_millis(300)..Duration::from_millis(900);
        relays[nth % 2].kill_within(range, &mut rng).await;
        relays[nth % 2] = spawn();
    }
    stop.send_replace(true);
    let mut committed = 0;
    for writer in writers {
        committed += writer.await.unwrap();
    }
    let topic = Topic::new("t").unwrap();
    let quiet = async || (outbox.counts(&topic).await.unwrap().depth == 0).then_some(());
    eventually("all is delivered", PATIENCE, quiet).await;
    let heard = sqlx::query_scalar("SELECT sequence FROM heard ORDER BY nth");
    let heard: Vec<i64> = heard.fetch_all(&base.pool).await.unwrap();
    let (mut place, mut first_time) = (0, 0);
    let mut seen = std::collections::BTreeSet::new();
    for sequence in heard {
        if seen.insert(sequence) {
            assert!(sequence > place, "{sequence} came after {place}");
            place = sequence;
            first_time += 1;
        }
    }
    assert!(
        first_time >= committed && committed > 20,
        "{first_time} of {committed}"
    );
}
