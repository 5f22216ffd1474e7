//! What a user chooses: of the relay as a whole, and of each topic.

use std::{ops::RangeInclusive, time::Duration};

use buttress_retry_backoff::Backoff;

use crate::{PolicyError, machine::Limits};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How a relay works. What cannot work is refused when the relay is built.
///
/// | knob | default | range |
/// | --- | --- | --- |
/// | batch: messages read, published and settled at once, by one worker | 500 | 1 to 5000 |
/// | workers a topic | 2 | 1 to 16 |
/// | lease on lanes | 30 s | 300 ms to 1 h |
/// | poll: the longest pause between two reads of an idle topic | 1 s | 1 ms to 1 min |
/// | flush: the longest that an answer waits to be settled, while others are being published | 100 ms | 1 ms to 1 min |
/// | publish deadline: the longest a publisher may take for a batch | 10 s | 1 ms to 1 h |
#[derive(Clone, Debug, PartialEq)]
pub struct RelayPolicy {
    pub(crate) batch: u32,
    pub(crate) workers: u32,
    pub(crate) lease: Duration,
    pub(crate) poll: Duration,
    pub(crate) flush: Duration,
    pub(crate) publish: Duration,
}

impl Default for RelayPolicy {
    fn default() -> Self {
        Self {
            batch: 500,
            workers: 2,
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            flush: Duration::from_millis(100),
            publish: Duration::from_secs(10),
        }
    }
}

impl RelayPolicy {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Messages read, published and settled at once by one worker. So many are in memory.
    #[must_use]
    pub const fn with_batch(mut self, messages: u32) -> Self {
        self.batch = messages;
        self
    }

    /// Workers of each topic: while one waits for its publisher, the others go on in other lanes.
    #[must_use]
    pub const fn with_workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// For how long a lane is leased; extended each third of it. After a crash its messages wait
    /// so long.
    #[must_use]
    pub const fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The longest pause between two reads of an idle topic. Wake-ups make it shorter.
    #[must_use]
    pub const fn with_poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// The longest that an answer waits to be settled while others of its batch are published.
    #[must_use]
    pub const fn with_flush(mut self, flush: Duration) -> Self {
        self.flush = flush;
        self
    }

    /// The longest a publisher may take for a batch; then its future is dropped.
    #[must_use]
    pub const fn with_publish_deadline(mut self, deadline: Duration) -> Self {
        self.publish = deadline;
        self
    }

    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let milli = Duration::from_millis(1);
        number("batch", self.batch, 1..=5000, "1 to 5000")?;
        number("workers", self.workers, 1..=16, "1 to 16")?;
        let lease = Duration::from_millis(300)..=HOUR;
        time("lease", self.lease, lease, "300 ms to 1 h")?;
        let minute = Duration::from_secs(60);
        time("poll", self.poll, milli..=minute, "1 ms to 1 min")?;
        time("flush", self.flush, milli..=minute, "1 ms to 1 min")?;
        time(
            "publish deadline",
            self.publish,
            milli..=HOUR,
            "1 ms to 1 h",
        )
    }
}

/// What happens to the messages of one topic.
///
/// | knob | default | range |
/// | --- | --- | --- |
/// | verdicts after which a message is dead | 10 | 1 to 1000 |
/// | lone lapses after which a message is dead | 10 | 1 to 1000 |
/// | backoff between attempts of a message | exponential from 1 s, capped at 5 min, full jitter | any |
/// | backoff while the destination is down | exponential from 500 ms, capped at 30 s, full jitter | any |
/// | longest wait, also when a destination asks for more | 1 h | 1 ms to 30 days |
/// | after a message's death | its key waits | [`AfterDeath`] |
/// | what was delivered | is deleted at once | [`Retention`] |
/// | which messages wait for which | those of a key | [`TopicOrder`] |
#[derive(Clone, Debug, PartialEq)]
pub struct TopicPolicy {
    pub(crate) attempts: u32,
    pub(crate) lapses: u32,
    pub(crate) backoff: Backoff,
    pub(crate) outage: Backoff,
    pub(crate) longest_wait: Duration,
    pub(crate) after_death: AfterDeath,
    pub(crate) retention: Retention,
    pub(crate) order: TopicOrder,
}

/// Which messages of a topic wait for which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TopicOrder {
    /// Those of a key are delivered one after the other, and keys wait for none but themselves.
    #[default]
    ByKey,
    /// All messages of the topic are delivered one after the other, whatever their keys, in the
    /// order in which they were appended: a message that could be seen when another was appended
    /// comes before it. PostgreSQL alone can tell.
    ///
    /// One relay works, and one message is published at a time. A message waits until no
    /// transaction can commit one before it: each that has appended, to whichever topic, and does
    /// not end holds all behind it back ([`Counts::writers`](crate::Counts::writers),
    /// [`EventKind::HeldBack`](crate::EventKind::HeldBack)). A message that waits, for its time or
    /// its next attempt, holds back the whole topic; so does one that is dead, unless the policy
    /// says [`AfterDeath::Skip`].
    ///
    /// All relays of the topic must say the same. While one is at work that says otherwise, none
    /// of the others begins.
    Global,
}

