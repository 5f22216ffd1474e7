//! OB4: answers that are lost between a broker's taking and the relay's hearing of it; and a
//! publisher that believes what was not said, which the check finds.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_outbox::{
    Delivery, Inbox, Outbox, PublishError, Publisher, Relay, RelayPolicy, Topic, TopicPolicy,
    consumer::{hand_to, rabbitmq::RabbitConsumer, redis_streams::RedisStreamConsumer},
    publisher::{
        rabbitmq::{
            RabbitConnection, RabbitPublisher,
            lapin::{BasicProperties, Channel, options::BasicPublishOptions},
        },
        redis_streams::{RedisStreamPublisher, Trim},
    },
};
use buttress_retry_backoff::Backoff;
use buttress_testkit::{
    eventually,
    eventually::eventually_as,
    proxy::{Cut, Proxy, Way},
    short_or_long, tally,
};
use sqlx::Postgres;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Mutex, task::JoinSet};

use super::{PATIENCE, SOON, rabbitmq, redis_streams, soon};
use crate::{
    base::{self, Base},
    lab::{self, Destination, TOPIC},
};

const KEYS: i64 = 4;

/// One relay to a broker behind a proxy, and a consumer that goes to the broker directly.
struct Line {
    base: Base<Postgres>,
    outbox: Outbox,
    tasks: JoinSet<()>,
}

impl Line {
    async fn begin(publisher: impl Publisher) -> Option<Self> {
        let base = base::on_postgres().await?;
        lab::furnish(&base.pool, KEYS).await;
        let outbox = Outbox::new(base.store.clone());
        let soon = Backoff::constant(SOON);
        let topic = TopicPolicy::new()
            .with_attempts(1)
            .with_backoff(soon.clone())
            .with_outage_backoff(soon);
        let relay = Relay::builder(&outbox)
            .policy(RelayPolicy::new().with_poll(SOON))
            .topic_with(TOPIC, topic, publisher)
            .build()
            .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { relay.run_until(std::future::pending()).await });
        Some(Self {
            base,
            outbox,
            tasks,
        })
    }

    /// What takes each message once.
    fn destination(&self) -> Destination<Postgres> {
        Destination {
            pool: self.base.pool.clone(),
            inbox: Inbox::new(self.base.store.clone(), "consumer").unwrap(),
        }
    }

    async fn change(&self, n: i64) {
        let changing = lab::change(&self.base.pool, &self.outbox, n % KEYS, async { true });
        changing.await.unwrap();
    }

    /// The relay believes that all is delivered.
    async fn drained(&self) {
        let topic = Topic::new(TOPIC).unwrap();
        eventually("all is delivered", PATIENCE, async || {
            let counts = self.outbox.counts(&topic).await.unwrap();
            assert_eq!(counts.dead, 0, "{counts:?}");
            (counts.depth == 0).then_some(())
        })
        .await;
    }

    /// One message each time, whose answer is lost.
    async fn lose_answers(self, proxy: &Proxy, pattern: &[u8]) -> lab::Seen {
        let cuts = short_or_long(20, 1000);
        for cut in 1..=cuts {
            proxy.cut_at(Way::ToServer, pattern, Cut::Answer);
            self.change(cut).await;
            proxy.until_struck(u64::try_from(cut).unwrap()).await;
            // The next one is another batch.
            self.drained().await;
        }
        let seen = eventually_as("all is heard", PATIENCE, async || {
            lab::check(&self.base.pool, true).await
        })
        .await;
        let cuts = usize::try_from(cuts).unwrap();
        assert!(
            (1..=cuts).contains(&seen.duplicates),
            "{seen:?} of {cuts} answers lost"
        );
        println!(
            "{cuts} answers lost, {} heard twice, each effect had once",
            seen.duplicates
        );
        seen
    }
}

/// A URL's broker through a proxy.
async fn through_a_proxy(url: &str) -> (Proxy, String) {
    let rest = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once("//").map_or(rest, |(_, rest)| rest);
    let address = rest.split('/').next().unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    let url = url.replace(address, &proxy.address().to_string());
    (proxy, url)
}

