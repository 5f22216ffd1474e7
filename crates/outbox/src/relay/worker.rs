//! A worker: turn after turn it takes lanes that nobody works on, and rests when there is nothing.

use std::{sync::Arc, time::Duration};

use buttress_store::StoreError;
use tokio::{sync::watch, time::sleep};

use super::{Pass, round::Round, run::TopicRun};

/// The shortest pause of an idle worker; it doubles up to the policy's poll.
const IDLE: Duration = Duration::from_millis(20);
/// After a read that found little: the next one shall find more.
const COLLECT: Duration = Duration::from_millis(5);
/// While a transaction holds back what is next: it may end at any time.
const HELD_BACK: Duration = Duration::from_millis(25);
/// After a store's failure.
const FAILED: Duration = Duration::from_millis(200);

/// What a turn came to.
pub(super) enum After {
    /// So many messages were read.
    Rows(usize),
    /// Some were, and the publisher tried none.
    Fruitless,
    Nothing,
    /// The destination is down or the topic is paused; how long at least.
    HeldUp(Duration),
    Failed(StoreError),
}

impl TopicRun {
    /// Until it is told to stop; what it has begun it ends.
    pub(super) async fn work(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut ear = self.store.wake.ear();
        let mut idle = IDLE;
        let mut busy = false;
        let many = usize::try_from(self.relay.batch / 4).unwrap_or_default();
        while !*stop.borrow() {
            let workers = usize::try_from(self.workers()).unwrap_or(1);
            let lanes = self.lanes().count().div_ceil(workers);
            let after = self.turn(lanes, busy, &mut Pass::default()).await;
            busy = matches!(after, After::Rows(rows) if rows >= many);
            let (rest, wakeful) = match after {
                After::Rows(rows) if rows >= many => {
                    idle = IDLE;
                    // A publisher that never waits must not keep others from their turn.
                    tokio::task::yield_now().await;
                    continue;
                }
                After::Rows(_) => {
                    idle = IDLE;
                    (COLLECT, false)
                }
                After::Fruitless => {
                    let rest = idle;
                    idle = (idle * 2).min(self.relay.poll);
                    (rest, false)
                }
                After::Nothing => {
                    let rest = self.until_something_is_due(idle);
                    idle = (idle * 2).min(self.relay.poll);
                    (rest, true)
                }
                After::HeldUp(wait) => (wait.max(IDLE), false),
                After::Failed(error) => {
                    let wait = error.retry_after().unwrap_or_default();
                    (wait.max(FAILED), false)
                }
            };
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                heard = ear.changed(), if wakeful => {
                    // The store that this relay holds keeps the other end.
                    let _ = heard;
                    idle = IDLE;
                }
                () = self.claimed.notified(), if wakeful => {}
                () = sleep(rest) => {}
            }
        }
    }

    fn until_something_is_due(&self, idle: Duration) -> Duration {
        let mut idle = idle.min(self.relay.poll);
        if self.is_held_back() {
            idle = idle.min(HELD_BACK * 2);
        }
        let now = self.clock.now();
        let due = self.lanes().next_full();
        due.map_or(idle, |due| due.saturating_since(now).max(COLLECT).min(idle))
    }

    /// One turn on at most so many lanes: read, publish, settle. `busy`: the last one found much.
    pub(super) async fn turn(&self, most: usize, busy: bool, pass: &mut Pass) -> After {
        if self.lanes().paused {
            return After::HeldUp(self.relay.poll);
        }
        let (down, left) = self.outage_left();
        if !left.is_zero() {
            return After::HeldUp(left);
        }
        let mut limit = self.relay.batch;
        let mut most = most;
        let mut probing = None;
        if down {
            // One worker asks, with one message, whether the destination is back.
            probing = self.probe.try_acquire().ok();
            if probing.is_none() {
                return After::HeldUp(self.relay.flush);
            }
            limit = 1;
            // Of all lanes, for the others are not asking: of a share that has no messages the
            // same one would be taken for ever.
            most = usize::MAX;
        }
        let mut work = self.lanes().check_out(self.clock.now(), most);
        if work.is_empty() {
            return After::Nothing;
        }
        let result = if !self.policy().is_one_line() {
            self.round(&mut work, limit, busy, pass).await
        } else if work.len() == usize::from(self.store.store.lanes().unsigned_abs()) {
            self.line_round(&mut work, limit, pass).await
        } else {
            // Some were lost: what is left is handed back, and all are claimed anew.
            Ok(Round::default())
        };
        let now = self.clock.now();
        if result.is_err() {
            // It may be another server from now on.
            self.bound().0.forget();
        }
        let mut lanes = self.lanes();
        for mut lane in work {
            let mut served = false;
            match &result {
                // Of a read that was cut off, a lane without rows may not have been reached.
                Ok(round) => served = !round.cut || round.served.contains(&lane.number()),
                Err(_) => lane.doubt(now),
            }
            lanes.check_in(lane, served);
        }
        drop((lanes, probing));
        match result {
            Ok(round) if round.held_up => After::HeldUp(self.outage_left().1),
            Ok(round) if round.rows == 0 && round.held_back => After::HeldUp(HELD_BACK),
            Ok(round) if round.rows == 0 => After::Nothing,
            Ok(round) if round.fruitless => After::Fruitless,
            Ok(round) => After::Rows(round.rows),
            Err(error) => {
                self.failed("turn", &error);
                After::Failed(error)
            }
        }
    }
}
