//! A ring of pieces that are emptied as a whole, on PostgreSQL.

mod mixed;
mod order;
mod pieces;
mod switch;

use std::sync::{Arc, Mutex};

use buttress_outbox::{
    Delivery, Message, Outbox, PublishError, Relay, RelayBuilder, RelayPolicy,
    publisher::in_process,
};
use sqlx::{PgPool, Postgres};

use crate::base::{self, Base};

const TOPIC: &str = "t";

fn message(key: &str, name: &str) -> Message {
    let message = Message::builder(TOPIC, "/ring", name).key(key);
    message.build().unwrap()
}

async fn append(pool: &PgPool, outbox: &Outbox, messages: &[Message]) {
    let mut transaction = pool.begin().await.unwrap();
    let wake = outbox.append_all_in(&mut *transaction, messages);
    let wake = wake.await.unwrap();
    transaction.commit().await.unwrap();
    wake.fire();
}

/// What was delivered: key and name, in order.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(String, String)>>>);

impl Heard {
    /// A relay that writes down what it delivers, and says what it is told to say.
    fn relay(
        &self,
        outbox: &Outbox,
        say: impl Fn(&Delivery) -> Result<(), PublishError> + Send + Sync + 'static,
    ) -> RelayBuilder {
        self.relay_by(outbox, buttress_outbox::TopicPolicy::new(), say)
    }

    fn relay_by(
        &self,
        outbox: &Outbox,
        policy: buttress_outbox::TopicPolicy,
        say: impl Fn(&Delivery) -> Result<(), PublishError> + Send + Sync + 'static,
    ) -> RelayBuilder {
        let heard = Arc::clone(&self.0);
        let publisher = in_process(move |delivery: Delivery| {
            let said = say(&delivery);
            if said.is_ok() {
                let message = delivery.message();
                let key = message.key().unwrap().as_bytes();
                let key = String::from_utf8_lossy(key).into_owned();
                let name = message.event_type().to_owned();
                heard.lock().unwrap().push((key, name));
            }
            std::future::ready(said)
        });
        let quick = RelayPolicy::new().with_poll(std::time::Duration::from_millis(20));
        Relay::builder(outbox)
            .policy(quick)
            .topic_with(TOPIC, policy, publisher)
    }

    fn of(&self, key: &str) -> Vec<String> {
        let heard = self.0.lock().unwrap();
        let of_key = heard.iter().filter(|it| it.0 == key);
        of_key.map(|it| it.1.clone()).collect()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// An outbox whose topic has a ring, which messages go to.
async fn open(piece: u32) -> Option<(Base<Postgres>, Outbox)> {
    let base = base::on_ring(&[TOPIC], piece).await?;
    let outbox = Outbox::new(base.store.clone());
    let relay = Heard::default().relay(&outbox, |_| Ok(())).build().unwrap();
    relay.run_once().await.unwrap();
    Some((base, outbox))
}

async fn streamed(base: &Base<Postgres>) -> i64 {
    base::rows(&base.pool, "buttress_outbox_stream").await
}

async fn in_table(base: &Base<Postgres>) -> i64 {
    base::rows(&base.pool, "buttress_outbox").await
}
