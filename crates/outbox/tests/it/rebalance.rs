//! Lanes are shared among the relays that are there: counted when one joins, and when it leaves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use buttress_outbox::{
    Event, EventKind, Message, Outbox, OutboxStore, Relay, RelayPolicy, publisher::in_process,
};
use buttress_testkit::eventually::eventually_as;
use tokio::{sync::watch, task::JoinHandle};

use crate::{base, lab, lab::TOPIC};

const LANES: i64 = 64;

struct Member {
    lanes: Arc<AtomicI64>,
    lost: Arc<AtomicI64>,
    heard: Arc<AtomicI64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Member {
    fn join(store: &OutboxStore) -> Self {
        let numbers: [Arc<AtomicI64>; 3] = Default::default();
        let [lanes, lost, heard] = numbers.clone();
        let hear = Arc::clone(&heard);
        let publisher = in_process(move |_| {
            hear.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        });
        let of = |count: &usize| i64::try_from(*count).unwrap();
        let relay = Relay::builder(&Outbox::new(store.clone()))
            .policy(
                RelayPolicy::new()
                    .with_lease(Duration::from_secs(3))
                    .with_poll(Duration::from_millis(20)),
            )
            .topic(TOPIC, publisher)
            .observe(move |event: &Event| match &event.kind {
                EventKind::Claimed { lanes, .. } => {
                    numbers[0].fetch_add(of(lanes), Ordering::SeqCst);
                }
                EventKind::HandedBack { lanes, .. } => {
                    numbers[0].fetch_sub(of(lanes), Ordering::SeqCst);
                }
                EventKind::Lost { lanes, .. } => {
                    numbers[0].fetch_sub(of(lanes), Ordering::SeqCst);
                    numbers[1].fetch_add(of(lanes), Ordering::SeqCst);
                }
                _ => {}
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
        Self {
            lanes,
            lost,
            heard,
            stop,
            task,
        }
    }

    fn lanes(&self) -> i64 {
        self.lanes.load(Ordering::SeqCst)
    }

    async fn leave(self) -> i64 {
        self.stop.send_replace(true);
        self.task.await.unwrap();
        assert_eq!(self.lanes.load(Ordering::SeqCst), 0, "all are handed back");
        assert_eq!(self.lost.load(Ordering::SeqCst), 0, "none is lost");
        self.heard.load(Ordering::SeqCst)
    }
}

/// The lanes of each, once they are all claimed and each has its share.
async fn shared(members: &[&Member], shares: &[i64]) {
    let name = format!("{} relays have {shares:?}", members.len());
    eventually_as(&name, Duration::from_secs(20), async || {
        let mut lanes: Vec<i64> = members.iter().map(|it| it.lanes()).collect();
        lanes.sort_unstable();
        (lanes == shares)
            .then_some(())
            .ok_or_else(|| format!("{lanes:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_are_shared_anew_when_a_relay_joins_and_when_it_leaves() {
    let Some(base) = base::on_postgres().await else {
        return;
    };
    let outbox = Outbox::new(base.store.clone());
    let append = async |from: u32| {
        let mut transaction = lab::begin(&base.pool).await.unwrap();
        let messages = (from..from + 100).map(|n| {
            let message = Message::builder(TOPIC, "/rebalance", "note");
            message.key(n.to_string()).build().unwrap()
        });
        let messages: Vec<Message> = messages.collect();
        let wake = outbox.append_all_in(&mut *transaction, &messages).await;
        transaction.commit().await.unwrap();
        wake.unwrap().fire();
    };
    let first = Member::join(&base.store);
    shared(&[&first], &[LANES]).await;
    append(0).await;
    let second = Member::join(&base.store);
    shared(&[&first, &second], &[32, 32]).await;
    append(100).await;
    let third = Member::join(&base.store);
    // A share is rounded up, so one has what is left.
    shared(&[&first, &second, &third], &[20, 22, 22]).await;
    append(200).await;
    let by_first = first.leave().await;
    shared(&[&second, &third], &[32, 32]).await;
    append(300).await;
    let by_second = second.leave().await;
    shared(&[&third], &[LANES]).await;
    let heard = async || {
        let all = by_first + by_second + third.heard.load(Ordering::SeqCst);
        if all == 400 { Ok(()) } else { Err(all) }
    };
    eventually_as("all is delivered, once", Duration::from_secs(20), heard).await;
    third.leave().await;
}
