//! What must be true of a random saga that has come to rest.

use std::time::{Duration, UNIX_EPOCH};

use buttress_saga::{Effect, Entry, Saga, SagaId, Sagas, State};

use super::{History, NAMES, Tally};
use crate::world::Deed;

impl History {
    pub(super) async fn judge(
        &self,
        sagas: &Sagas,
        saga: &Saga<u64>,
        number: u64,
        id: SagaId,
        tally: &mut Tally,
    ) {
        let history = sagas.history(saga, id).await.unwrap();
        let there = |step: &&&str| self.world.has(id, step);
        let effects = NAMES.iter().filter(there).count();
        let deeds = self.world.log(number);
        let said = || {
            format!(
                "{number}: {:?}\n{deeds:?}\n{history:#?}",
                history.saga.state
            )
        };
        match history.saga.state {
            State::Completed => {
                tally.completed += 1;
                assert_eq!(
                    effects,
                    self.steps - self.family.as_ref().map_or(0, |it| it.places.len()),
                    "completed and not all done: {}",
                    said()
                );
            }
            State::Undone => {
                tally.undone += 1;
                assert_eq!(effects, 0, "undone and something is left: {}", said());
            }
            State::NeedsAttention => {
                tally.parked += 1;
                let refused = history.steps.iter().any(|it| it.code.is_some());
                assert!(refused, "parked for no reason: {}", said());
            }
            _ => panic!("it does not rest: {}", said()),
        }
        tally.cancelled += u32::from(was_cancelled(&history));
        tally.resumed += u32::from(resumed(&history) > 0);
        self.judge_children(sagas, &history, number, tally).await;
        self.judge_sleep(&history);
        self.judge_order(&history);
        self.judge_wait(&history, tally).await;
        tally.forked += u32::from(
            self.fork
                .is_some_and(|(first, behind, length)| behind > first + length),
        );
        // Whoever was refused behind the pivot, or at an undo, and nothing else, is parked; and
        // before the first undo is asked for, no later step may run.
        let first = deeds.iter().position(|it| matches!(it, Deed::Undo(..)));
        // Who drives one that is cancelled learns so a little later: what he still begins comes too
        // late to have an effect.
        if let Some(first) = first.filter(|_| !was_cancelled(&history)) {
            let late = deeds[first..].iter().any(|it| matches!(it, Deed::Run(_)));
            assert!(!late, "a step ran after an undo: {}", said());
        }
        let undone = deeds.iter().filter_map(|it| match it {
            Deed::Undo(step, effect) => Some((*step, effect)),
            Deed::Run(_) => None,
        });
        let undone: Vec<_> = undone.collect();
        // One that was refused is undone again behind all others, if somebody sends the saga on.
        assert!(
            resumed(&history) > 0 || undone.is_sorted_by(|one, other| one.0 >= other.0),
            "undone out of order: {}",
            said()
        );
        for (step, effect) in undone {
            assert_ne!(
                *effect,
                Effect::None,
                "{step} was known not done: {}",
                said()
            );
        }
    }

    /// Which steps must be done before a step.
    fn before(&self, step: usize) -> Vec<usize> {
        match self.fork {
            Some((first, behind, length)) if (first..behind).contains(&step) => {
                let branch = step - (step - first) % length;
                (0..first).chain(branch..step).collect()
            }
            _ => (0..step).collect(),
        }
    }

    /// No step began before all that it comes after was done.
    fn judge_order(&self, history: &buttress_saga::History) {
        let mut done = Vec::new();
        let name = |step: usize| history.steps[step].name.as_str();
        let of = |step: usize| NAMES.iter().position(|it| *it == name(step));
        for (_, entry) in &history.lines {
            match entry {
                Entry::Succeeded { step, .. } => done.extend(of(*step)),
                Entry::Started { step, .. } | Entry::Calling { step, .. } => {
                    let step = of(*step).expect("only steps are started");
                    let ready = self.before(step).iter().all(|it| done.contains(it));
                    assert!(ready, "{step} began too early: {history:#?}");
                }
                _ => {}
            }
        }
    }

    /// Of a signal and the end of the time one happened, and it was the one that came first.
    async fn judge_wait(&self, history: &buttress_saga::History, tally: &mut Tally) {
        let Some(place) = history.steps.iter().position(|it| it.name == "wait") else {
            return;
        };
        let until = history.lines.iter().find_map(|(_, entry)| match entry {
            Entry::Waiting { until, .. } => Some(*until),
            _ => None,
        });
        if resumed(history) > 0 {
            return; // It may have been waited for twice.
        }
        let first = self.store.signals(history.saga.id, "wait").await;
        let first = first.unwrap().first;
        let in_time = first.is_some_and(|it| until.is_some_and(|until| it.at.get() < until));
        let mut ends = history.lines.iter().filter_map(|(_, entry)| match entry {
            Entry::Succeeded { step, output } if *step == place => Some(output != "\"timed_out\""),
            Entry::Failed { step, .. } if *step == place => Some(false),
            _ => None,
        });
        let end = ends.next();
        assert_eq!(ends.next(), None, "it ended twice: {history:#?}");
        if let Some(came) = end {
            assert_eq!(came, in_time, "until {until:?}: {history:#?}");
            tally.came += u32::from(came);
            tally.missed += u32::from(!came);
        }
    }

    /// Who went on from a sleep had slept for as long as it was to be.
    fn judge_sleep(&self, history: &buttress_saga::History) {
        let Some((_, length)) = self.sleep else {
            return;
        };
        let Some(place) = history.steps.iter().position(|it| it.name == "sleep") else {
            return;
        };
        let mut lines = history.lines.iter();
        let fell = lines.find_map(|(at, entry)| match entry {
            Entry::Sleeping { step, until, .. } if *step == place => Some((at, *until)),
            _ => None,
        });
        let woke = lines.find_map(|(at, entry)| match entry {
            Entry::Succeeded { step, .. } if *step == place => Some(at),
            _ => None,
        });
        if let (Some((fell, until)), Some(woke)) = (fell, woke) {
            let until = UNIX_EPOCH + Duration::from_micros(u64::try_from(until).unwrap());
            assert!(*woke >= until, "it woke before {until:?}: {history:#?}");
            // It sleeps from when it was decided, which is a write earlier, and writes may be late.
            let late = Duration::from_secs(10);
            assert!(until + late >= *fell + length, "{length:?}: {history:#?}");
        }
    }
}

/// How often somebody sent it on.
pub(super) fn resumed(history: &buttress_saga::History) -> usize {
    let lines = history.lines.iter();
    lines
        .filter(|it| matches!(it.1, Entry::Resumed { .. }))
        .count()
}

pub(super) fn was_cancelled(history: &buttress_saga::History) -> bool {
    let mut lines = history.lines.iter();
    lines.any(|it| matches!(it.1, Entry::Cancelled { .. }))
}
