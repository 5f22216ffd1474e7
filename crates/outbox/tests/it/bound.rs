//! From where on lanes are read on PostgreSQL: past what was delivered, and never past what may yet
//! be committed, whatever a transaction does between its id and its commit.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_outbox::{
    Message, Outbox, Relay, RelayPolicy, Topic, TopicPolicy, publisher::in_process,
};
use buttress_testkit::eventually;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::task::JoinHandle;

use crate::base::{self, Base};

const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than it takes to be sure of an id: some looks at who writes.
const LOOKS: Duration = Duration::from_millis(1200);
const TOPIC: &str = "t";

fn message(key: &str, name: &str) -> Message {
    let message = Message::builder(TOPIC, "/bound", name).key(key);
    message.build().unwrap()
}

/// A relay that runs, and what it has delivered.
struct Running {
    outbox: Outbox,
    seen: Arc<Mutex<Vec<String>>>,
    relaying: JoinHandle<()>,
}

impl Running {
    fn on(base: &Base<Postgres>) -> Self {
        let outbox = Outbox::new(base.store.clone());
        let seen = Arc::new(Mutex::new(Vec::<String>::new()));
        let heard = Arc::clone(&seen);
        let publisher = in_process(move |delivery| {
            let name = delivery.message().event_type().to_owned();
            heard.lock().unwrap().push(name);
            std::future::ready(Ok(()))
        });
        let policy = RelayPolicy::new().with_poll(Duration::from_millis(20));
        let relay = Relay::builder(&outbox)
            .policy(policy)
            .topic(TOPIC, publisher);
        let relay = relay.build().unwrap();
        let relaying = tokio::spawn(async move { relay.run_until(pending::<()>()).await });
        Self {
            outbox,
            seen,
            relaying,
        }
    }

    fn count(&self, name: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|it| it.starts_with(name)).count()
    }

    async fn heard(&self, name: &str, times: usize) {
        eventually("all is heard", PATIENCE, async || {
            (self.count(name) >= times).then_some(())
        })
        .await;
    }

    async fn append(&self, pool: &PgPool, messages: &[Message]) {
        let mut transaction = pool.begin().await.unwrap();
        let wake = self.outbox.append_all_in(&mut *transaction, messages);
        let wake = wake.await.unwrap();
        transaction.commit().await.unwrap();
        wake.fire();
    }

    /// Neighbours in every lane, with greater ids than all before, are committed and delivered;
    /// and there is time to be sure of them.
    async fn pass(&self, pool: &PgPool) {
        let before = self.count("fill");
        let fill: Vec<_> = (0..200)
            .map(|n| message(&format!("fill {n}"), "fill"))
            .collect();
        self.append(pool, &fill).await;
        self.heard("fill", before + 200).await;
        tokio::time::sleep(LOOKS).await;
    }

    /// The other writer of the key, whose turn it is now.
    async fn second(&self, pool: &PgPool, key: &str) {
        self.append(pool, &[message(key, "key, second")]).await;
        self.heard("key", 2).await;
        self.relaying.abort();
        let seen = self.seen.lock().unwrap();
        let order: Vec<_> = seen.iter().filter(|it| it.starts_with("key")).collect();
        assert_eq!(order, ["key, first", "key, second"]);
    }
}

/// An open transaction that has appended the key's first message.
async fn first(running: &Running, pool: &PgPool) -> Transaction<'static, Postgres> {
    let mut transaction = pool.begin().await.unwrap();
    let one = message("a", "key, first");
    let appended = running.outbox.append_in(&mut *transaction, &one).await;
    drop(appended.unwrap());
    transaction
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_late_is_read_though_all_around_it_was_passed() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let running = Running::on(&base);
    running.pass(&base.pool).await;
    let open = first(&running, &base.pool).await;
    for _ in 0..3 {
        running.pass(&base.pool).await;
    }
    open.commit().await.unwrap();
    running.second(&base.pool, "a").await;
}

/// An id that was taken and given up by a savepoint, and another one of the same transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_savepoint_that_is_rolled_back_neither_holds_the_bound_nor_lets_it_pass() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let running = Running::on(&base);
    let mut open = base.pool.begin().await.unwrap();
    sqlx::raw_sql("SAVEPOINT s")
        .execute(&mut *open)
        .await
        .unwrap();
    let never = message("a", "never");
    drop(running.outbox.append_in(&mut *open, &never).await.unwrap());
    let back = sqlx::raw_sql("ROLLBACK TO SAVEPOINT s");
    back.execute(&mut *open).await.unwrap();
    running.pass(&base.pool).await;
    let one = message("a", "key, first");
    drop(running.outbox.append_in(&mut *open, &one).await.unwrap());
    running.pass(&base.pool).await;
    open.commit().await.unwrap();
    running.second(&base.pool, "a").await;
    assert_eq!(running.count("never"), 0);
}

