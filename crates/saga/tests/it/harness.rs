//! The harness for users' own sagas: it is content with a sound one, and finds what is wrong.

use std::sync::{Arc, Mutex, PoisonError};

use buttress_saga::{
    Context, Effect, FailureKind, Saga, State, Step, StepError, UndoContext,
    testing::{Harness, Outcome, Trouble},
};

/// A ledger of keys that a step writes to, and takes from.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Vec<String>>>);

impl Ledger {
    fn keys(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Charge {
    ledger: Ledger,
    /// It minds the key that it is given.
    idempotent: bool,
    /// It takes back what nobody knows to be there.
    thorough: bool,
}

impl Step for Charge {
    type Input = u64;
    type Output = ();

    async fn run(&self, context: &Context<'_, u64>) -> Result<(), StepError> {
        let key = context.idempotency_key();
        let mut keys = self.ledger.keys();
        if !self.idempotent || !keys.contains(&key) {
            keys.push(key);
        }
        Ok(())
    }

    async fn undo(
        &self,
        context: &UndoContext<'_, u64>,
        effect: Effect<()>,
    ) -> Result<(), StepError> {
        if self.thorough || effect == Effect::Done(()) {
            let key = context.idempotency_key();
            self.ledger.keys().retain(|it| *it != key);
        }
        Ok(())
    }
}

/// Runs a saga of three such steps, and returns the first trouble that it did not stand.
fn first_wrong(idempotent: bool, thorough: bool) -> (usize, Option<Outcome>) {
    let ledger = Ledger::default();
    let make = || {
        ledger.keys().clear();
        let mut saga = Saga::define("charges", 1);
        for name in ["one", "two", "three"] {
            let ledger = ledger.clone();
            saga.step(
                name,
                Charge {
                    ledger,
                    idempotent,
                    thorough,
                },
            );
        }
        (saga.build().unwrap(), 7)
    };
    let mut wrong = None;
    let runs = Harness::new(make).run(|outcome, _| {
        let expected = match outcome.state {
            State::Completed => 3,
            State::Undone => 0,
            _ => usize::MAX,
        };
        if ledger.keys().len() != expected {
            wrong.get_or_insert_with(|| outcome.clone());
        }
    });
    (runs.unwrap(), wrong)
}

#[test]
fn a_sound_saga_stands_every_trouble() {
    let tally = buttress_testkit::tally::suite("SG1 SG2 SG4 X4");
    let (runs, wrong) = first_wrong(true, true);
    assert!(wrong.is_none(), "{wrong:?}");
    assert!(runs > 60, "{runs}");
    tally.faults(runs);
}

#[test]
fn a_step_that_ignores_its_key_is_found_out() {
    let tally = buttress_testkit::tally::suite("SG2");
    let (_, wrong) = first_wrong(false, true);
    let trouble = wrong.unwrap().trouble;
    assert!(matches!(
        trouble,
        Trouble::Crash { .. } | Trouble::RepeatStep(_)
    ));
    tally.caught(1);
}

#[test]
fn an_undo_that_ignores_what_is_unknown_is_found_out() {
    let tally = buttress_testkit::tally::suite("SG1");
    let (_, wrong) = first_wrong(true, false);
    let trouble = wrong.unwrap().trouble;
    assert!(
        matches!(trouble, Trouble::FailStep(_, FailureKind::Unknown)),
        "{trouble:?}"
    );
    tally.caught(1);
}
