//! OB1, OB2, OB3: real processes write and relay; they are killed, and stopped past their leases.

use std::time::{Duration, Instant};

use buttress_outbox::{Event, EventKind, Inbox, Outbox, OutboxStore, Relay, RelayPolicy, Topic};
use buttress_testkit::{
    child::{Child, Spawn, role},
    eventually,
    seed::Seed,
    short_or_long,
};
use rand::{Rng as _, RngExt as _};
use sqlx::Pool;

use crate::{
    base::{self, Base},
    lab::{self, Destination, Lab, TOPIC},
};

const KIND: &str = "BUTTRESS_OUTBOX_TEST_KIND";
const URL: &str = "BUTTRESS_OUTBOX_TEST_URL";
const KEYS: i64 = 10;
const LEASE: Duration = Duration::from_millis(600);

fn policy() -> RelayPolicy {
    let policy = RelayPolicy::new().with_lease(LEASE).with_batch(50);
    policy.with_poll(Duration::from_millis(50))
}

fn relay<DB: Lab>(pool: &Pool<DB>, store: &OutboxStore) -> buttress_outbox::RelayBuilder {
    let inbox = Inbox::new(store.clone(), "consumer").unwrap();
    let destination = Destination {
        pool: pool.clone(),
        inbox,
    };
    Relay::builder(&Outbox::new(store.clone()))
        .policy(policy())
        .topic(TOPIC, destination)
}

/// Changes and changes, until it is killed.
async fn write<DB: Lab>((pool, store): (Pool<DB>, OutboxStore)) {
    let outbox = Outbox::new(store);
    let mut rng = Seed::new().rng();
    loop {
        let key = rng.random_range(0..KEYS);
        let hold = Duration::from_micros(rng.random_range(0..8000));
        let commits = rng.random_range(0..5) > 0;
        let hold = async move {
            tokio::time::sleep(hold).await;
            commits
        };
        // A deadlock or a lock that was not to be had is part of it: nothing was committed.
        let _ = lab::change(&pool, &outbox, key, hold).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..10))).await;
    }
}

/// Relays, and announces each settlement that came too late, until it is killed.
async fn deliver<DB: Lab>(
    (pool, store): (Pool<DB>, OutboxStore),
    role: buttress_testkit::child::Role,
) {
    let role = std::sync::Mutex::new(role);
    let stale = move |event: &Event| {
        if let EventKind::Stale { messages, .. } = event.kind {
            role.lock()
                .unwrap()
                .announce("stale", &messages.to_string());
        }
    };
    let relay = relay(&pool, &store).observe(stale).build().unwrap();
    relay.run_until(std::future::pending()).await;
}