fn to_queue(publisher: RabbitPublisher, queue: &str) -> RabbitPublisher {
    let queue = queue.to_owned();
    publisher.with_routing(move |_| queue.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob4_answers_of_rabbitmq_that_are_lost_repeat_no_more_messages_than_there_were_cuts() {
    let tally = tally::suite("OB4 X7");
    let Some((name, bench, connection)) = rabbitmq::fresh().await else {
        return;
    };
    let queue = name.as_str();
    bench.queue(queue, &[]).await;
    let (proxy, url) = through_a_proxy(name.url()).await;
    let publisher = RabbitPublisher::new(&RabbitConnection::new(&url).unwrap(), "").unwrap();
    let Some(mut line) = Line::begin(to_queue(publisher, queue)).await else {
        return;
    };
    let consumer = RabbitConsumer::new(&connection, queue).unwrap();
    let (consumer, destination) = (consumer.with_terms(soon()), line.destination());
    line.tasks.spawn(async move {
        let never = std::future::pending();
        consumer.run_until(never, hand_to(destination)).await;
    });
    let seen = line.lose_answers(&proxy, b"cloudEvents_specversion").await;
    tally.operations(seen.committed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob4_answers_of_redis_that_are_lost_repeat_no_more_messages_than_there_were_cuts() {
    let tally = tally::suite("OB4 X7");
    let Some((prefix, consuming)) = redis_streams::fresh().await else {
        return;
    };
    let name = redis_streams::prefix_of(&prefix);
    let (proxy, url) = through_a_proxy(prefix.url()).await;
    let publishing = redis_streams::connection(&url).await;
    let publisher = RedisStreamPublisher::new(&publishing, name, Trim::Nothing).unwrap();
    let Some(mut line) = Line::begin(publisher).await else {
        return;
    };
    let consumer = RedisStreamConsumer::new(&consuming, name, TOPIC, "group", "one").unwrap();
    let (consumer, destination) = (consumer.with_terms(soon()), line.destination());
    line.tasks.spawn(async move {
        let never = std::future::pending();
        consumer.run_until(never, hand_to(destination)).await;
    });
    let seen = line.lose_answers(&proxy, b"XADD").await;
    tally.operations(seen.committed);
}

/// Sends, and believes that it was taken.
enum Hasty {
    Rabbit(Channel, String),
    Redis(Arc<Mutex<TcpStream>>, String),
}

#[async_trait]
impl Publisher for Hasty {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        for delivery in batch {
            let payload = delivery.message().payload();
            match self {
                Self::Rabbit(channel, queue) => {
                    let sent = channel.basic_publish(
                        "".into(),
                        queue.as_str().into(),
                        BasicPublishOptions::default(),
                        payload,
                        BasicProperties::default(),
                    );
                    let _unheard = sent.await;
                }
                Self::Redis(stream, name) => {
                    let mut add = redis::cmd("XADD");
                    add.arg(name).arg("*").arg("data").arg(&payload[..]);
                    let bytes = add.get_packed_command();
                    let _unheard = stream.lock().await.write_all(&bytes).await;
                }
            }
        }
        batch.iter().map(|_| Ok(())).collect()
    }
}

/// What is sent goes nowhere, and the line ends. The relay has nothing left, and the check sees that
/// nothing came.
async fn is_caught(proxy: &Proxy, line: Line) {
    proxy.black_hole(Way::ToServer);
    for key in 0..KEYS {
        line.change(key).await;
    }
    line.drained().await;
    proxy.cut().await;
    let lost = lab::check(&line.base.pool, true).await.unwrap_err();
    assert!(lost.ends_with("1 were committed, 0 heard"), "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob5_a_publisher_that_does_not_wait_for_rabbitmqs_confirm_is_caught() {
    let tally = tally::suite("OB5");
    let Some((name, bench, _)) = rabbitmq::fresh().await else {
        return;
    };
    let queue = name.as_str();
    bench.queue(queue, &[]).await;
    let (proxy, url) = through_a_proxy(name.url()).await;
    let hasty = rabbitmq::Bench::at(&url).await;
    let publisher = Hasty::Rabbit(hasty.channel.clone(), queue.to_owned());
    let Some(line) = Line::begin(publisher).await else {
        return;
    };
    is_caught(&proxy, line).await;
    assert_eq!(bench.drain(queue).await, Vec::<String>::new());
    // Ours says what is so.
    let connection = RabbitConnection::new(&url).unwrap();
    let publisher = RabbitPublisher::new(&connection, "").unwrap();
    let patience = Duration::from_millis(500);
    let publisher = to_queue(publisher.with_patience(patience).unwrap(), queue);
    let one = [super::delivery(1, super::message("t"))];
    assert!(publisher.publish(&one).await[0].is_err());
    tally.caught(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ob5_a_publisher_that_does_not_wait_for_redis_answer_is_caught() {
    let tally = tally::suite("OB5");
    let Some((prefix, connection)) = redis_streams::fresh().await else {
        return;
    };
    let name = redis_streams::prefix_of(&prefix);
    let (proxy, url) = through_a_proxy(prefix.url()).await;
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let key = redis_streams::stream(name);
    let publisher = Hasty::Redis(Arc::new(Mutex::new(stream)), key.clone());
    let honest = redis_streams::connection(&url).await;
    let Some(line) = Line::begin(publisher).await else {
        return;
    };
    is_caught(&proxy, line).await;
    let there: i64 = redis_streams::ask(&connection, &["XLEN", &key]).await;
    assert_eq!(there, 0);
    let publisher = RedisStreamPublisher::new(&honest, name, Trim::Nothing).unwrap();
    let publisher = publisher.with_patience(Duration::from_millis(500)).unwrap();
    let one = [super::delivery(1, super::message("t"))];
    assert!(publisher.publish(&one).await[0].is_err());
    tally.caught(1);
}
