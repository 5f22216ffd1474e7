//! One order of all keys on PostgreSQL: what its tests share.

mod held_back;
mod interleavings;
mod relays;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_outbox::{
    Delivery, Message, Outbox, PublishError, Relay, RelayPolicy, TopicOrder, TopicPolicy,
    publisher::in_process,
};
use buttress_retry_backoff::Backoff;
use sqlx::PgPool;

const PATIENCE: Duration = Duration::from_secs(120);

fn in_one_line() -> TopicPolicy {
    let policy = TopicPolicy::new().with_order(TopicOrder::Global);
    policy.with_backoff(Backoff::none())
}

fn quick() -> RelayPolicy {
    RelayPolicy::new().with_poll(Duration::from_millis(20))
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

async fn furnish(pool: &PgPool) {
    let table = sqlx::raw_sql("CREATE TABLE business (writer INTEGER NOT NULL)");
    table.execute(pool).await.unwrap();
}
