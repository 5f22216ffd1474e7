//! One round of the half-open state: so many probes, and what they show.

use std::time::Duration;

use buttress_core::Moment;

use super::{counts::Counts, sample::Sample};
use crate::{Cause, Rate};

/// How a round is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// As many probes may be out or settled.
    pub(crate) permits: u32,
    pub(crate) decides: Decides,
    /// How long a round may last.
    pub(crate) limit: Option<Duration>,
}

/// What decides a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decides {
    /// The shares of failed and of slow probes among all permits.
    Rates {
        failed: Option<Rate>,
        slow: Option<Rate>,
    },
    /// All permits must succeed, and the first that does not fails the round. Slow is a failure
    /// where slow calls open the breaker.
    AllSucceed { slow_fails: bool },
}

/// What the probes of one round came to so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// Permits that are out or settled; given back ones are not among them.
    issued: u32,
    succeeded: u32,
    failed: u32,
    slow: u32,
    /// Dropped without a verdict. Their slots were given back.
    abandoned: u32,
    ends: Option<Moment>,
}

/// What a round has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed(Cause),
}

impl Round {
    pub(crate) fn begin(rules: &Rules, now: Moment) -> Self {
        Self {
            issued: 0,
            succeeded: 0,
            failed: 0,
            slow: 0,
            abandoned: 0,
            ends: rules.limit.map(|limit| now.saturating_add(limit)),
        }
    }

    pub(crate) fn is_over(&self, now: Moment) -> bool {
        self.ends.is_some_and(|ends| now >= ends)
    }

    /// Gives a permit, if there is one.
    pub(crate) const fn admit(&mut self, rules: &Rules) -> bool {
        let free = self.issued < rules.permits;
        if free {
            self.issued += 1;
        }
        free
    }

    /// Takes a permit back that came to nothing.
    pub(crate) const fn give_back(&mut self) {
        self.issued = self.issued.saturating_sub(1);
    }

    /// What its probes came to.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            calls: u64::from(self.succeeded + self.failed) + u64::from(self.abandoned),
            failed: self.failed.into(),
            slow: self.slow.into(),
            slow_failed: 0,
            abandoned: self.abandoned.into(),
        }
    }

    /// Counts a result, and judges as soon as the rest cannot change the judgement.
    pub(crate) fn settle(&mut self, rules: &Rules, sample: Sample) -> Option<Verdict> {
        if sample.is_abandoned() {
            self.give_back();
            self.abandoned = self.abandoned.saturating_add(1);
        } else {
            let slow_fails = matches!(rules.decides, Decides::AllSucceed { slow_fails: true });
            let failed = sample.is_failed() || (slow_fails && sample.is_slow());
            self.failed += u32::from(failed);
            self.succeeded += u32::from(!failed);
            self.slow += u32::from(sample.is_slow());
        }
        self.verdict(rules)
    }

    fn verdict(&self, rules: &Rules) -> Option<Verdict> {
        let done = self.failed + self.succeeded;
        // All went, and most were dropped: nobody waits for this target's answers.
        let spent = done.saturating_add(self.abandoned) >= rules.permits;
        if spent && u64::from(self.abandoned) * 2 > u64::from(rules.permits) {
            return Some(Verdict::Failed(Cause::ProbesAbandoned));
        }
        match rules.decides {
            Decides::Rates { failed, slow } => {
                let rest = rules.permits.saturating_sub(done);
                let reached = |rate: Option<Rate>, count: u32| {
                    rate.is_some_and(|it| it.is_reached_by(count.into(), rules.permits.into()))
                };
                if reached(failed, self.failed) || reached(slow, self.slow) {
                    return Some(Verdict::Failed(Cause::ProbesFailed));
                }
                let safe = !reached(failed, self.failed + rest) && !reached(slow, self.slow + rest);
                safe.then_some(Verdict::Passed)
            }
            Decides::AllSucceed { .. } => {
                if self.failed > 0 {
                    return Some(Verdict::Failed(Cause::ProbesFailed));
                }
                (self.succeeded >= rules.permits).then_some(Verdict::Passed)
            }
        }
    }
}
