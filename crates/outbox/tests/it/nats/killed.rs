//! OB4, OB5: relays publish to a broker whose confirms are lost, and that is killed with -9 again
//! and again; behind it a consumer takes each message once.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream;
use async_trait::async_trait;
use buttress_outbox::{
    Delivery, Event, EventKind, Inbox, Outbox, PublishError, Publisher, Topic, consumer::hand_to,
};
use buttress_testkit::{
    eventually,
    eventually::eventually_as,
    proxy::{Cut, Proxy, Way},
    seed::Seed,
    short_or_long, tally,
};
use rand::RngExt as _;
use tokio::task::JoinSet;

use super::stand::{PATIENCE, Stand, base, builder, client, delivery, server};
use crate::{
    base::{self as databases, Base},
    lab::{self, Destination, TOPIC},
};

const KEYS: i64 = 20;
const STREAM: &str = "LAB";

/// Relays, and a consumer that hands what comes to the lab's destination.
struct Line {
    base: Base<sqlx::Postgres>,
    outbox: Outbox,
    stand: Stand,
    tasks: JoinSet<()>,
    downs: Arc<AtomicUsize>,
    /// How many messages that are none are in the stream.
    probes: u64,
}

impl Line {
    async fn new(url: &str, relays: usize) -> Option<Self> {
        Self::with(url, relays, |_| {}).await
    }

    async fn with(
        url: &str,
        relays: usize,
        change: impl FnOnce(&mut jetstream::stream::Config),
    ) -> Option<Self> {
        let base = databases::on_postgres().await?;
        lab::furnish(&base.pool, KEYS).await;
        let stand = Stand::at(url, STREAM, change).await;
        stand.pull("lab", Duration::from_secs(5)).await;
        let mut line = Self {
            outbox: Outbox::new(base.store.clone()),
            base,
            stand,
            tasks: JoinSet::new(),
            downs: Arc::default(),
            probes: 0,
        };
        for _ in 0..relays {
            line.relay(&client(url).await);
        }
        let consumer = line.stand.consumer("lab").await;
        let destination = Destination {
            pool: line.base.pool.clone(),
            inbox: Inbox::new(line.base.store.clone(), "consumer").unwrap(),
        };
        line.tasks
            .spawn(async move { consumer.run_until(pending(), hand_to(destination)).await });
        Some(line)
    }

    /// A relay over a connection of its own.
    fn relay(&mut self, client: &async_nats::Client) {
        let stand = Stand {
            context: jetstream::new(client.clone()),
            client: client.clone(),
            name: STREAM.to_owned(),
        };
        let downs = Arc::clone(&self.downs);
        let relay = builder(&self.outbox, stand.publisher("{topic}.{key}"));
        let relay = relay.observe(move |event: &Event| {
            if matches!(event.kind, EventKind::Down { .. }) {
                downs.fetch_add(1, Ordering::Relaxed);
            }
        });
        let relay = relay.build().unwrap();
        self.tasks
            .spawn(async move { relay.run_until(pending()).await });
    }

    /// Changes each key once.
    async fn change(&self) {
        let change = |key| lab::change(&self.base.pool, &self.outbox, key, async { true });
        for changed in futures_util::future::join_all((0..KEYS).map(change)).await {
            changed.unwrap();
        }
    }

    async fn change_one(&self, key: i64) {
        let changing = lab::change(&self.base.pool, &self.outbox, key, async { true });
        changing.await.unwrap();
    }

    async fn drained(&self) {
        let topic = Topic::new(TOPIC).unwrap();
        eventually("all is delivered", PATIENCE, async || {
            let counts = self.outbox.counts(&topic).await.unwrap();
            assert_eq!(counts.dead, 0, "{counts:?}");
            (counts.depth == 0).then_some(())
        })
        .await;
    }

    /// What is in the stream now may be there twice: something with an id has come in again that
    /// came after it.
    async fn until_the_window_ends(&mut self) {
        let mut headers = async_nats::HeaderMap::new();
        let id = format!("probe {}", self.probes);
        headers.insert("Nats-Msg-Id", id.as_str());
        let subject = format!("{STREAM}.probe");
        let probe = async || {
            let (subject, headers) = (subject.clone(), headers.clone());
            let sent = self
                .stand
                .context
                .publish_with_headers(subject, headers, "".into());
            !sent.await.unwrap().await.unwrap().duplicate
        };
        assert!(probe().await, "it is new");
        eventually("the window has ended", PATIENCE, async || {
            probe().await.then_some(())
        })
        .await;
        self.probes += 2;
    }

