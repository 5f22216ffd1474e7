//! Keeping lanes: heartbeats, claims, and handing over to relays that come.

use std::{sync::atomic::Ordering, time::Duration};

use buttress_core::Moment;
use buttress_store::StoreError;
use tokio::{sync::watch, time::sleep};

use super::run::TopicRun;
use crate::{EventKind, machine::fair_share};

/// How often free lanes are looked for while there are too few.
const LOOK: Duration = Duration::from_secs(1);
/// How soon a lane is asked for again that a worker had.
const BUSY: Duration = Duration::from_millis(20);

pub(super) struct Keeper<'r> {
    run: &'r TopicRun,
    beat_at: Moment,
    share: usize,
}

impl<'r> Keeper<'r> {
    pub(super) fn new(run: &'r TopicRun) -> Self {
        Self {
            run,
            beat_at: run.clock.now(),
            share: 0,
        }
    }

    /// Until all workers are done. It ends between two operations and never within one: a claim
    /// whose answer nobody hears would keep its lanes from everybody for a lease.
    pub(super) async fn keep(
        mut self,
        stop: watch::Receiver<bool>,
        mut done: watch::Receiver<bool>,
    ) {
        loop {
            let stopping = *stop.borrow();
            let pause = match self.tend(!stopping).await {
                Ok(pause) => pause,
                Err(error) => {
                    self.run.failed("heartbeat", &error);
                    let soon = (self.run.relay.lease / 10).min(LOOK);
                    error.retry_after().unwrap_or_default().max(soon)
                }
            };
            tokio::select! {
                biased;
                _ = done.wait_for(|done| *done) => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// The first beat, and the first claim.
    pub(super) async fn once(&mut self) -> Result<(), StoreError> {
        self.tend(true).await.map(drop)
    }

    /// Heartbeats alone, for ever: safe to drop.
    pub(super) async fn extend(mut self) {
        loop {
            let pause = self.tend(false).await.unwrap_or(LOOK);
            sleep(pause.max(BUSY)).await;
        }
    }

    /// Does what is due, and says when to come again.
    async fn tend(&mut self, claiming: bool) -> Result<Duration, StoreError> {
        let lease = self.run.relay.lease;
        if self.run.clock.now() >= self.beat_at {
            self.beat().await?;
            self.beat_at = self.run.clock.now().saturating_add(lease / 3);
        }
        let mut held = self.run.lanes().count();
        if claiming && held > 0 && held < self.share && self.run.policy().is_one_line() {
            // All or none: what is left of a lost claim is in nobody's way any more.
            self.hand_over(held).await?;
            held = self.run.lanes().count();
        }
        if claiming && held < self.share {
            self.claim(self.share - held).await?;
        }
        let too_many = self.run.lanes().count().saturating_sub(self.share);
        if claiming && too_many > 0 {
            self.hand_over(too_many).await?;
        }
        let held = self.run.lanes().count();
        let next = self.beat_at.saturating_since(self.run.clock.now());
        Ok(if held < self.share {
            next.min(LOOK)
        } else if held > self.share {
            next.min(BUSY)
        } else {
            next
        })
    }

    async fn beat(&mut self) -> Result<(), StoreError> {
        let run = self.run;
        let held = run.lanes().held();
        let trusted = self.trusted();
        let store = &run.store.store;
        let beat = store
            .beat(run.topic(), &run.id, run.relay.lease, &held)
            .await?;
        let relays = match run.policy().is_one_line() {
            // One has them all, and the others stand by.
            true => 1,
            false => beat.relays,
        };
        self.share = fair_share(store.lanes(), relays);
        let (lost, resumed) = {
            let mut lanes = run.lanes();
            let resumed = lanes.paused && !beat.paused;
            lanes.paused = beat.paused;
            (lanes.extended(&held, &beat.kept, trusted), resumed)
        };
        if lost > 0 {
            run.tell(|| EventKind::Lost { lanes: lost });
        }
        if resumed {
            run.claimed.notify_waiters();
        }
        Ok(())
    }

    async fn claim(&self, most: usize) -> Result<(), StoreError> {
        let run = self.run;
        run.open_ring().await?;
        let trusted = self.trusted();
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let store = &run.store.store;
        let claimed = if run.policy().is_one_line() {
            store.claim_all(run.topic(), run.relay.lease).await?
        } else {
            store.claim(run.topic(), run.relay.lease, most).await?
        };
        if claimed.is_empty() {
            return Ok(());
        }
        let now = run.clock.now();
        {
            let mut lanes = run.lanes();
            for claim in &claimed {
                lanes.claimed(claim, trusted, now, run.relay.batch);
            }
        }
        if claimed.iter().any(|it| it.ring) {
            run.has_ring.store(true, Ordering::Relaxed);
        }
        let lapsed = claimed.iter().filter(|it| it.lapsed).count();
        run.tell(|| EventKind::Claimed {
            lanes: claimed.len(),
            lapsed,
        });
        run.claimed.notify_waiters();
        Ok(())
    }

    /// Hands back lanes that nobody works on just now.
    async fn hand_over(&self, most: usize) -> Result<(), StoreError> {
        let run = self.run;
        let held = run.lanes().hand_back(most);
        if held.is_empty() {
            return Ok(());
        }
        run.store.store.release(run.topic(), &held).await?;
        run.tell(|| EventKind::HandedBack { lanes: held.len() });
        Ok(())
    }

    /// Until when a lease that is asked for now is believed in: hosts' clocks run at different
    /// speeds, and a pause may come between the look at the clock and the deed.
    fn trusted(&self) -> Moment {
        let lease = self.run.relay.lease;
        self.run.clock.now().saturating_add(lease - lease / 10)
    }
}
