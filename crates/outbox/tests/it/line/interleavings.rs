//! However writers interleave: places only grow, and what could be seen is not overtaken. And what
//! becomes of it without the gate, or with another one.

use std::collections::BTreeMap;

use buttress_outbox::Outbox;
use buttress_testkit::{eventually, left_out::LeftOut, postgres, seed::Seed, short_or_long};
use rand::RngExt as _;
use sqlx::{PgPool, Postgres, Transaction};

use super::{Heard, PATIENCE, furnish, in_one_line, message};
use crate::base::{self, postgres_at};

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
    // A server of its own: numbers of transactions are those of all databases, and other tests
    // have transactions open for long.
    let server = match postgres::Server::start() {
        Ok(server) => server,
        Err(postgres::StartError::NotFound(why)) => {
            return LeftOut::new("another order on PostgreSQL", why.to_string()).register();
        }
        Err(error) => panic!("{error}"),
    };
    let (pool, store) = postgres_at(&server.url("postgres")).await;
    store.migrate().await.unwrap();
    furnish(&pool).await;
    let outbox = Outbox::new(store);
    for (sql, verdict) in [(WITHOUT_A_GATE, "is lost"), (BY_NUMBER, "overtook")] {
        let mut found = Vec::new();
        for (nth, schedule) in schedules(2, &ALL).iter().enumerate() {
            let mut reader = Selected {
                pool: pool.clone(),
                sql,
            };
            let topic = format!("{}.{nth}", verdict.len());
            let played = play(&pool, &outbox, &topic, schedule, &mut reader).await;
            found.extend(played.err());
        }
        assert!(found.iter().any(|it| it.contains(verdict)), "{found:?}");
    }
}
