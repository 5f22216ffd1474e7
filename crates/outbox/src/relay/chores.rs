//! What a relay does beside delivering: pruning what was kept, emptying pieces of the ring. No
//! heartbeat waits for it.

use std::{sync::atomic::Ordering, time::Duration};

use buttress_core::Moment;
use tokio::{sync::watch, time::sleep};

use super::run::TopicRun;
use crate::{EventKind, Retention};

/// How often what was kept is pruned.
const PRUNE: Duration = Duration::from_secs(30);
/// How much at once, and how often in a row.
const PRUNED: (u32, u32) = (1000, 20);
/// How often pieces of the ring are looked at.
const TRUNCATE: Duration = Duration::from_secs(5);
/// The shortest pause.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Chores<'r> {
    run: &'r TopicRun,
    prune_at: Moment,
    truncate_at: Moment,
}

impl<'r> Chores<'r> {
    pub(super) fn new(run: &'r TopicRun) -> Self {
        let now = run.clock.now();
        Self {
            run,
            prune_at: now.saturating_add(PRUNE),
            truncate_at: now.saturating_add(TRUNCATE),
        }
    }

    /// Until it is told to stop; what it is at then is dropped.
    pub(super) async fn until(mut self, mut stop: watch::Receiver<bool>) {
        let chores = async {
            loop {
                self.prune().await;
                self.truncate().await;
                let next = self.prune_at.min(self.truncate_at);
                let pause = next.saturating_since(self.run.clock.now());
                sleep(pause.max(PAUSE)).await;
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = chores => {}
        }
    }

    /// Empties pieces of the ring in which all is settled: its topics' relays take turns.
    async fn truncate(&mut self) {
        let run = self.run;
        let now = run.clock.now();
        if now < self.truncate_at {
            return;
        }
        self.truncate_at = now.saturating_add(TRUNCATE);
        if !run.has_ring.load(Ordering::Relaxed) {
            return;
        }
        match run.store.store.truncate().await {
            Ok(done) => {
                if done.pieces > 0 {
                    run.tell(|| EventKind::Truncated {
                        pieces: done.pieces,
                    });
                }
                if done.busy > 0 {
                    // Who reads is kept waiting by who waits for the readers.
                    self.truncate_at = now.saturating_add(PRUNE);
                }
                if done.pinned + done.busy > 0 {
                    run.tell(|| EventKind::Pinned {
                        pieces: done.pinned + done.busy,
                        busy: done.busy,
                    });
                }
            }
            Err(error) => run.failed("truncate", &error),
        }
    }

    async fn prune(&mut self) {
        let run = self.run;
        if run.clock.now() < self.prune_at {
            return;
        }
        self.prune_at = run.clock.now().saturating_add(PRUNE);
        let kept = match run.policy().retention {
            Retention::Keep(kept) => kept,
            // Nothing of this topic is kept, unless it was by another policy.
            Retention::Delete => Duration::MAX,
        };
        for _ in 0..PRUNED.1 {
            match run.store.store.prune(run.topic(), kept, PRUNED.0).await {
                Ok(pruned) if pruned < u64::from(PRUNED.0) => return,
                Ok(_) => {}
                Err(error) => return run.failed("prune", &error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize},
    };

    use async_trait::async_trait;
    use buttress_core::Clock;
    use buttress_store::{Dialect, Fence, Lent, MigrateError, StoreError, Token};

    use super::*;
    use crate::{
        Event, Outbox, OutboxStore, Relay, Topic, TopicPolicy,
        operations::{Counts, DeadRow, PastRow, WaitingRow},
        publisher::in_process,
        store::{
            AsideRow, Beat, Bounds, Claimed, Held, LeaveOut, NewRow, Row, Settlement, Store,
            Truncated,
        },
        wake::Wake,
    };

    const LANES: i16 = 4;

    /// A database without messages, in which chores take their time. Its leases lapse.
    struct Slow {
        clock: Clock,
        until: Mutex<Moment>,
        pruned: AtomicU32,
        truncated: AtomicU32,
    }

    impl Slow {
        /// The lease goes on from now, if it has not lapsed.
        fn extend(&self, lease: Duration) -> bool {
            let now = self.clock.now();
            let mut until = self.until.lock().unwrap();
            let held = now < *until;
            *until = now.saturating_add(lease);
            held
        }
    }

    #[async_trait]
    impl Store for Slow {
        async fn prune(&self, _: &Topic, _: Duration, most: u32) -> Result<u64, StoreError> {
            sleep(Duration::from_secs(4)).await;
            self.pruned.fetch_add(1, Ordering::SeqCst);
            Ok(most.into())
        }

        async fn truncate(&self) -> Result<Truncated, StoreError> {
            sleep(Duration::from_secs(12)).await;
            self.truncated.fetch_add(1, Ordering::SeqCst);
            Ok(Truncated::default())
        }

        async fn claim(
            &self,
            _: &Topic,
            lease: Duration,
            _: u32,
        ) -> Result<Vec<Claimed>, StoreError> {
            self.extend(lease);
            let fence = Fence::new(1, Token::from_bytes([7; 16]));
            let claimed = |lane| Claimed {
                held: Held { lane, fence },
                lapsed: false,
                alone: None,
                ring: true,
            };
            Ok((0..LANES).map(claimed).collect())
        }

        async fn beat(
            &self,
            _: &Topic,
            _: &[u8; 16],
            lease: Duration,
            held: &[Held],
        ) -> Result<Beat, StoreError> {
            let kept = self.extend(lease);
            let kept = held.iter().filter(|_| kept).map(|it| it.lane);
            Ok(Beat {
                kept: kept.collect(),
                relays: 1,
                paused: false,
            })
        }

        fn dialect(&self) -> Dialect {
            Dialect::Postgres
        }
        fn bounds(&self) -> Bounds {
            Bounds::Unknown
        }
        fn lanes(&self) -> i16 {
            LANES
        }
        fn print(&self) -> String {
            String::new()
        }
        async fn migrate(&self) -> Result<(), MigrateError> {
            Ok(())
        }
        async fn check(&self) -> Result<(), MigrateError> {
            Ok(())
        }
        async fn append(&self, _: Lent<'_>, _: &[NewRow<'_>]) -> Result<(), StoreError> {
            Ok(())
        }
        async fn prepare(&self, _: &Topic) -> Result<(), StoreError> {
            Ok(())
        }
        async fn release(&self, _: &Topic, _: &[Held]) -> Result<(), StoreError> {
            Ok(())
        }
        async fn leave(&self, _: &Topic, _: &[u8; 16]) -> Result<(), StoreError> {
            Ok(())
        }
        async fn asides(&self, _: &Topic, _: &[i16], _: u32) -> Result<Vec<AsideRow>, StoreError> {
            Ok(Vec::new())
        }
        async fn window(
            &self,
            _: &Topic,
            _: &[(i16, i64)],
            _: LeaveOut,
            _: u32,
            _: u32,
        ) -> Result<Vec<Row>, StoreError> {
            Ok(Vec::new())
        }
        async fn alone(&self, _: &Topic, _: Held, _: i64) -> Result<bool, StoreError> {
            Ok(true)
        }
        async fn settle(&self, _: &Topic, _: Settlement) -> Result<Vec<i16>, StoreError> {
            Ok(Vec::new())
        }
        async fn counts(&self, _: &Topic) -> Result<Counts, StoreError> {
            Ok(Counts::default())
        }
        async fn dead(&self, _: &Topic, _: i64, _: u32) -> Result<Vec<DeadRow>, StoreError> {
            Ok(Vec::new())
        }
        async fn history(&self, _: &Topic, _: i64, _: u32) -> Result<Vec<PastRow>, StoreError> {
            Ok(Vec::new())
        }
        async fn requeue(&self, _: &Topic, _: i64, _: Option<Vec<u8>>) -> Result<bool, StoreError> {
            Ok(true)
        }
        async fn skip(&self, _: &Topic, _: i64) -> Result<bool, StoreError> {
            Ok(true)
        }
        async fn waiting(&self, _: &Topic, _: u32) -> Result<Vec<WaitingRow>, StoreError> {
            Ok(Vec::new())
        }
        async fn unblock(&self, _: &Topic, _: i16, _: &[u8]) -> Result<bool, StoreError> {
            Ok(true)
        }
        async fn pause(&self, _: &Topic, _: Option<&str>) -> Result<(), StoreError> {
            Ok(())
        }
        async fn take(&self, _: Lent<'_>, _: &[u8], _: &[u8]) -> Result<bool, StoreError> {
            Ok(true)
        }
        async fn was_taken(&self, _: &[u8], _: &[u8]) -> Result<bool, StoreError> {
            Ok(true)
        }
        async fn prune_inbox(&self, _: &[u8], _: Duration, _: u32) -> Result<u64, StoreError> {
            Ok(0)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_lane_is_lost_over_pruning_and_truncating_and_a_stop_does_not_wait_for_them() {
        let clock = Clock::tokio();
        let slow = Arc::new(Slow {
            until: Mutex::new(clock.now()),
            clock: clock.clone(),
            pruned: AtomicU32::new(0),
            truncated: AtomicU32::new(0),
        });
        let outbox = Outbox::new(OutboxStore {
            store: slow.clone(),
            wake: Wake::default(),
            announcer: None,
            rings: Arc::default(),
        });
        let lost = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&lost);
        let kept = Retention::Keep(Duration::from_secs(60));
        let policy = TopicPolicy::new().with_retention(kept);
        let relay = Relay::builder(&outbox)
            .topic_with("t", policy, in_process(|_| async { Ok(()) }))
            .observe(move |event: &Event| {
                if let EventKind::Lost { lanes } = event.kind {
                    seen.fetch_add(lanes, Ordering::SeqCst);
                }
            })
            .build()
            .unwrap();
        let begun = clock.now();
        let told = Duration::from_secs(301);
        relay.run_until(sleep(told)).await;
        let took = clock.now().saturating_since(begun);
        assert!(took < told + Duration::from_secs(1), "{took:?}");
        assert_eq!(lost.load(Ordering::SeqCst), 0);
        assert!(slow.pruned.load(Ordering::SeqCst) >= 20);
        assert!(slow.truncated.load(Ordering::SeqCst) >= 2);
    }
}
