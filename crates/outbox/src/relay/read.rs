//! Reading a turn's lanes: from where, how many at once, and what is known of them afterwards.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use buttress_core::Moment;
use buttress_store::StoreError;

use super::{
    lanes::{DEEP_READ, FULL_READ, Known, Lane},
    ring::Stretch,
    run::TopicRun,
};
use crate::store::{Bounds, LeaveOut, Reach, Row};

/// So many set-aside keys a turn's lanes are remembered; with more, every read is a full one.
const REMEMBERED: u32 = 10_000;
/// Of one lane at least so many rows are read at once.
const PER_LANE: u32 = 32;
/// How often it is looked at who writes.
const LOOK: Duration = Duration::from_millis(250);
/// How long not, after that has failed.
const LOOK_FAILED: Duration = Duration::from_secs(10);
/// No look takes as long: a store's deadline is shorter.
const LOOKING: Duration = Duration::from_secs(60);
/// Reads that begin at the start, where they need not, take at most this part of the time.
const DEEP_PART: u32 = 20;

/// Rows, and the lanes of which all was read that there was room for.
#[derive(Default)]
struct Part {
    rows: Vec<Row>,
    reached: HashSet<i16>,
    /// Of which there is no more up to where they are read.
    complete: HashSet<i16>,
}

/// What a turn has read.
pub(super) struct Read {
    pub(super) rows: HashMap<i16, Vec<Row>>,
    /// The same of the stream alone, of lanes that have any of it.
    pub(super) stretches: Vec<Stretch>,
}

