//! Random children: one step of a random saga is a saga itself, or two are, and may have a child of
//! its own.

use std::time::Duration;

use buttress_saga::{
    By, Entry, Output, Saga, SagaBuilder, SagaId, Sagas, State, StepState, Summary, Waited,
    store::Line,
};
use rand::{RngExt as _, rngs::StdRng};

use super::{History, NAMES, Tally};
use crate::world::{Deed, Scripted, World};

/// The steps of a child and of its child, and what is added to the number of their parent.
pub(super) const STEPS: [(&str, u64); 3] = [("u", 1000), ("v", 1000), ("w", 2000)];

/// And for a second child.
const TWIN: u64 = 5000;

/// For the first child and for the second.
pub(super) fn twice<T: Copy>(of: T) -> [(T, u64); 2] {
    [(of, 0), (of, TWIN)]
}

/// Which steps are children, and how they are.
#[derive(Debug, Clone)]
pub(super) struct Family {
    pub(super) places: Vec<usize>,
    /// It cannot be undone once its first step is done.
    pivot: bool,
    /// Between its steps it waits so long for a signal that is not sent.
    waits: Option<Duration>,
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
        let mut places = vec![rng.random_range(0..steps)];
        let twin = rng.random_range(0..steps);
        if twin != places[0] && rng.random_bool(0.3) {
            places.push(twin);
        }
        // In a fork the pivot is the end of all branches.
        let behind = pivot.map(|pivot| match fork {
            Some((first, behind, _)) if (first..behind).contains(&pivot) => behind,
            _ => pivot + 1,
        });
        let may = |place: &usize| behind.is_some_and(|behind| *place >= behind);
        // As the pivot, with nothing beside it, it decides for both.
        let decides = |place: &usize| {
            let beside = fork.is_some_and(|(first, behind, _)| (first..behind).contains(place));
            pivot == Some(*place) && !beside
        };
        let pivot = places.iter().all(|it| may(it) || decides(it)) && rng.random_bool(0.5);
        let within = rng.random_bool(0.3) && !(pivot && places.iter().any(decides));
        Self {
            places,
            pivot,
            waits: rng
                .random_bool(0.2)
                .then(|| Duration::from_millis(rng.random_range(0..2000))),
            nested: rng.random_bool(0.3),
            within: within.then(|| Duration::from_millis(rng.random_range(0..4000))),
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
        if let Some(within) = self.waits {
            let _: Output<Waited<u64>> = child.wait("word", within);
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

    /// Adds the child of this place.
    pub(super) fn call(&self, saga: &mut SagaBuilder<u64>, place: usize, children: &[Saga<u64>]) {
        let (name, child) = (NAMES[place], &children[0]);
        let add = 1000 + self.twin(place);
        match self.within {
            Some(within) => saga.child_within(name, child, within, move |it| Ok(it.input() + add)),
            None => saga.child(name, child, move |it| Ok(it.input() + add)),
        };
    }

    /// What is added to the numbers of the child of this place, and of its child.
    fn twin(&self, place: usize) -> u64 {
        match self.places[0] == place {
            true => 0,
            false => TWIN,
        }
    }
}

impl History {
    /// Whether anything of a saga and those below it may still happen by itself. Somebody helps
    /// those that need attention, as long as their parent waits for them, and the parent so often.
    pub(super) async fn goes_on(
        &self,
        sagas: &Sagas,
        saga: &Saga<u64>,
        children: &[Saga<u64>],
        id: SagaId,
    ) -> bool {
        let mut parent = sagas.get(id).await.unwrap().state;
        if parent == State::NeedsAttention && self.helped > 0 {
            let history = sagas.history(saga, id).await.unwrap();
            if super::judge::resumed(&history) < self.helped {
                let by = By::new("ada", "once more");
                let _ = sagas.resume(saga, id, by).await;
                parent = State::Running;
            }
        }
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
        let all = below(sagas, history.saga.id).await;
        let resumed = super::judge::resumed(history);
        let mut known = 0;
        for place in &family.places {
            let step = history.steps.iter().position(|it| it.name == NAMES[*place]);
            let (number, step) = (number + family.twin(*place), step.unwrap());
            let calls = history.lines.iter().filter_map(|(_, entry)| match entry {
                Entry::Calling {
                    step: of, child, ..
                } if *of == step => Some(*child),
                _ => None,
            });
            let calls: Vec<SagaId> = calls.collect();
            let is_of = |it: &&Summary| {
                calls.contains(&it.id) || it.parent.is_some_and(|parent| calls.contains(&parent))
            };
            let below: Vec<Summary> = all.iter().filter(is_of).cloned().collect();
            known += below.len();
            let said = || format!("{number}: {family:?}\n{below:#?}\n{history:#?}");
            self.judge_ends(&below, number, &said).await;
            let called = below.iter().filter(|it| it.parent == Some(history.saga.id));
            assert!(called.count() <= 1 + resumed, "one child: {}", said());
            let live: Vec<_> = below
                .iter()
                .filter(|it| it.state != State::Undone)
                .collect();
            assert!(live.len() <= 1 + usize::from(family.nested), "{}", said());
            let done = live.len() == 1 + usize::from(family.nested)
                && live.iter().all(|it| it.state == State::Completed);
            match history.saga.state {
                State::Completed => assert!(done, "{}", said()),
                State::Undone => assert!(live.is_empty(), "{}", said()),
                _ => {}
            }
            let step = &history.steps[step];
            match step.state {
                StepState::Done => assert!(done, "{}", said()),
                StepState::Undone | StepState::Failed => assert!(live.is_empty(), "{}", said()),
                StepState::Pending => assert!(below.is_empty(), "{}", said()),
                _ => {}
            }
            tally.children += u32::from(step.state == StepState::Done);
            tally.called_back += u32::from(step.state == StepState::Undone);
        }
        assert_eq!(known, all.len(), "nobody called it: {all:#?}\n{history:#?}");
    }

    /// No child is half-done.
    async fn judge_ends(&self, below: &[Summary], number: u64, said: &impl Fn() -> String) {
        for saga in below {
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
            // that is called back, or cancelled, learns so a little later: what he still begins
            // comes too late to have an effect.
            let alike = below.iter().filter(|it| it.definition == saga.definition);
            let journal = self.store.read(saga.id).await.unwrap().unwrap().journal;
            let taken = |line: &Line| {
                matches!(
                    line.entry,
                    Entry::CalledBack { .. } | Entry::Cancelled { .. }
                )
            };
            if alike.count() == 1 && !journal.iter().any(taken) {
                let deeds = self.world.log(number + of);
                let first = deeds.iter().position(|it| matches!(it, Deed::Undo(..)));
                let late = deeds.iter().rposition(|it| matches!(it, Deed::Run(_)));
                let wrong = first.is_some() && late > first;
                assert!(!wrong, "run after an undo: {}", said());
            }
        }
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