/// The id is given, and the transaction has neither a row nor a number yet: a bound by the oldest
/// transaction's number would pass it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_was_given_to_a_transaction_without_a_number_is_waited_for() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let running = Running::on(&base);
    running.pass(&base.pool).await;
    // After the id is given and before the row is made.
    let trigger = "CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN
            IF NEW.key = 'a'::bytea THEN PERFORM pg_advisory_xact_lock_shared(7); END IF;
            RETURN NEW;
          END $$;
        CREATE TRIGGER hold_up BEFORE INSERT ON buttress_outbox
          FOR EACH ROW EXECUTE FUNCTION hold_up()";
    sqlx::raw_sql(trigger).execute(&base.pool).await.unwrap();
    let mut holder = base.pool.acquire().await.unwrap();
    let hold = sqlx::raw_sql("SELECT pg_advisory_lock(7)");
    hold.execute(&mut *holder).await.unwrap();
    let (pool, outbox) = (base.pool.clone(), running.outbox.clone());
    let writing = tokio::spawn(async move {
        let mut transaction = pool.begin().await.unwrap();
        let one = message("a", "key, first");
        drop(outbox.append_in(&mut *transaction, &one).await.unwrap());
        transaction.commit().await.unwrap();
    });
    let held = "SELECT count(*) FROM pg_stat_activity
         WHERE wait_event = 'advisory' AND backend_xid IS NULL";
    eventually("it has an id and no number", PATIENCE, async || {
        let held = sqlx::query_scalar(held).fetch_one(&base.pool).await;
        (held.unwrap_or(0_i64) == 1).then_some(())
    })
    .await;
    for _ in 0..3 {
        running.pass(&base.pool).await;
    }
    let free = sqlx::raw_sql("SELECT pg_advisory_unlock(7)");
    free.execute(&mut *holder).await.unwrap();
    writing.await.unwrap();
    running.second(&base.pool, "a").await;
}

/// Prepared for a commit in two phases: a transaction of no connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_transaction_is_waited_for() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let running = Running::on(&base);
    running.pass(&base.pool).await;
    let mut own = base.pool.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut *own).await.unwrap();
    let one = message("a", "key, first");
    drop(running.outbox.append_in(&mut *own, &one).await.unwrap());
    running.pass(&base.pool).await;
    let prepare = sqlx::raw_sql("PREPARE TRANSACTION 'late'");
    prepare.execute(&mut *own).await.unwrap();
    for _ in 0..2 {
        running.pass(&base.pool).await;
    }
    let commit = sqlx::raw_sql("COMMIT PREPARED 'late'");
    commit.execute(&mut *own).await.unwrap();
    running.second(&base.pool, "a").await;
}

/// A sequence that gives each connection ids in advance: nothing is bounded, and nothing passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_with_a_cache_bounds_nothing() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let cache = "ALTER SEQUENCE buttress_outbox_id_seq CACHE 500";
    sqlx::raw_sql(cache).execute(&base.pool).await.unwrap();
    let running = Running::on(&base);
    // This connection has ids from now on, and no transaction.
    let mut own = base.pool.acquire().await.unwrap();
    let one = message("warm", "warm");
    drop(running.outbox.append_in(&mut *own, &one).await.unwrap());
    for _ in 0..2 {
        running.pass(&base.pool).await;
    }
    let one = message("a", "key, first");
    drop(running.outbox.append_in(&mut *own, &one).await.unwrap());
    running.heard("key", 1).await;
    running.second(&base.pool, "a").await;
}