impl TopicRun {
    /// Reads from the lanes: those whose time has come with all that is due, the others from their
    /// lower bound. While there is much to do, lanes that were empty are looked at with the next
    /// full read.
    pub(super) async fn read(
        &self,
        work: &mut [Lane],
        limit: u32,
        busy: bool,
    ) -> Result<Read, StoreError> {
        // Known before it is read: what is decided by now, this read sees.
        let undecided = match work.iter().any(|lane| lane.ring) {
            true => self.undecided_now(busy).await,
            false => self.undecided().await,
        };
        let now = self.clock.now();
        let whole = |lane: &Lane| lane.crowded || now >= lane.full_at;
        let passed_over = |lane: &Lane| busy && lane.empty && !whole(lane);
        for lane in work.iter_mut() {
            lane.low = lane.low.min(lane.undecided(undecided));
        }
        work.sort_by_key(|lane| (!whole(lane), passed_over(lane)));
        let wholes = work.iter().filter(|lane| whole(lane)).count();
        let none = work.iter().filter(|lane| passed_over(lane)).count();
        let (others, _) = work.split_at_mut(work.len() - none);
        let (wholes, others) = others.split_at_mut(wholes);
        let full: HashSet<i16> = wholes.iter().map(Lane::number).collect();
        let mut part = Part::default();
        if !wholes.is_empty() {
            // Known before it is read: a key that somebody frees in between is passed over once
            // more, and none is overtaken.
            self.remember(wholes, now).await?;
            self.read_part(wholes, true, undecided, limit, &mut part)
                .await?;
            self.note_full_read(wholes, &part, now);
        }
        if !others.is_empty() {
            self.read_part(others, false, undecided, limit, &mut part)
                .await?;
        }
        let mut by_lane: HashMap<i16, Vec<Row>> = HashMap::new();
        for row in part.rows {
            by_lane.entry(row.lane).or_default().push(row);
        }
        let watched = self.store.store.bounds() == Bounds::Watched;
        let mut stretches = Vec::new();
        for lane in work {
            let reach = lane.reach(undecided);
            let undecided = lane.undecided(undecided);
            if let Some(rows) = by_lane.get_mut(&lane.number()) {
                rows.sort_unstable_by_key(|row| row.id);
                if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
                    lane.low = first.id.min(undecided);
                    self.bound().0.read(last.id);
                }
                if lane.ring {
                    let complete = part.complete.contains(&lane.number());
                    stretches.extend(lane.stretch(rows, reach, complete));
                }
                if !full.contains(&lane.number()) {
                    for row in rows.iter_mut().filter(|row| row.stream) {
                        row.held |= lane.aside.contains_key(&row.key);
                    }
                    rows.retain(|row| row.stream || !lane.aside.contains_key(&row.key));
                }
                lane.empty = false;
            } else if watched && part.reached.contains(&lane.number()) {
                lane.low = undecided;
                if lane.ring && part.complete.contains(&lane.number()) {
                    lane.position = lane.position.max(Some(reach.upto));
                }
            }
        }
        Ok(Read {
            rows: by_lane,
            stretches,
        })
    }

    /// The lowest id that may still be undecided. Reads begin there at the latest.
    async fn undecided(&self) -> i64 {
        match self.store.store.bounds() {
            Bounds::InOrder => i64::MAX,
            Bounds::Unknown => 0,
            Bounds::Watched => {
                self.look().await;
                match self.bound().0.decided() {
                    0 => 0,
                    decided => decided.saturating_add(1),
                }
            }
        }
    }

    /// Looks who writes, if it is time. One at a time: of two looks the later must be told last.
    pub(super) async fn look(&self) {
        let Ok(_one) = self.seeing.try_acquire() else {
            return;
        };
        let now = self.clock.now();
        let before = {
            let mut bound = self.bound();
            if now < bound.1 {
                return;
            }
            bound.1 = now.saturating_add(LOOKING);
            bound.0.given()
        };
        self.sight(before).await;
    }

    /// Looks who writes, now. `before`: what was given away when it began.
    pub(super) async fn sight(&self, before: i64) {
        let sighting = self.store.store.sight().await;
        let now = self.clock.now();
        let mut bound = self.bound();
        match sighting {
            Ok(sighting) => {
                bound.0.saw(before, &sighting);
                bound.1 = now.saturating_add(LOOK);
            }
            Err(error) => {
                bound.0.forget();
                bound.1 = now.saturating_add(LOOK_FAILED);
                drop(bound);
                self.failed("sight", &error);
            }
        }
    }

    /// Reads of these lanes, so many at once as can be read in good time, until there are `limit`
    /// rows with those that are there.
    async fn read_part(
        &self,
        lanes: &[Lane],
        whole: bool,
        undecided: i64,
        limit: u32,
        part: &mut Part,
    ) -> Result<(), StoreError> {
        let leave_out = if lanes.iter().all(|it| it.aside.is_empty() && !it.crowded) {
            LeaveOut::Nothing
        } else if whole {
            LeaveOut::Waiting
        } else {
            LeaveOut::Aside
        };
        let many = u32::try_from(lanes.len()).unwrap_or(u32::MAX).max(1);
        let per_lane = limit.div_ceil(many).saturating_mul(4);
        let per_lane = per_lane.max(PER_LANE).min(limit);
        let mut rest = lanes;
        while !rest.is_empty() {
            let have = u32::try_from(part.rows.len()).unwrap_or(u32::MAX);
            let left = limit.saturating_sub(have);
            if left == 0 {
                break;
            }
            let (some, more) = rest.split_at(self.stretch().min(rest.len()));
            rest = more;
            let begun = self.clock.now();
            let store = &self.store.store;
            let rows = if some.iter().any(|it| it.ring) {
                let from: Vec<Reach> = some.iter().map(|it| it.reach(undecided)).collect();
                let rows = store.ring_window(self.topic(), &from, leave_out, per_lane, left);
                rows.await
            } else {
                let from: Vec<(i16, i64)> = some.iter().map(|it| (it.number(), it.low)).collect();
                let rows = store.window(self.topic(), &from, leave_out, per_lane, left);
                rows.await
            };
            let took = self.clock.now().saturating_since(begun);
            self.read_took(rows.is_ok().then_some(took), some.len());
            let rows = rows?;
            let cut = rows.len() >= usize::try_from(left).unwrap_or(usize::MAX);
            // Of a read that was cut off, a lane without rows may not have been reached.
            part.reached.extend(rows.iter().map(|row| row.lane));
            if !cut {
                part.reached.extend(some.iter().map(Lane::number));
                let many = |lane: i16| rows.iter().filter(|row| row.lane == lane).count();
                let most = usize::try_from(per_lane.min(left)).unwrap_or(usize::MAX);
                let complete = some.iter().map(Lane::number).filter(|it| many(*it) < most);
                part.complete.extend(complete);
            }
            part.rows.extend(rows);
        }
        Ok(())
    }

    /// Learns which keys of these lanes are set aside, and from where on they are to be read: the
    /// lowest id that may be left. Where it is not told who writes, and now and then, that is the
    /// start.
    pub(super) async fn remember(&self, lanes: &mut [Lane], now: Moment) -> Result<(), StoreError> {
        let numbers: Vec<i16> = lanes.iter().map(Lane::number).collect();
        let store = &self.store.store;
        let asides = store.asides(self.topic(), &numbers, REMEMBERED).await?;
        let crowded = asides.len() >= usize::try_from(REMEMBERED).unwrap_or(usize::MAX);
        let watched = store.bounds() == Bounds::Watched;
        for lane in lanes.iter_mut() {
            lane.crowded = crowded;
            let deep = !watched || crowded || now >= lane.deep_at;
            // The heads that were known, too: a mark that was cleared away leaves its key's rows.
            lane.low = if deep { 0 } else { lane.lowest() };
            lane.aside.clear();
        }
        for aside in asides {
            let lane = lanes.iter_mut().find(|it| it.number() == aside.lane);
            if let Some(lane) = lane {
                let known = Known {
                    head: aside.head,
                    history: aside.history,
                };
                lane.low = lane.low.min(aside.head);
                lane.aside.insert(aside.key, known);
            }
        }
        Ok(())
    }

    /// A full read is one of all the rows that there were room for.
    fn note_full_read(&self, lanes: &mut [Lane], part: &Part, now: Moment) {
        let took = self.clock.now().saturating_since(now);
        let seen: HashSet<i16> = part.rows.iter().map(|row| row.lane).collect();
        let held = u32::try_from(self.lanes().count() / lanes.len().max(1)).unwrap_or(1) + 1;
        let deep = DEEP_READ.max(took.saturating_mul(held.saturating_mul(DEEP_PART)));
        for lane in lanes {
            if part.reached.contains(&lane.number()) {
                lane.full_at = now.saturating_add(FULL_READ);
                lane.empty = !seen.contains(&lane.number());
                if now >= lane.deep_at {
                    lane.deep_at = now.saturating_add(deep);
                }
            }
        }
    }
}
