//! All the places at which something can go wrong.

use std::thread;

use super::{Fault, Injected, Injection, Plan};

/// Each of `faults` at each of so many operations.
pub fn sweep(operations: u32, faults: &[Fault]) -> impl Iterator<Item = Injection> {
    (1..=operations).flat_map(move |operation| {
        faults
            .iter()
            .map(move |fault| Injection::new(operation, *fault))
    })
}

/// Each two of `faults` at each two of so many operations.
pub fn pairs(operations: u32, faults: &[Fault]) -> impl Iterator<Item = [Injection; 2]> {
    sweep(operations, faults).flat_map(move |first| {
        let later = sweep(operations, faults).filter(move |it| it.operation > first.operation);
        later.map(move |second| [first, second])
    })
}

/// Runs `scenario` once undisturbed, to count its operations, and then once for each of `faults`
/// at each of them. The scenario makes all it needs anew, and checks at its end what must hold.
/// Returns how many faults were injected.
///
/// It is exhaustive for single faults of the operations of the undisturbed run. Those that only
/// the answer to a fault begins, as a retry does, are struck by [`pairs`].
///
/// # Panics
///
/// When the scenario does, or when it begins no operation, or fewer than in its first run before
/// the fault is met: then a run is not like another, and nothing would have been tested.
pub async fn fault_sweep<E>(
    faults: &[Fault],
    error: impl Fn(Injected) -> E + Clone + Send + Sync + 'static,
    mut scenario: impl AsyncFnMut(Plan<E>),
) -> u32 {
    let undisturbed = Plan::none();
    scenario(undisturbed.clone()).await;
    let names = undisturbed.names();
    assert!(
        !names.is_empty(),
        "fault sweep: the scenario has no operation"
    );
    let mut injected = 0;
    for injection in sweep(undisturbed.operations(), faults) {
        let plan = Plan::new([injection], error.clone());
        let told = TellWhich(injection, plan.clone());
        scenario(plan.clone()).await;
        drop(told);
        assert!(
            plan.struck() == 1,
            "fault sweep: {injection} was not met; undisturbed {names:?}, now {:?}",
            plan.names()
        );
        injected += 1;
    }
    injected
}

/// Says which fault it was when a scenario panics, for its own words cannot.
struct TellWhich<E>(Injection, Plan<E>);

impl<E> Drop for TellWhich<E> {
    #[expect(clippy::print_stderr, reason = "libtest shows it with the failed test")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("fault sweep: {}, of {:?}", self.0, self.1.names());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, panic::AssertUnwindSafe};

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn all_places_are_visited_once() {
        let faults = [Fault::Before, Fault::Hang];
        let all: Vec<_> = sweep(3, &faults).map(|it| it.to_string()).collect();
        assert_eq!(all.len(), 6);
        assert_eq!(all[0], "Before at operation 1");
        assert_eq!(all[5], "Hang at operation 3");
        let pairs: Vec<_> = pairs(3, &faults).collect();
        assert_eq!(pairs.len(), 3 * 4);
        assert!(
            pairs
                .iter()
                .all(|[one, other]| one.operation < other.operation)
        );
    }

    /// Moves one from `here` to `there` in two operations.
    async fn transfer(plan: &Plan<Injected>, here: &Cell<i32>, there: &Cell<i32>, repairs: bool) {
        let take = async {
            here.set(here.get() - 1);
            Ok(())
        };
        let put = async {
            there.set(there.get() + 1);
            Ok(())
        };
        if plan.around("take", take).await == Err(Injected::NotDone) {
            return;
        }
        if plan.around("put", put).await == Err(Injected::NotDone) && repairs {
            here.set(here.get() + 1);
        }
    }

    async fn sweep_transfer(repairs: bool) -> u32 {
        fault_sweep(
            &[Fault::Before, Fault::DoneThenError],
            |injected| injected,
            async |plan| {
                let (here, there) = (Cell::new(1), Cell::new(0));
                transfer(&plan, &here, &there, repairs).await;
                assert!(here.get() + there.get() == 1, "one is lost");
            },
        )
        .await
    }

    #[tokio::test]
    async fn a_planted_half_transfer_is_found_and_a_whole_one_passes() {
        assert_eq!(sweep_transfer(true).await, 4);
        let failed = AssertUnwindSafe(sweep_transfer(false)).catch_unwind().await;
        assert_eq!(
            *failed.unwrap_err().downcast::<&str>().unwrap(),
            "one is lost"
        );
    }

    #[tokio::test]
    async fn a_scenario_that_never_meets_its_fault_fails() {
        let first = Cell::new(true);
        let fickle = fault_sweep(
            &[Fault::Before],
            |it| it,
            async |plan| {
                if first.replace(false) {
                    plan.around("once", async { Ok(()) }).await.unwrap();
                }
            },
        );
        let failed = AssertUnwindSafe(fickle).catch_unwind().await.unwrap_err();
        let text = *failed.downcast::<String>().unwrap();
        assert!(text.contains("was not met"), "{text}");
    }
}