/// What becomes of a key whose head is dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AfterDeath {
    /// The message goes to the dead letters, and its key waits until somebody requeues or skips
    /// it, or unblocks the key: nothing overtakes.
    #[default]
    Block,
    /// The message goes to the dead letters, and its key goes on without it.
    Skip,
    /// The message goes to the end of its key's line and is tried anew; its key goes on.
    Requeue,
}

/// What becomes of a message that was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retention {
    /// It is deleted in the commit that settles it.
    #[default]
    Delete,
    /// It is kept in a table beside for so long, and then pruned in batches by the relay.
    Keep(Duration),
}

impl Default for TopicPolicy {
    fn default() -> Self {
        let from = Backoff::exponential(Duration::from_secs(1));
        let outage = Backoff::exponential(Duration::from_millis(500));
        Self {
            attempts: 10,
            lapses: 10,
            backoff: from.with_cap(Duration::from_secs(5 * 60)),
            outage: outage.with_cap(Duration::from_secs(30)),
            longest_wait: HOUR,
            after_death: AfterDeath::Block,
            retention: Retention::Delete,
            order: TopicOrder::ByKey,
        }
    }
}

impl TopicPolicy {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// After how many verdicts about it a message is dead.
    #[must_use]
    pub const fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// After how many lapses, in a row and alone, a message is dead: it kills who publishes it.
    #[must_use]
    pub const fn with_lapses(mut self, lapses: u32) -> Self {
        self.lapses = lapses;
        self
    }

    /// How long a message waits between attempts.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long a destination that is down is left alone.
    #[must_use]
    pub fn with_outage_backoff(mut self, backoff: Backoff) -> Self {
        self.outage = backoff;
        self
    }

    /// The longest wait, whatever the backoff or the destination says.
    #[must_use]
    pub const fn with_longest_wait(mut self, wait: Duration) -> Self {
        self.longest_wait = wait;
        self
    }

    /// What becomes of a key whose head is dead.
    #[must_use]
    pub const fn after_death(mut self, then: AfterDeath) -> Self {
        self.after_death = then;
        self
    }

    /// What becomes of a message that was delivered.
    #[must_use]
    pub const fn with_retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Which messages of the topic wait for which.
    #[must_use]
    pub const fn with_order(mut self, order: TopicOrder) -> Self {
        self.order = order;
        self
    }

    pub(crate) fn is_one_line(&self) -> bool {
        self.order == TopicOrder::Global
    }

    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            failures: self.attempts,
            lapses: self.lapses,
        }
    }

    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        number("attempts", self.attempts, 1..=1000, "1 to 1000")?;
        number("lapses", self.lapses, 1..=1000, "1 to 1000")?;
        let longest = Duration::from_millis(1)..=30 * DAY;
        time(
            "longest wait",
            self.longest_wait,
            longest,
            "1 ms to 30 days",
        )?;
        if let Retention::Keep(kept) = self.retention {
            let kept_for = Duration::from_secs(1)..=3650 * DAY;
            time("retention", kept, kept_for, "1 s to 10 years")?;
        }
        if self.is_one_line() && self.after_death == AfterDeath::Requeue {
            // It would be overtaken by all.
            return Err(PolicyError::new(
                "after death",
                "block or skip, in one order of all",
            ));
        }
        Ok(())
    }
}

fn number(
    field: &'static str,
    value: u32,
    allowed: RangeInclusive<u32>,
    range: &'static str,
) -> Result<(), PolicyError> {
    if allowed.contains(&value) {
        Ok(())
    } else {
        Err(PolicyError::new(field, range))
    }
}

pub(crate) fn time(
    field: &'static str,
    value: Duration,
    allowed: RangeInclusive<Duration>,
    range: &'static str,
) -> Result<(), PolicyError> {
    if allowed.contains(&value) {
        Ok(())
    } else {
        Err(PolicyError::new(field, range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_with_its_field() {
        let relay = RelayPolicy::new;
        for (policy, field) in [
            (relay().with_batch(0), "batch"),
            (relay().with_batch(5001), "batch"),
            (relay().with_workers(17), "workers"),
            (relay().with_lease(Duration::from_millis(299)), "lease"),
            (relay().with_poll(Duration::ZERO), "poll"),
            (relay().with_flush(Duration::MAX), "flush"),
            (
                relay().with_publish_deadline(Duration::ZERO),
                "publish deadline",
            ),
        ] {
            assert_eq!(policy.check().unwrap_err().field(), field);
        }
        let topic = TopicPolicy::new;
        for (policy, field) in [
            (topic().with_attempts(0), "attempts"),
            (topic().with_lapses(1001), "lapses"),
            (topic().with_longest_wait(Duration::ZERO), "longest wait"),
            (
                topic().with_retention(Retention::Keep(Duration::ZERO)),
                "retention",
            ),
            (
                topic()
                    .with_order(TopicOrder::Global)
                    .after_death(AfterDeath::Requeue),
                "after death",
            ),
        ] {
            assert_eq!(policy.check().unwrap_err().field(), field);
        }
        assert!(relay().check().is_ok() && topic().check().is_ok());
    }
}