/// A dead letter goes back to its old place, far below where reads begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_is_put_back_is_read_below_the_bound() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    let seen = Arc::new(Mutex::new(0_u32));
    let heard = Arc::clone(&seen);
    let publisher = in_process(move |delivery| {
        let mut seen = heard.lock().unwrap();
        let dies = delivery.message().event_type() == "dies" && *seen == 0;
        *seen += u32::from(delivery.message().event_type() == "dies");
        let refused = || buttress_outbox::PublishError::refused_for_good("no");
        std::future::ready(if dies { Err(refused()) } else { Ok(()) })
    });
    let skip = TopicPolicy::new().after_death(buttress_outbox::AfterDeath::Skip);
    let relay = Relay::builder(&outbox)
        .policy(RelayPolicy::new().with_poll(Duration::from_millis(20)))
        .topic_with(TOPIC, skip, publisher)
        .build()
        .unwrap();
    let relaying = tokio::spawn(async move { relay.run_until(pending::<()>()).await });
    let append = async |name: &str, times: usize| {
        let mut transaction = base.pool.begin().await.unwrap();
        let some: Vec<_> = (0..times)
            .map(|n| message(&format!("k{n}"), name))
            .collect();
        let wake = outbox
            .append_all_in(&mut *transaction, &some)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        wake.fire();
    };
    append("dies", 1).await;
    append("fill", 200).await;
    let topic = Topic::new(TOPIC).unwrap();
    let letter = eventually("it is dead", PATIENCE, async || {
        let counts = outbox.counts(&topic).await.unwrap();
        if counts.depth > 0 {
            return None;
        }
        let letters = outbox.dead_letters(&topic, 0, 1).await.unwrap();
        letters.into_iter().next()
    });
    let letter = letter.await;
    tokio::time::sleep(LOOKS).await;
    outbox.requeue(&topic, letter.sequence).await.unwrap();
    eventually("it is delivered", Duration::from_secs(5), async || {
        (*seen.lock().unwrap() == 2).then_some(())
    })
    .await;
    eventually("no mark is left", PATIENCE, async || {
        let marks = "SELECT count(*) FROM buttress_outbox_aside";
        let marks: i64 = sqlx::query_scalar(marks)
            .fetch_one(&base.pool)
            .await
            .unwrap();
        (marks == 0).then_some(())
    })
    .await;
    relaying.abort();
}

/// How many entries of the messages' index were looked at.
async fn looked_at(pool: &PgPool) -> i64 {
    // A connection says what it did when it does something, at most once a second.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let mut all = Vec::new();
    for _ in 0..7 {
        let mut one = pool.acquire().await.unwrap();
        sqlx::raw_sql("SELECT 1").execute(&mut *one).await.unwrap();
        all.push(one);
    }
    drop(all);
    let read = "SELECT idx_tup_read FROM pg_stat_user_indexes
         WHERE indexrelname = 'buttress_outbox_pkey'";
    sqlx::query_scalar(read).fetch_one(pool).await.unwrap()
}

/// Behind an old snapshot nothing that was deleted is cleared away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_delivered_behind_an_old_snapshot_is_not_walked_over_again() {
    const DELIVERED: usize = 10_000;
    const TRICKLE: usize = 30;
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let mut pin = base.pool.begin().await.unwrap();
    let pinned = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1";
    sqlx::raw_sql(pinned).execute(&mut *pin).await.unwrap();
    let running = Running::on(&base);
    let many: Vec<_> = (0..DELIVERED)
        .map(|n| message(&n.to_string(), "many"))
        .collect();
    for some in many.chunks(2000) {
        running.append(&base.pool, some).await;
    }
    running.heard("many", DELIVERED).await;
    tokio::time::sleep(LOOKS).await;
    let before = looked_at(&base.pool).await;
    for n in 0..TRICKLE {
        running
            .append(&base.pool, &[message("one", &format!("trickle {n}"))])
            .await;
        running.heard("trickle", n + 1).await;
    }
    let walked = looked_at(&base.pool).await - before;
    running.relaying.abort();
    let all = i64::try_from(DELIVERED).unwrap();
    assert!(walked < all, "{walked} entries for {TRICKLE} messages");
    // A relay that knows nothing begins at the start, once: so the measure can tell.
    let before = looked_at(&base.pool).await;
    let alone =
        "UPDATE buttress_outbox_lane SET lease_until = 0; DELETE FROM buttress_outbox_relay";
    sqlx::raw_sql(alone).execute(&base.pool).await.unwrap();
    let publisher = in_process(|_| std::future::ready(Ok(())));
    let relay = Relay::builder(&running.outbox).topic(TOPIC, publisher);
    relay.build().unwrap().run_once().await.unwrap();
    let anew = looked_at(&base.pool).await - before;
    assert!(anew >= all, "{anew} entries by a relay that knows nothing");
    pin.rollback().await.unwrap();
    println!("{walked} entries for {TRICKLE} messages, {anew} from the start");
}
