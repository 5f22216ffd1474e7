//! Drives that come to nothing: what they had passed, and a policy that releases what is abandoned.

use buttress_core::Verdict;
use buttress_idempotency::{Abandoned, Idempotency, Orphan, Policy, store::MemoryStore};
use tokio::time::advance;

use super::{abandon, answers, is_done};
use crate::stand::{ASKED, SECOND, key, new};

/// The policy says of abandoned keys that they are free; nobody was told that they are.
#[tokio::test(start_paused = true)]
async fn a_drive_that_comes_to_nothing_loses_no_request_where_abandoned_keys_are_released() {
    let policy = Policy::builder().abandoned(Abandoned::Release).build();
    let builder = Idempotency::builder(MemoryStore::new()).policy(policy.unwrap());
    let idempotency = builder.build();
    for name in ["fails", "down", "panics"] {
        let begun = idempotency.begin_keeping(&key(name), &ASKED, name).await;
        // Its client goes after the first phase.
        new(begun.unwrap()).phase("ride", &()).await.unwrap();
    }
    let by_name = |result: Result<&(), &&str>| match result {
        Ok(()) => Verdict::success(),
        Err(&"down") => Verdict::not_done(),
        Err(_) => Verdict::unknown(),
    };
    let mut completer = idempotency.completer_with(by_name, |mut orphan: Orphan| async move {
        assert!(orphan.guard.passed::<()>("ride").unwrap().is_some());
        match (orphan.drive, &*orphan.request) {
            (1, b"fails") => Err("fails"),
            (1, b"panics") => panic!("the handler's own bug"),
            (1, b"down") if orphan.guard.fence().unwrap().epoch() == 2 => Err("down"),
            _ => answers(orphan).await,
        }
    });
    let (mut postponed, mut finished) = (0, 0);
    for _ in 0..10 {
        advance(300 * SECOND).await;
        let driven = completer.run_once().await.unwrap();
        (postponed, finished) = (postponed + driven.postponed, finished + driven.finished);
    }
    assert_eq!((postponed, finished), (3, 3));
    for name in ["fails", "down", "panics"] {
        assert!(is_done(&idempotency, name).await, "{name}");
    }
}

/// It failed in its last drive, in which it got on.
#[tokio::test(start_paused = true)]
async fn a_last_drive_that_passes_a_phase_was_not_the_last() {
    let idempotency = Idempotency::new(MemoryStore::new());
    abandon(&idempotency, "one").await;
    let completer = idempotency.completer(|mut orphan: Orphan| async move {
        for phase in ["ride", "charge"] {
            if orphan.guard.passed::<()>(phase).unwrap().is_none() {
                orphan.guard.phase(phase, &()).await.unwrap();
                break;
            }
        }
        Err::<(), _>("no")
    });
    let mut completer = completer.drives(1).unwrap();
    for expected in [(1, 0), (1, 0), (0, 1)] {
        advance(300 * SECOND).await;
        let driven = completer.run_once().await.unwrap();
        assert_eq!((driven.postponed, driven.parked), expected);
    }
}
