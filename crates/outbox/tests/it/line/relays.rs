//! Several relays of one line: one works, and another takes over, also when it is killed.

use std::{collections::BTreeSet, time::Duration};

use buttress_outbox::{
    Outbox, OutboxError, OutboxStore, PublishError, Relay, Topic, TopicPolicy,
    publisher::in_process,
};
use buttress_testkit::{
    child::{Child, role},
    eventually,
    seed::Seed,
    short_or_long,
};
use rand::{Rng as _, RngExt as _};
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{Heard, PATIENCE, append, in_one_line, message, quick};
use crate::base;

const URL: &str = "BUTTRESS_OUTBOX_LINE_URL";

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
    let policy = quick().with_lease(Duration::from_millis(600));
    let relay = Relay::builder(&outbox).policy(policy);
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
    let Some(base) = base::on_postgres().await else {
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
        let child = Child::role("line relay", "line::relays::line_relay_role");
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
    let mut seen = BTreeSet::new();
    for sequence in heard {
        if seen.insert(sequence) {
            assert!(sequence > place, "{sequence} came after {place}");
            place = sequence;
            first_time += 1;
        }
    }
    assert!(
        first_time >= committed && committed > 5,
        "{first_time} of {committed}"
    );
}