fn kind_and_url() -> (String, String) {
    (std::env::var(KIND).unwrap(), std::env::var(URL).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_role() {
    let Some(_role) = role("writer") else { return };
    let (kind, url) = kind_and_url();
    match &*kind {
        "postgres" => write(base::postgres_at(&url).await).await,
        "ring" => write(base::ring_at(&url).await).await,
        "mariadb" => write(base::mariadb_at(&url).await).await,
        _ => write(base::sqlite_at(&url).await).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_role() {
    let Some(role) = role("relay") else { return };
    let (kind, url) = kind_and_url();
    match &*kind {
        "postgres" => deliver(base::postgres_at(&url).await, role).await,
        "ring" => deliver(base::ring_at(&url).await, role).await,
        "mariadb" => deliver(base::mariadb_at(&url).await, role).await,
        _ => deliver(base::sqlite_at(&url).await, role).await,
    }
}

async fn nothing_is_lost<DB: Lab>(base: &Base<DB>, kind: &str, kills: usize) {
    let tally = buttress_testkit::tally::suite("OB1 OB3 X5");
    lab::furnish(&base.pool, KEYS).await;
    let seed = Seed::new();
    let mut rng = seed.rng();
    let spawn = |role: &str, path: &str| -> Spawn {
        let child = Child::role(role, path);
        child.environment(KIND, kind).environment(URL, &base.url)
    };
    let writer_child = || spawn("writer", "crash::writer_role").spawn();
    let relay_child = || spawn("relay", "crash::relay_role").spawn();
    let mut writers = [writer_child(), writer_child()];
    let mut relays = [relay_child(), relay_child(), relay_child()];
    let (mut killed, mut stopped, mut stale) = (0, 0, 0);
    let begun = Instant::now();
    while killed < kills {
        let which = rng.random_range(0..3);
        match rng.next_u32() % 8 {
            0 => {
                let writer = which.min(1);
                writers[writer].kill();
                writers[writer] = writer_child();
                killed += 1;
            }
            1 | 2 => {
                relays[which].stop();
                tokio::time::sleep(LEASE * 2).await;
                relays[which].resume();
                stopped += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
                stale += relays[which].count("stale");
            }
            _ => {
                let range = Duration::from_millis(50)..Duration::from_millis(400);
                relays[which].kill_within(range, &mut rng).await;
                stale += relays[which].count("stale");
                relays[which] = relay_child();
                killed += 1;
            }
        }
    }
    for child in writers.iter_mut().chain(&mut relays) {
        child.kill();
    }
    let outbox = Outbox::new(base.store.clone());
    let topic = Topic::new(TOPIC).unwrap();
    let last = relay(&base.pool, &base.store).build().unwrap();
    eventually("all is delivered", Duration::from_secs(60), async || {
        last.run_once().await.unwrap();
        let counts = outbox.counts(&topic).await.unwrap();
        (counts.depth == 0 && counts.dead == 0).then_some(())
    })
    .await;
    let seen = lab::check(&base.pool, true).await.unwrap();
    assert!(seen.committed > 50, "{seen:?}");
    println!(
        "{kind}: {killed} kills, {stopped} stops, {stale} stale settlements, {} committed, \
         {} heard again, {:?}",
        seen.committed,
        seen.duplicates,
        begun.elapsed()
    );
    tally.operations(seen.committed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob1_ob2_ob3_nothing_is_lost_made_up_or_overtaken_when_processes_die_on_postgres() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    nothing_is_lost(&base, "postgres", short_or_long(25, 3000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob1_ob2_ob3_nothing_is_lost_made_up_or_overtaken_when_processes_die_on_mariadb() {
    let Some(base) = base::on_mariadb().await else {
        return;
    };
    nothing_is_lost(&base, "mariadb", short_or_long(25, 3000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob1_ob2_ob3_nothing_is_lost_made_up_or_overtaken_when_processes_die_on_sqlite() {
    let base = base::on_sqlite().await.unwrap();
    nothing_is_lost(&base, "sqlite", short_or_long(25, 3000)).await;
}

/// In a ring of small pieces, which is emptied all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob1_ob2_ob3_nothing_is_lost_made_up_or_overtaken_when_processes_die_in_a_ring() {
    let Some(base) = base::on_ring(&[TOPIC], 20).await else {
        return;
    };
    let (pool, store) = (base.pool.clone(), base.store.clone());
    relay(&pool, &store)
        .build()
        .unwrap()
        .run_once()
        .await
        .unwrap();
    let emptied = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&emptied);
    let emptying = tokio::spawn(async move {
        let outbox = Outbox::new(store);
        loop {
            // A server that is busy may refuse; and the next time it does not.
            let pieces = outbox.truncate().await.unwrap_or_default();
            count.fetch_add(pieces, std::sync::atomic::Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    nothing_is_lost(&base, "ring", short_or_long(25, 3000)).await;
    emptying.abort();
    // All is settled by now, and nobody is at work.
    let last = Outbox::new(base.store.clone()).truncate().await.unwrap();
    let emptied = emptied.load(std::sync::atomic::Ordering::Relaxed);
    assert!(emptied + last > 0, "no piece was ever emptied");
    println!("{emptied} pieces were emptied meanwhile, {last} at the end");
}
