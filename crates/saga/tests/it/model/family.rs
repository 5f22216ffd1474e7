//! Random children: one step of a random saga is a saga itself, and may have a child of its own.

use std::time::Duration;

use buttress_saga::{
    By, Entry, Saga, SagaBuilder, SagaId, Sagas, State, StepState, Summary, store::Line,
};
use rand::{RngExt as _, rngs::StdRng};

use super::{History, NAMES, Tally};
use crate::world::{Deed, Scripted, World};

/// The steps of a child and of its child, and what is added to the number of their parent.
pub(super) const STEPS: [(&str, u64); 3] = [("u", 1000), ("v", 1000), ("w", 2000)];

/// Which step is a child, and how it is.
#[derive(Debug, Clone)]
pub(super) struct Family {
    pub(super) place: usize,
    /// It cannot be undone once its first step is done.
    pivot: bool,
    /// Between its steps it has a child of its own.
    nested: bool,
    within: Option<Duration>,
}

impl Family {
    pub(super) fn new(
        rng: &mut StdRng,
        steps: usize,
        pivot: Option<usize>,
        fork: Option<(usize, usize, usize)>,
    ) -> Self {
        let place = rng.random_range(0..steps);
        // In a fork the pivot is the end of all branches.
        let behind = pivot.map(|pivot| match fork {
            Some((first, behind, _)) if (first..behind).contains(&pivot) => behind,
            _ => pivot + 1,
        });
        let may = behind.is_some_and(|behind| place >= behind);
        Self {
            place,
            pivot: may && rng.random_bool(0.5),
            nested: rng.random_bool(0.3),
            within: rng
                .random_bool(0.3)
                .then(|| Duration::from_millis(rng.random_range(0..4000))),
        }
    }

    /// The child, and its own.
    pub(super) fn children(&self, world: &World) -> Vec<Saga<u64>> {
        let step = |name| Scripted {
            name,
            world: world.clone(),
        };
        let mut child = Saga::define("child", 1);
        child.step_with("u", step("u"), History::policy());
        if self.pivot {
            child.pivot();
        }
        let mut grandchildren = Vec::new();
        if self.nested {
            let mut saga = Saga::define("grandchild", 1);
            saga.step_with("w", step("w"), History::policy());
            let saga = saga.build().unwrap();
            child.child("nested", &saga, |it| Ok(it.input() + 1000));
            grandchildren.push(saga);
        }
        child.step_with("v", step("v"), History::policy());
        let child = child.build().unwrap();
        [vec![child], grandchildren].concat()
    }

    pub(super) fn call(&self, saga: &mut SagaBuilder<u64>, name: &str, children: &[Saga<u64>]) {
        let child = &children[0];
        match self.within {
            Some(within) => saga.child_within(name, child, within, |it| Ok(it.input() + 1000)),
            None => saga.child(name, child, |it| Ok(it.input() + 1000)),
        };
    }
}

impl History {
    /// Whether anything of a saga and those below it may still happen by itself. Somebody helps
    /// those that need attention, as long as their parent waits for them.
    pub(super) async fn goes_on(&self, sagas: &Sagas, children: &[Saga<u64>], id: SagaId) -> bool {
        let parent = sagas.get(id).await.unwrap().state;
        let mut goes_on = parent.is_active();
        if self.family.is_some() {
            let all = below(sagas, id).await;
            for below in &all {
                goes_on |= below.state.is_active();
                let waits = |it: &Summary| Some(it.id) == below.parent && it.state.is_active();
                let waited_for = parent.is_active() || all.iter().any(waits);
                if waited_for && below.state == State::NeedsAttention {
                    let of = children.iter().find(|it| *it.key() == below.definition);
                    // It may have gone on meanwhile.
                    let by = By::new("ada", "it is better now");
                    let _ = sagas.resume(of.unwrap(), below.id, by).await;
                }
            }
        }
        goes_on
    }

    /// A parent and its children end alike, and none is half-done.
    pub(super) async fn judge_children(
        &self,
        sagas: &Sagas,
        history: &buttress_saga::History,
        number: u64,
        tally: &mut Tally,
    ) {
        let Some(family) = &self.family else {
            return;
        };
        let below = below(sagas, history.saga.id).await;
        let said = || format!("{number}: {family:?}\n{below:#?}\n{history:#?}");
        for saga in &below {
            let of = match saga.definition.name.as_str() {
                "child" => 1000,
                _ => 2000,
            };
            let own = STEPS.iter().filter(|it| it.1 == of);
            let there = own.clone().filter(|it| self.world.has(saga.id, it.0));
            let (own, there) = (own.count(), there.count());
            match saga.state {
                State::Completed => assert_eq!(there, own, "not all done: {}", said()),
                State::Undone => assert_eq!(there, 0, "something is left: {}", said()),
                State::NeedsAttention => {}
                _ => panic!("it does not rest: {}", said()),
            }
            // One that was sent on may have called another, of the same number. And who drives one
            // that is called back learns so a little later, as from an operator: what he still
            // begins comes too late to have an effect.
            let alike = below.iter().filter(|it| it.definition == saga.definition);
            let journal = self.store.read(saga.id).await.unwrap().unwrap().journal;
            let called_back = |line: &Line| matches!(line.entry, Entry::CalledBack { .. });
            if alike.count() == 1 && !journal.iter().any(called_back) {
                let deeds = self.world.log(number + of);
                let first = deeds.iter().position(|it| matches!(it, Deed::Undo(..)));
                let late = deeds.iter().rposition(|it| matches!(it, Deed::Run(_)));
                let wrong = first.is_some() && late > first;
                assert!(!wrong, "run after an undo: {}", said());
            }
        }
        let called = below.iter().filter(|it| it.parent == Some(history.saga.id));
        assert!(called.count() <= 1, "nobody has sent it on: {}", said());
        let live: Vec<_> = below
            .iter()
            .filter(|it| it.state != State::Undone)
            .collect();
        assert!(live.len() <= 1 + usize::from(family.nested), "{}", said());
        let done = live.len() == 1 + usize::from(family.nested)
            && live.iter().all(|it| it.state == State::Completed);
        let step = history
            .steps
            .iter()
            .find(|it| it.name == NAMES[family.place]);
        let step = step.unwrap();
        match history.saga.state {
            State::Completed => assert!(done, "{}", said()),
            State::Undone => assert!(live.is_empty(), "{}", said()),
            _ => {}
        }
        match step.state {
            StepState::Done => assert!(done, "{}", said()),
            StepState::Undone | StepState::Failed => assert!(live.is_empty(), "{}", said()),
            StepState::Pending => assert!(below.is_empty(), "{}", said()),
            _ => {}
        }
        tally.children += u32::from(step.state == StepState::Done);
        tally.called_back += u32::from(step.state == StepState::Undone);
    }
}

/// The children of a saga, and theirs.
async fn below(sagas: &Sagas, id: SagaId) -> Vec<Summary> {
    let mut all = sagas.children(id).await.unwrap();
    for child in all.clone() {
        all.extend(sagas.children(child.id).await.unwrap());
    }
    all
}
