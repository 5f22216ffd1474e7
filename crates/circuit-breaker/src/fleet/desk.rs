//! One breaker of a fleet: what it says, and what is made of what the others say.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use buttress_core::Moment;
use buttress_store::{
    StoreError,
    board::{Heard, Seat},
};

use super::{FleetEventKind, FleetView, wire};
use crate::{
    Counts, State,
    breaker::Core,
    cell::Seen,
    machine::{
        Limits,
        fleet::{Agreement, Opinion, Tally, Verdict},
    },
};

pub(super) struct Desk {
    pub(super) breaker: Weak<Core>,
    pub(super) seat: Seat,
    watch: Mutex<Watch>,
}

/// What was counted when it was last looked at.
#[derive(Clone, Copy)]
struct Watch {
    counts: Counts,
    /// When that was.
    looked: Moment,
    /// Not after the last call that was counted.
    changed: Moment,
    /// What it saw itself when the fleet opened it.
    saw: Option<Saw>,
    members: usize,
    tally: Tally,
}

/// So many calls, too few to open by, before it was opened in this generation.
#[derive(Clone, Copy)]
struct Saw {
    generation: u64,
    calls: u64,
    changed: Moment,
}

impl Desk {
    pub(super) fn new(core: &Arc<Core>, seat: Seat) -> Self {
        let now = core.now();
        Self {
            breaker: Arc::downgrade(core),
            seat,
            watch: Mutex::new(Watch {
                counts: core.cell.counts(now),
                looked: now,
                changed: now,
                saw: None,
                members: 0,
                tally: Tally::default(),
            }),
        }
    }

    /// Says what this one sees, hears the others, and does what follows. Nothing when the breaker
    /// is gone.
    pub(super) async fn exchange(
        &self,
        agreement: &Agreement,
    ) -> Result<Option<FleetEventKind>, StoreError> {
        let Some(core) = self.breaker.upgrade() else {
            return Ok(None);
        };
        let says = |now| {
            let counts = core.cell.counts(now);
            let opinion = self.opinion(&core, &core.cell.seen(), &counts, now);
            Some(wire::written(&opinion, &counts))
        };
        let heard = self.seat.exchange(says).await?;
        Ok(self.heard(&core, &heard, agreement))
    }

    fn opinion(&self, core: &Core, seen: &Seen, counts: &Counts, now: Moment) -> Opinion {
        let changed = self.watched(counts, now);
        if seen.is_open_by_itself() {
            let rest = seen.until.saturating_since(now);
            if rest.is_zero() {
                return Opinion::Silent;
            }
            let since = now.saturating_since(seen.steps.opened);
            return Opinion::Open { since, rest };
        }
        if seen.is_open_by_fleet() {
            // Its own calls were among those that were added up: the others need them as well.
            let saw = self
                .watch()
                .saw
                .filter(|it| it.generation == seen.generation);
            return saw.map_or(Opinion::Silent, |saw| Opinion::Failing {
                calls: saw.calls,
                since: now.saturating_since(saw.changed),
            });
        }
        if seen.state != State::Closed {
            return Opinion::Silent;
        }
        let limits: Limits = core.cell.limits().get();
        if limits.reached(counts).next().is_some() {
            let since = now.saturating_since(changed);
            let (calls, _) = counts.weighed();
            return Opinion::Failing { calls, since };
        }
        match counts.calls > 0 || !core.policy().has_window() {
            true => Opinion::Well,
            false => Opinion::Silent,
        }
    }

    /// Not after the last call that is in these counts.
    fn watched(&self, counts: &Counts, now: Moment) -> Moment {
        let mut watch = self.watch();
        if watch.counts != *counts {
            watch.counts = *counts;
            watch.changed = watch.looked;
        }
        watch.looked = now;
        watch.changed
    }

    fn heard(&self, core: &Core, heard: &Heard, agreement: &Agreement) -> Option<FleetEventKind> {
        let (now, seen) = (core.now(), core.cell.seen());
        let own = self.opinion(core, &seen, &core.cell.counts(now), now);
        let others = heard.others.iter();
        let others = others.filter_map(|it| Some((wire::read(&it.body)?, it.age)));
        // Ages are told as of the moment at which it was asked, however late the answer came.
        let healed = core.closed_at(&seen);
        let healed = healed.map(|it| heard.sent.saturating_since(it));
        let all = others.chain(std::iter::once((own, Duration::ZERO)));
        let tally = agreement.tally(all, healed);
        {
            let mut watch = self.watch();
            watch.members = heard.others.len() + 1;
            watch.tally = tally;
        }
        let (name, key) = (|| core.name.clone(), || core.key.clone());
        match tally.verdict {
            Verdict::Open(rest) if seen.state == State::Closed => {
                let until = rest.map(|rest| heard.sent.saturating_add(rest));
                let generation = core.open_by_fleet(&seen, until)?;
                if let Opinion::Failing { calls, .. } = own {
                    let mut watch = self.watch();
                    watch.saw = Some(Saw {
                        generation,
                        calls,
                        changed: watch.changed,
                    });
                }
                Some(FleetEventKind::Opened {
                    name: name(),
                    key: key(),
                    voters: tally.voters,
                    against: tally.open + tally.failing,
                })
            }
            Verdict::Well if seen.is_open_by_fleet() => core
                .cell
                .hasten(seen.generation, now)
                .then(|| FleetEventKind::Hastened {
                    name: name(),
                    key: key(),
                }),
            _ => None,
        }
    }

    pub(super) fn view(&self) -> Option<FleetView> {
        let core = self.breaker.upgrade()?;
        let watch = *self.watch();
        Some(FleetView {
            name: core.name.clone(),
            key: core.key.clone(),
            members: watch.members,
            voters: watch.tally.voters,
            open: watch.tally.open,
            failing: watch.tally.failing,
        })
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
