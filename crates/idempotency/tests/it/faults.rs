//! Each fault at each operation of a store.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use buttress_idempotency::{
    Begin, CompleteError, Idempotency, Ran, Refusal, RunError, store::MemoryStore,
};
use buttress_store::StoreError;
use buttress_testkit::{
    fault::{Fault, Plan},
    fault_sweep,
};
use tokio::time::sleep;

use crate::stand::{ASKED, Faulty, SECOND, key, store_error};

/// A client asks until he has an answer, as one does who has a key.
async fn asks(idempotency: &Idempotency, effects: &AtomicU32) -> Ran {
    for _ in 0..20 {
        let work = || async {
            effects.fetch_add(1, Relaxed);
            Ok::<_, ()>("order 1".into())
        };
        match idempotency.run(&key("one"), &ASKED, work).await {
            Ok(ran) => return ran,
            Err(RunError::Refused(Refusal::InFlight { retry_after, .. })) => {
                sleep(retry_after).await;
            }
            Err(RunError::NotBegun(_) | RunError::NotRecorded { .. }) => sleep(SECOND).await,
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("he has no answer after twenty tries");
}

async fn scenario(plan: Plan<StoreError>) {
    let idempotency = Idempotency::new(Faulty::new(MemoryStore::new(), plan));
    let effects = AtomicU32::new(0);
    let first = asks(&idempotency, &effects).await;
    let second = asks(&idempotency, &effects).await;
    assert!(second.replayed);
    assert_eq!(first.outcome, second.outcome);
    // No single fault is enough for a second effect: an outcome is recorded to its end.
    assert_eq!(effects.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn one_fault_anywhere_makes_no_second_effect_and_loses_no_answer() {
    let _tally = buttress_testkit::tally::suite("X2");
    let injected = fault_sweep(&Fault::ALL, store_error, scenario).await;
    assert!(injected >= 18, "{injected}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_recorded_is_said_and_never_called_recorded() {
    // A store that takes the claim, and then nothing more.
    let faults =
        (2..100).map(|operation| buttress_testkit::fault::Injection::new(operation, Fault::Hang));
    let plan = Plan::new(faults, store_error);
    let idempotency = Idempotency::new(Faulty::new(MemoryStore::new(), plan));
    let work = || async { Ok::<_, ()>("order 1".into()) };
    let ran = idempotency.run(&key("one"), &ASKED, work).await;
    let Err(RunError::NotRecorded { outcome, error, .. }) = ran else {
        panic!("{ran:?}")
    };
    assert_eq!(outcome, "order 1");
    assert!(
        matches!(error, CompleteError::Store(error) if error.class() == buttress_core::Class::Unknown)
    );
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_is_lost_is_found_again_under_its_token() {
    for fault in [Fault::DoneThenError, Fault::DoneThenHang, Fault::Reset] {
        let plan = Plan::new(
            [buttress_testkit::fault::Injection::new(1, fault)],
            store_error,
        );
        let idempotency = Idempotency::new(Faulty::new(MemoryStore::new(), plan));
        let begun = idempotency.begin(&key("one"), &ASKED).await.unwrap();
        let Begin::New(guard) = begun else {
            panic!("{fault:?}: {begun:?}")
        };
        assert!(!guard.resumed());
    }
}
