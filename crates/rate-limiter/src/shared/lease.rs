//! Slices of permits that an instance took, and gives out without asking.

use std::{hash::RandomState, sync::Arc, time::Duration};

use buttress_core::Clock;
use tokio::sync::Semaphore;

use crate::{
    Decision, SharedError,
    keyed::table::{Hashing, State, Table},
    store::Answer,
};

/// How many permits are taken at once, and how long they keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseRule {
    pub(super) slice: u64,
    /// Nanoseconds.
    pub(super) life: u64,
}

pub(super) struct Leases {
    table: Table<Vec<u8>, Leased>,
    rule: LeaseRule,
}

/// What this instance has of one key.
struct Leased {
    left: u64,
    until: u64,
    /// Nothing is to be had before that, for so many permits or more.
    refused: Option<(u64, u64, Decision)>,
    /// What the store said last.
    last: Option<Decision>,
    /// Whoever asks the store for more; the others wait for what he brings.
    asking: Option<Arc<Semaphore>>,
}

impl Leased {
    /// Decides by what is here, if that can be.
    fn decide(&mut self, permits: u64, now: u64) -> Option<Decision> {
        if now < self.until
            && self.left >= permits
            && let Some(last) = self.last
        {
            self.left -= permits;
            return Some(last.granted_of(self.left));
        }
        let (until, least, decision) = self.refused?;
        let holds = now < until && permits >= least;
        holds.then(|| decision.refused_for(Duration::from_nanos(until - now)))
    }
}

impl State for Leased {
    type Rules = LeaseRule;

    fn fresh(_: &LeaseRule) -> Self {
        Self {
            left: 0,
            until: 0,
            refused: None,
            last: None,
            asking: None,
        }
    }

    /// A slice that is being asked for must not be forgotten, or two would ask.
    fn left(&mut self, _: &LeaseRule, now: u64) -> u64 {
        if self
            .asking
            .as_ref()
            .is_some_and(|it| Arc::strong_count(it) > 1)
        {
            return u64::MAX;
        }
        let refused = self.refused.map_or(0, |(until, _, _)| until);
        self.until.max(refused).saturating_sub(now)
    }
}

enum Local {
    Decided(Decision),
    Ask(Arc<Semaphore>),
}

impl Leases {
    pub(super) fn new(rule: LeaseRule, keys: usize) -> Self {
        let hashing = Hashing::Hostile(RandomState::new());
        Self {
            table: Table::new(&rule, keys, hashing),
            rule,
        }
    }

    /// What is known here of `key`, without asking: out of a slice, or a refusal that still holds.
    /// Nothing is kept of a key that is not known.
    pub(super) fn held(&self, key: &[u8], permits: u64, clock: &Clock) -> Option<Decision> {
        if permits == 0 {
            return None;
        }
        let now = || clock.now().as_nanos();
        self.table
            .peek(key, now, |_, leased, now| leased.decide(permits, now))
    }

    /// Takes `permits` of what is leased, or asks the store for a slice: one at a time for each key.
    pub(super) async fn take<F>(
        &self,
        key: &[u8],
        permits: u64,
        clock: &Clock,
        ask: impl Fn(u64, u64) -> F,
    ) -> Result<Decision, SharedError>
    where
        F: Future<Output = Result<Answer, SharedError>>,
    {
        let asking = match self.local(key, permits, clock) {
            Local::Decided(decision) => return Ok(decision),
            Local::Ask(asking) => asking,
        };
        // Closed by nobody. Who is dropped here, or while the store is asked, lets the next one ask.
        let _turn = asking.acquire().await;
        if let Local::Decided(decision) = self.local(key, permits, clock) {
            return Ok(decision);
        }
        // The slice counts from before it was asked for, so it is given up early rather than late.
        let now = clock.now().as_nanos();
        let answer = ask(permits, self.rule.slice.max(permits)).await?;
        let (decision, granted) = (answer.decision, answer.granted);
        let visit = self.table.visit(
            key,
            || (now, now),
            |rule, leased, _| {
                leased.last = Some(decision);
                if granted >= permits && decision.is_allowed() {
                    let kept = if now < leased.until { leased.left } else { 0 };
                    leased.left = kept.saturating_add(granted - permits);
                    leased.until = now.saturating_add(rule.life);
                    leased.refused = None;
                } else if let Some(wait) = decision.retry_after() {
                    // No longer than a slice lives: another may give permits back.
                    let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
                    let until = now.saturating_add(wait.min(rule.life));
                    leased.refused = Some((until, permits, decision));
                }
            },
        );
        let () = visit.result;
        Ok(decision)
    }

    pub(super) fn forget(&self, key: &[u8]) {
        self.table.remove(key);
    }

    fn local(&self, key: &[u8], permits: u64, clock: &Clock) -> Local {
        let now = clock.now().as_nanos();
        let visit = self.table.visit(
            key,
            || (now, now),
            |_, leased, at| {
                if let Some(decision) = leased.decide(permits, at.0) {
                    return Local::Decided(decision);
                }
                let asking = leased
                    .asking
                    .get_or_insert_with(|| Arc::new(Semaphore::new(1)));
                Local::Ask(Arc::clone(asking))
            },
        );
        visit.result
    }
}
