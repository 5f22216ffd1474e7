//! Hints between processes: sooner than a poll, outside of every transaction, and never needed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use buttress_outbox::{
    Message, Outbox, OutboxStore, Relay, RelayPolicy, Topic, publisher::in_process,
};
use buttress_testkit::eventually;
use sqlx::{PgPool, postgres::PgListener};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{
    base::{self, postgres_at},
    lab::{self, TOPIC},
};

/// By then an idle relay's next poll of its own is 2 s away: its pauses begin with 20 ms and are
/// doubled each time.
async fn rested() {
    sleep(Duration::from_millis(2700)).await;
}

/// Sooner than that.
const SOON: Duration = Duration::from_millis(1800);

/// What a hint is sent by.
const CHANNEL: &str = "buttress_outbox";

/// How long a relay rests that finds nothing: no test here waits for that.
const POLL: Duration = Duration::from_secs(30);

/// A relay on a pool of its own, as in a process of its own.
struct Relaying {
    heard: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Relaying {
    async fn begin(store: &OutboxStore, watcher: &PgPool, ears: i64) -> Self {
        let heard = Arc::new(AtomicUsize::new(0));
        let failed = Arc::new(AtomicUsize::new(0));
        let (hear, fail) = (Arc::clone(&heard), Arc::clone(&failed));
        let publisher = in_process(move |_| {
            hear.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        });
        let relay = Relay::builder(&Outbox::new(store.clone()))
            .policy(RelayPolicy::new().with_poll(POLL))
            .topic(TOPIC, publisher)
            .observe(move |event: &buttress_outbox::Event| {
                let kind = &event.kind;
                if matches!(kind, buttress_outbox::EventKind::StoreFailed { operation, .. } if *operation == "listen") {
                    fail.fetch_add(1, Ordering::SeqCst);
                }
            })
            .build()
            .unwrap();
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let task = tokio::spawn(async move {
            let stopped = async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            relay.run_until(stopped).await;
        });
        listening(watcher, ears).await;
        rested().await;
        Self {
            heard,
            failed,
            stop,
            task,
        }
    }

    /// How long it took until so many were heard.
    async fn hears(&self, messages: usize) -> Duration {
        let begun = Instant::now();
        eventually("it is heard", POLL / 2, async || {
            (self.heard.load(Ordering::SeqCst) >= messages).then_some(())
        })
        .await;
        begun.elapsed()
    }

    async fn end(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

const EARS: &str = "SELECT COUNT(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND query LIKE 'LISTEN%'";

async fn listening(watcher: &PgPool, ears: i64) {
    eventually("an ear is there", Duration::from_secs(20), async || {
        let found: i64 = sqlx::query_scalar(EARS).fetch_one(watcher).await.unwrap();
        (found == ears).then_some(())
    })
    .await;
}

async fn append(pool: &PgPool, outbox: &Outbox, key: &str) -> buttress_store::AfterCommit {
    let mut transaction = lab::begin(pool).await.unwrap();
    let message = Message::builder(TOPIC, "/hints", "note").key(key);
    let message = message.build().unwrap();
    let wake = outbox.append_in(&mut *transaction, &message).await;
    transaction.commit().await.unwrap();
    wake.unwrap()
}

/// What another process commits is heard at once; also after the ear was cut off, in which time
/// nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_hears_of_another_process_long_before_its_poll() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let (_pool, here) = postgres_at(&base.url).await;
    let relaying = Relaying::begin(&here.with_notify(), &base.pool, 1).await;
    let outbox = Outbox::new(base.store.clone().with_notify());

    append(&base.pool, &outbox, "a").await.fire();
    let took = relaying.hears(1).await;
    println!("a hint from another store took {took:?}, polls are {POLL:?} apart");
    assert!(took < SOON, "{took:?}");

    rested().await;
    // Committed, its hint never fired, and the ear cut off: the ear that is made again looks.
    drop(append(&base.pool, &outbox, "b").await);
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND query LIKE 'LISTEN%'",
    )
    .execute(&base.pool)
    .await
    .unwrap();
    let took = relaying.hears(2).await;
    println!("after its ear was cut off it looked within {took:?}");
    assert!(took < SOON, "{took:?}");
    assert_eq!(relaying.failed.load(Ordering::SeqCst), 1);

    listening(&base.pool, 1).await;
    rested().await;
    append(&base.pool, &outbox, "c").await.fire();
    let took = relaying.hears(3).await;
    assert!(took < SOON, "{took:?}");

    relaying.end().await;
    listening(&base.pool, 0).await;
}

/// Who did not ask for hints has none: the control of the test above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_hints_another_process_is_heard_by_polling_alone() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let (_pool, here) = postgres_at(&base.url).await;
    let relaying = Relaying::begin(&here, &base.pool, 0).await;
    let outbox = Outbox::new(base.store.clone().with_notify());
    let (mut rounds, mut appended) = (0, 0);
    loop {
        append(&base.pool, &outbox, "a").await.fire();
        appended += 1;
        sleep(Duration::from_millis(500)).await;
        if relaying.heard.load(Ordering::SeqCst) < appended {
            break;
        }
        // A slow machine may have come to the next poll by now; a hint would be there each time.
        rounds += 1;
        assert!(rounds < 4, "it is heard at once each time");
        rested().await;
    }
    // The pass that stopping does not make: polling is what finds it.
    relaying.end().await;
    let counts = Outbox::new(base.store.clone());
    let counts = counts.counts(&Topic::new(TOPIC).unwrap()).await.unwrap();
    assert_eq!(counts.depth, 1);
}

/// Many commits are few hints; and none is sent in the transaction: neither by its rollback nor by
/// its commit, only by firing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_are_few_and_not_in_the_business_transaction() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let mut ear = PgListener::connect(&base.url).await.unwrap();
    ear.listen(CHANNEL).await.unwrap();
    let outbox = Outbox::new(base.store.clone().with_notify());

    let mut transaction = lab::begin(&base.pool).await.unwrap();
    let message = Message::builder(TOPIC, "/hints", "note").build().unwrap();
    let wake = outbox.append_in(&mut *transaction, &message).await.unwrap();
    transaction.rollback().await.unwrap();
    drop(wake);
    drop(append(&base.pool, &outbox, "a").await);
    let silence = tokio::time::timeout(Duration::from_millis(300), ear.recv()).await;
    assert!(
        silence.is_err(),
        "a hint was in the transaction: {silence:?}"
    );

    // One that was rolled back and is fired all the same harms nobody.
    let mut transaction = lab::begin(&base.pool).await.unwrap();
    let wake = outbox.append_in(&mut *transaction, &message).await.unwrap();
    transaction.rollback().await.unwrap();
    wake.fire();
    ear.recv().await.unwrap();
    sleep(Duration::from_millis(200)).await;

    let begun = Instant::now();
    for round in 0..300 {
        append(&base.pool, &outbox, &round.to_string()).await.fire();
    }
    let took = begun.elapsed();
    let mut hints = 0;
    while let Ok(hint) = tokio::time::timeout(Duration::from_millis(400), ear.recv()).await {
        hint.unwrap();
        hints += 1;
    }
    println!("300 commits in {took:?} sent {hints} hints");
    let most = took.as_millis() / 100 + 2;
    assert!(hints >= 1 && hints <= most, "{hints} hints in {took:?}");
}
