//! What follows from where a saga stands, up to the next attempts.

use std::time::Duration;

use buttress_store::Micros;

use super::{DEADLINE, Drive, child::LOOK};
use crate::{
    Entry, FailureKind,
    machine::{Next, Progress},
    store::Then,
};

/// What is waited for, beside the attempts that are under way.
#[derive(Clone, Copy, Default)]
pub(super) struct Plan {
    /// For how long, at most.
    pub(super) wait: Option<Duration>,
    /// A signal, or the end of a child, may come sooner.
    listens: bool,
    /// Something may have come already that was not seen: since the last look, or at any time, to
    /// a wait or of a child that nobody has looked for yet.
    missed: bool,
    unheard: bool,
    /// It is for a child that it waits, which may need the place.
    calls: bool,
    /// There is more to be done at once.
    busy: bool,
    /// It is not for the claim's holder to wait, however short it is.
    paused: bool,
}

impl Plan {
    fn wait(&mut self, wait: Duration) {
        self.wait = Some(self.wait.map_or(wait, |it| it.min(wait)));
    }
}

impl Drive {
    /// Everything that follows from where the saga stands, and what is waited for then.
    pub(super) fn follow(&mut self, entries: &mut Vec<Entry>) -> Plan {
        loop {
            let mut plan = Plan::default();
            let before = entries.len();
            let next = self.progress.all(&self.definition.shape);
            let late = next.iter().any(|next| self.is_late(*next));
            if late {
                if !self.progress.is_open() {
                    let code = DEADLINE.to_owned();
                    self.note(entries, Entry::TurnedBack { code });
                }
            } else {
                for next in next {
                    if let Some(entry) = self.entry(next, &mut plan) {
                        self.note(entries, entry);
                    }
                }
            }
            if entries.len() == before {
                return plan;
            }
        }
    }

    /// The line with which something begins or ends now, if it does.
    fn entry(&mut self, next: Next, plan: &mut Plan) -> Option<Entry> {
        let code = |step: usize| self.progress.steps[step].code.clone().unwrap_or_default();
        Some(match next {
            Next::Run { open: true, .. } | Next::Undo { open: true, .. } | Next::Nothing => {
                return None;
            }
            Next::Sleep { step, until } if self.definition.steps[step].child().is_some() => {
                return self.calling(step, until, plan);
            }
            Next::Sleep { step, until } => return self.asleep(step, until, plan),
            Next::CallBack { step, called: true } => return self.calling_back(step, plan),
            Next::CallBack { step, .. } => {
                // What was seen of it on the way forward is not what is waited for now.
                self.looked[step] = None;
                calling_back(&self.progress, step)
            }
            Next::Run { step, .. } if self.definition.steps[step].pause.is_some() => {
                self.fall_asleep(step)
            }
            Next::Run { step, .. } => {
                if !self.may_begin(step, plan) {
                    return None;
                }
                self.started(&self.progress, step)
            }
            Next::Undo { step, .. } => {
                if !self.may_begin(step, plan) {
                    return None;
                }
                undo_started(&self.progress, step)
            }
            Next::TurnBack { step } => Entry::TurnedBack { code: code(step) },
            Next::Park { step } => Entry::Parked { code: code(step) },
            Next::Complete => Entry::Completed,
            Next::AllUndone => Entry::AllUndone,
        })
    }

    /// A sleep or a wait that is under way: the line that ends it, or for how long it goes on.
    fn asleep(&self, step: usize, until: i64, plan: &mut Plan) -> Option<Entry> {
        let waits = self.definition.steps[step].waits();
        if let Some(entry) = self.woken(step, until) {
            // What parks the saga waits for the attempts that are under way.
            let parks = matches!(entry, Entry::Parked { .. });
            return (!parks || !self.progress.is_open()).then_some(entry);
        }
        let mut wait = self.wakes_after(step, until);
        if waits {
            (plan.listens, plan.missed) = (true, true);
            plan.unheard |= !self.is_heard(step);
            if self.progress.is_open() {
                // The claim is kept, so it must look by itself.
                wait = wait.min(self.engine.policy.poll);
            }
        }
        plan.wait(wait);
        None
    }

    /// A child that was called: the line that ends that, or how long it is waited for.
    fn calling(&self, step: usize, until: i64, plan: &mut Plan) -> Option<Entry> {
        if let Some(entry) = self.returned(step, until) {
            let parks = matches!(entry, Entry::Parked { .. });
            return (!parks || !self.progress.is_open()).then_some(entry);
        }
        let new = self.is_new_child(step);
        plan.missed |= !new;
        // One that is called again may have ended long ago, and nobody has looked.
        plan.unheard |= !new && self.looked[step].is_none();
        plan.wait(self.wakes_after(step, until));
        self.wait_for_child(plan);
        None
    }

    /// A child that was called back.
    fn calling_back(&self, step: usize, plan: &mut Plan) -> Option<Entry> {
        if self.looked[step].is_none() {
            // It has not been told yet.
            plan.busy = true;
            plan.wait(Duration::ZERO);
            return None;
        }
        let entry = self.came_back(step);
        if entry.is_none() {
            plan.missed = true;
            self.wait_for_child(plan);
        }
        entry
    }

    fn wait_for_child(&self, plan: &mut Plan) {
        (plan.listens, plan.calls) = (true, true);
        plan.wait(match self.progress.is_open() {
            // The claim is kept, so it must look by itself.
            true => self.engine.policy.poll,
            false => LOOK,
        });
    }