    /// Waits until all of it is where it belongs, and checks that it is. What was blamed for the
    /// broker's end would be dead.
    async fn end(mut self) -> lab::Seen {
        self.drained().await;
        let seen = eventually_as("all is heard", PATIENCE, async || {
            lab::check(&self.base.pool, true).await
        })
        .await;
        self.tasks.shutdown().await;
        seen
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_relays_deliver_each_keys_messages_in_order_through_a_stream() {
    let Some(server) = server() else { return };
    let Some(line) = Line::new(&server.url(), 3).await else {
        return;
    };
    for _ in 0..short_or_long(15, 1000) {
        line.change().await;
    }
    let stand = line.stand.clone();
    let seen = line.end().await;
    assert_eq!(stand.held().await, u64::try_from(seen.committed).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob5_a_broker_that_is_killed_loses_nothing_and_no_message_is_blamed_for_it() {
    let tally = tally::suite("OB5 X5");
    let Some(server) = server() else { return };
    let Some(line) = Line::new(&server.url(), 2).await else {
        return;
    };
    let mut rng = Seed::new().rng();
    let kills = short_or_long(5, 50);
    for _ in 0..kills {
        for _ in 0..3 {
            line.change().await;
        }
        // In the middle of it.
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
        server.kill();
        line.change().await;
        let before = line.downs.load(Ordering::Relaxed);
        eventually("the topic is paused", PATIENCE, async || {
            (line.downs.load(Ordering::Relaxed) > before).then_some(())
        })
        .await;
        server.restart().unwrap();
    }
    let stand = line.stand.clone();
    let downs = Arc::clone(&line.downs);
    let seen = line.end().await;
    let held = stand.held().await;
    println!(
        "{} messages, {kills} kills of the broker, {} of them in the stream twice, {} heard twice, \
         {} pauses",
        seen.committed,
        held - u64::try_from(seen.committed).unwrap(),
        seen.duplicates,
        downs.load(Ordering::Relaxed),
    );
    tally.operations(seen.committed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob4_confirms_that_are_lost_put_nothing_into_the_stream_twice_within_its_window() {
    let tally = tally::suite("OB4 X7");
    let Some(server) = server() else { return };
    let Some(mut line) = Line::new(&server.url(), 0).await else {
        return;
    };
    let address = server.url();
    let proxy = Proxy::start(address.trim_start_matches("nats://"))
        .await
        .unwrap();
    line.relay(&client(&format!("nats://{}", proxy.address())).await);
    let cuts = short_or_long(20, 1000);
    for cut in 1..=cuts {
        proxy.cut_at(Way::ToServer, *b"HPUB LAB.", Cut::Answer);
        line.change().await;
        proxy.until_struck(cut).await;
    }
    let stand = line.stand.clone();
    let seen = line.end().await;
    assert_eq!(stand.held().await, u64::try_from(seen.committed).unwrap());
    tally.operations(seen.committed);
}

/// The same, where the window has ended before the relay comes again: the stream has a message for
/// each lost confirm once more, and no effect is had twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob4_beyond_the_window_a_lost_confirm_is_one_message_more_and_one_effect() {
    let tally = tally::suite("OB4 X7");
    let Some(server) = server() else { return };
    let window = Duration::from_millis(200);
    let address = server.url();
    let begun = Line::with(&address, 0, |config| config.duplicate_window = window);
    let Some(mut line) = begun.await else {
        return;
    };
    let address = address.trim_start_matches("nats://");
    let proxy = Proxy::start(address).await.unwrap();
    line.relay(&client(&format!("nats://{}", proxy.address())).await);
    let cuts = short_or_long(3, 30);
    for cut in 1..=cuts {
        proxy.cut_at(Way::ToServer, *b"HPUB LAB.", Cut::Answer);
        line.change_one(i64::try_from(cut).unwrap() % KEYS).await;
        proxy.until_struck(cut).await;
        // Faster than we, it has come again within the window already, and was dropped.
        proxy.refuse().await.unwrap();
        line.until_the_window_ends().await;
        proxy.heal().await.unwrap();
        line.drained().await;
    }
    let probes = line.probes;
    let stand = line.stand.clone();
    let seen = line.end().await;
    let held = stand.held().await - probes;
    let twice = held - u64::try_from(seen.committed).unwrap();
    println!("{cuts} confirms lost, {twice} of them in the stream twice, each effect had once");
    assert!((1..=cuts).contains(&twice), "{twice} of {cuts}");
    tally.operations(seen.committed);
}

/// The checks above must be able to fail: a publisher that does not wait for the confirm.
struct Hasty(Stand);

#[async_trait]
impl Publisher for Hasty {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        let subject = format!("{}.hasty", self.0.name);
        for delivery in batch {
            let payload = delivery.message().payload().clone();
            let _ = self.0.client.publish(subject.clone(), payload).await;
        }
        let _ = self.0.client.flush().await;
        batch.iter().map(|_| Ok(())).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob5_a_publisher_that_does_not_wait_for_the_confirm_loses_what_it_said_was_delivered() {
    let tally = tally::suite("OB5");
    let Some(server) = server() else { return };
    let stand = Stand::at(&server.url(), STREAM, |_| {}).await;
    let batch = [delivery(base().build().unwrap())];
    // Written to a server that reads no more, and dies.
    server.pause();
    let answers = Hasty(stand.clone()).publish(&batch).await;
    assert!(answers[0].is_ok());
    let publisher = stand.publisher("{topic}");
    let publisher = publisher.with_timeout(Duration::from_millis(200)).unwrap();
    let honest = publisher.publish(&batch).await;
    assert!(honest[0].is_err());
    server.kill();
    server.restart().unwrap();
    eventually("it is back", PATIENCE, async || {
        let answers = publisher.publish(&batch).await;
        answers[0].is_ok().then_some(())
    })
    .await;
    let held = stand.all().await;
    assert_eq!(held.len(), 1, "the honest one's, and not the hasty one's");
    tally.caught(1);
}
