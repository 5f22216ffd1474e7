//! A low id that is committed late: what follows it in its key does not overtake it.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_outbox::{Message, Outbox, Relay, RelayPolicy, publisher::in_process};
use buttress_testkit::eventually;

use crate::base;

const ROUNDS: usize = 5;
const FILL: usize = 200;

fn message(key: &str, name: &str) -> Message {
    let message = Message::builder("t", "/late", name).key(key);
    message.build().unwrap()
}

macro_rules! late {
    ($claim:ident, $base:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $claim() {
            let Some(base) = base::$base().await else {
                return;
            };
            let outbox = Outbox::new(base.store.clone());
            let seen = Arc::new(Mutex::new(Vec::<String>::new()));
            let heard = Arc::clone(&seen);
            let publisher = in_process(move |delivery| {
                let name = delivery.message().event_type().to_owned();
                heard.lock().unwrap().push(name);
                std::future::ready(Ok(()))
            });
            let policy = RelayPolicy::new().with_poll(Duration::from_millis(20));
            let relay = Relay::builder(&outbox).policy(policy).topic("t", publisher);
            let relay = relay.build().unwrap();
            let relaying = tokio::spawn(async move { relay.run_until(pending::<()>()).await });
            let count = |name: &str| {
                let seen = seen.lock().unwrap();
                seen.iter().filter(|it| it.starts_with(name)).count()
            };
            for round in 0..ROUNDS {
                let key = format!("key {round}");
                let mut first = base.pool.begin().await.unwrap();
                let one = message(&key, &format!("round {round}, first"));
                let _later = outbox.append_in(&mut *first, &one).await.unwrap();
                // The neighbours, in every lane, get greater ids, are committed, and are read.
                let fill = (0..FILL).map(|n| message(&format!("fill {round} {n}"), "fill"));
                let fill: Vec<_> = fill.collect();
                let mut between = base.pool.begin().await.unwrap();
                let wake = outbox.append_all_in(&mut *between, &fill).await.unwrap();
                between.commit().await.unwrap();
                wake.fire();
                eventually(
                    "the neighbours are read",
                    Duration::from_secs(30),
                    async || (count("fill") == FILL * (round + 1)).then_some(()),
                )
                .await;
                // The writers of the key take turns: one has committed when the other begins.
                first.commit().await.unwrap();
                let mut second = base.pool.begin().await.unwrap();
                let other = message(&key, &format!("round {round}, second"));
                let wake = outbox.append_in(&mut *second, &other).await.unwrap();
                second.commit().await.unwrap();
                wake.fire();
                eventually("both are read", Duration::from_secs(30), async || {
                    (count("round") == 2 * (round + 1)).then_some(())
                })
                .await;
            }
            relaying.abort();
            let seen = seen.lock().unwrap();
            let order: Vec<_> = seen.iter().filter(|it| it.starts_with("round")).collect();
            assert!(order.is_sorted(), "overtaken: {order:?}");
        }
    };
}

late!(
    a_late_commit_is_not_overtaken_in_its_key_on_postgres,
    on_postgres
);
late!(
    a_late_commit_is_not_overtaken_in_its_key_on_mariadb,
    on_mariadb
);