    /// Whether an attempt may begin now; otherwise it says for how long not.
    fn may_begin(&mut self, step: usize, plan: &mut Plan) -> bool {
        let now = self.engine.clock.now();
        let (mut wait, mut paused) = match self.rests[step] {
            Some((until, paused)) => (until.saturating_since(now), paused),
            None => (Duration::ZERO, false),
        };
        if let Some(until) = self.progress.steps[step].rests {
            wait = wait.max(Micros::new(until).saturating_since(self.now()));
        }
        if self.is_stopping() {
            // Somebody else begins it, no sooner than it may, once what is under way has ended.
            if !self.progress.is_open() {
                plan.wait(self.before_deadline(step, wait));
            }
            return false;
        }
        if wait.is_zero()
            && let Some(asked) = self.pause_before(step)
        {
            (wait, paused) = (asked, true);
            self.rests[step] = Some((now.saturating_add(asked), true));
        } else if wait.is_zero() {
            self.rests[step] = None;
            return true;
        }
        plan.paused |= paused;
        plan.wait(self.before_deadline(step, wait));
        false
    }

    /// What becomes of the claim while this is waited for.
    pub(super) fn then(&self, plan: Plan) -> Then {
        let Some(after) = plan.wait else {
            return Then::Keep;
        };
        let stopping = self.is_stopping();
        let long = stopping || plan.paused || plan.calls || after > self.engine.policy.hold;
        let stays = !self.progress.state.is_active() || self.progress.is_open() || plan.busy;
        if stays || !long {
            return Then::Keep;
        }
        if plan.listens {
            let seen = match plan {
                Plan { unheard: true, .. } => 0,
                Plan { missed: true, .. } => self.seen,
                // What begins with this commit has not ended before it.
                _ => u64::MAX,
            };
            return Then::Listen { after, seen };
        }
        Then::Release(after)
    }

    /// What can be told beforehand of what follows this line, should it be written in a
    /// transaction of the step's own: where steps go on side by side, nothing.
    pub(super) fn foresee(&self, done: &Entry) -> (Vec<Entry>, Progress) {
        let (mut entries, mut progress) = (Vec::new(), self.progress.clone());
        if self.definition.branches || progress.apply(done).is_none() {
            return (entries, progress);
        }
        loop {
            let next = progress.all(&self.definition.shape);
            let Some(next) = next.first().copied() else {
                return (entries, progress);
            };
            let code = |step: usize| progress.steps[step].code.clone().unwrap_or_default();
            let entry = match next {
                next if self.is_late(next) => Entry::TurnedBack {
                    code: DEADLINE.to_owned(),
                },
                Next::Run { open: true, .. }
                | Next::Undo { open: true, .. }
                | Next::Sleep { .. }
                | Next::CallBack { called: true, .. }
                | Next::Nothing => return (entries, progress),
                // A sleep begins when the step has ended, which is not now.
                Next::Run { step, .. } if self.definition.steps[step].pause.is_some() => {
                    return (entries, progress);
                }
                Next::Run { step, .. } => self.started(&progress, step),
                Next::Undo { step, .. } => undo_started(&progress, step),
                Next::CallBack { step, .. } => calling_back(&progress, step),
                Next::TurnBack { step } => Entry::TurnedBack { code: code(step) },
                Next::Park { step } => Entry::Parked { code: code(step) },
                Next::Complete => Entry::Completed,
                Next::AllUndone => Entry::AllUndone,
            };
            if progress.apply(&entry).is_none() {
                // The rules propose only what can follow.
                return (entries, progress);
            }
            entries.push(entry);
        }
    }

    fn started(&self, progress: &Progress, step: usize) -> Entry {
        Entry::Started {
            step,
            name: self.definition.steps[step].name.to_string(),
            attempt: progress.steps[step].attempts + 1,
        }
    }

    /// Whether the way forward has taken too long for this to begin, or to go on sleeping.
    fn is_late(&self, next: Next) -> bool {
        let (Next::Run { step, open: false } | Next::Sleep { step, .. }) = next else {
            return false;
        };
        let limit = self.definition.forward_within;
        // A child that may have passed its pivot is not given up: it decides.
        if matches!(next, Next::Sleep { .. }) && self.definition.steps[step].decides() {
            return false;
        }
        step < self.definition.shape.forward_from && limit.is_some_and(|limit| self.age() > limit)
    }

    /// Takes note of an entry that is about to be written.
    pub(super) fn note(&mut self, entries: &mut Vec<Entry>, entry: Entry) {
        // What is noted here answers to what the rules have just asked for.
        if self.progress.apply(&entry).is_none() {
            return;
        }
        if matches!(entry, Entry::TurnedBack { .. }) {
            self.rests.fill(None);
        }
        entries.push(entry);
    }

    /// How long the next attempt waits after this failure. `None`: there is none, or at once.
    pub(super) fn rest_after(
        &mut self,
        step: usize,
        kind: FailureKind,
        wait: Duration,
    ) -> Option<i64> {
        if kind == FailureKind::Final || wait.is_zero() {
            return None;
        }
        let until = self.engine.clock.now().saturating_add(wait);
        self.rests[step] = Some((until, false));
        // Who takes the saga over while others of its steps go on knows nothing else of it.
        self.definition.branches.then(|| (self.now() + wait).get())
    }
}

fn undo_started(progress: &Progress, step: usize) -> Entry {
    Entry::UndoStarted {
        step,
        attempt: progress.steps[step].undo_attempts.saturating_add(1),
    }
}

fn calling_back(progress: &Progress, step: usize) -> Entry {
    Entry::CallingBack {
        step,
        attempt: progress.steps[step].undo_attempts.saturating_add(1),
    }
}
