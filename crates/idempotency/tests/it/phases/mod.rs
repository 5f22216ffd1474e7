//! Work in phases: what is passed, what is told, and who is refused.

mod in_transaction;
mod planted;

use buttress_core::{Chain, Fault as _};
use buttress_idempotency::{
    Begin, CompleteError, Event, EventKind, Guard, Idempotency, Key, PhaseError, Policy, Scope,
    store::MemoryStore,
};
use buttress_store::StoreError;
use buttress_testkit::{
    fault::{Fault, Injection, Plan},
    fault_sweep,
};
use bytes::Bytes;
use serde_json::json;
use tokio::time::{advance, sleep};

pub(crate) use self::planted::{Bug, Buggy};
use crate::stand::{ASKED, Faulty, SECOND, key, new, store_error};

fn resumed(begun: Begin) -> Guard {
    let guard = new(begun);
    assert!(guard.resumed());
    guard
}

/// Passes this phase, whatever it comes to.
async fn pass(guard: &mut Guard, name: &str, output: u64) {
    assert_eq!(guard.passed::<u64>(name).unwrap(), None, "{name}");
    guard.phase(name, &output).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_passed_is_told_in_its_own_type_and_the_rest_is_done() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let mut guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    let output = json!({"id": 7, "text": "one line\nand another \u{e4} \0"});
    assert_eq!(guard.passed::<serde_json::Value>("ride").unwrap(), None);
    guard.phase("ride", &output).await.unwrap();
    let charge = guard.derived_key("charge");
    drop(guard);
    advance(30 * SECOND).await;
    let mut guard = resumed(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    assert_eq!(guard.passed("ride").unwrap(), Some(output));
    assert_eq!(guard.derived_key("charge"), charge, "the same in each try");
    pass(&mut guard, "charge", 1).await;
    guard.complete("done").await.unwrap();
    let again = idempotency.begin(&key("one"), &ASKED).await.unwrap();
    assert!(matches!(again, Begin::Replay(outcome) if outcome == "done"));
}

#[test]
fn derived_keys_are_those_of_one_scope_key_and_step() {
    let of = |scope: &str, name: &str, step: &str| {
        let key = Scope::of([scope]).key(&Key::new(name).unwrap());
        key.derive(step)
    };
    let all = [
        of("a", "k", "charge"),
        of("b", "k", "charge"),
        of("a", "kc", "harge"),
        of("a", "k", "ship"),
    ];
    for (at, one) in all.iter().enumerate() {
        assert_eq!(one.len(), 64);
        assert!(!all[at + 1..].contains(one));
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_program_is_told_so_and_does_nothing() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let mut first = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    pass(&mut first, "ride", 7).await;
    pass(&mut first, "charge", 8).await;
    drop(first);
    let again = async || {
        advance(300 * SECOND).await;
        resumed(idempotency.begin(&key("one"), &ASKED).await.unwrap())
    };
    let mut turned = again().await;
    let wrong = turned.passed::<u64>("charge").unwrap_err();
    let PhaseError::Changed(changed) = &wrong else {
        panic!("{wrong:?}")
    };
    assert_eq!(changed.number, 1);
    assert_eq!(changed.recorded.as_deref(), Some("ride"));
    assert_eq!(changed.found.as_deref(), Some("charge"));
    assert_eq!((wrong.status(), wrong.code()), (500, "INTERNAL"));
    drop(turned);
    let mut blind = again().await;
    let wrong = blind.phase("ride", &9).await.unwrap_err();
    assert!(matches!(wrong, PhaseError::Passed), "{wrong:?}");
    let wrong = blind.phase("trip", &9).await.unwrap_err();
    assert!(matches!(wrong, PhaseError::Changed(_)), "{wrong:?}");
    drop(blind);
    let mut shorter = again().await;
    assert_eq!(shorter.passed("ride").unwrap(), Some(7));
    let wrong = shorter.complete("done").await.unwrap_err();
    assert!(matches!(wrong, CompleteError::Changed(_)), "{wrong:?}");
    let mut other_type = again().await;
    let wrong = other_type.passed::<String>("ride").unwrap_err();
    assert!(matches!(wrong, PhaseError::Unreadable), "{wrong:?}");
    assert!(!Chain(&wrong).to_string().contains('7'), "{wrong}");
    drop(other_type);
    let mut right = again().await;
    assert_eq!(right.passed("ride").unwrap(), Some(7));
    assert_eq!(right.passed("charge").unwrap(), Some(8));
    right.complete("done").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_name_or_too_large_is_refused_before_the_store_is_asked() {
    let policy = Policy::builder().longest_progress(32).build().unwrap();
    let builder = Idempotency::builder(MemoryStore::new()).policy(policy);
    let idempotency = builder.build();
    let mut guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    for name in ["", "a b", "a\n", "\u{e4}", &"x".repeat(65)] {
        let wrong = guard.passed::<u64>(name).unwrap_err();
        assert!(matches!(wrong, PhaseError::Name), "{name:?}");
        let wrong = guard.phase(name, &1).await.unwrap_err();
        assert!(matches!(wrong, PhaseError::Name), "{name:?}");
    }
    let wrong = guard.phase("ride", &"x".repeat(32)).await.unwrap_err();
    let (length, longest) = (40, 32);
    assert!(
        matches!(wrong, PhaseError::TooLarge { length: l, longest: m } if (l, m) == (length, longest)),
        "{wrong:?}"
    );
    guard.phase("ride", &1).await.unwrap();
    guard.complete("done").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_phase_is_told_to_those_who_listen() {
    let (said, heard) = std::sync::mpsc::channel();
    let said = std::sync::Mutex::new(said);
    let idempotency = Idempotency::builder(MemoryStore::new())
        .observer(move |event: &Event| said.lock().unwrap().send(event.kind).unwrap())
        .build();
    let mut guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    pass(&mut guard, "ride", 7).await;
    pass(&mut guard, "charge", 7).await;
    guard.complete("done").await.unwrap();
    let expected = [EventKind::Passed, EventKind::Passed, EventKind::Completed];
    assert_eq!(heard.try_iter().skip(1).collect::<Vec<_>>(), expected);
}

/// Two phases and an outcome, asked for until there is an answer.
async fn asks(idempotency: &Idempotency, effects: &[std::sync::atomic::AtomicU32; 2]) -> Bytes {
    use std::sync::atomic::Ordering::Relaxed;
    let once = async || {
        let mut guard = match idempotency.begin(&key("one"), &ASKED).await.ok()? {
            Begin::New(guard) => guard,
            Begin::Replay(outcome) => return Some(outcome),
            _ => return None,
        };
        for (name, effect) in ["ride", "charge"].iter().zip(effects) {
            if guard.passed::<()>(name).unwrap().is_none() {
                effect.fetch_add(1, Relaxed);
                guard.phase(name, &()).await.ok()?;
            }
        }
        guard.complete("done").await.ok()?;
        Some(Bytes::from_static(b"done"))
    };
    for _ in 0..50 {
        if let Some(answer) = once().await {
            return answer;
        }
        sleep(10 * SECOND).await;
    }
    panic!("there is no answer after fifty tries");
}

#[tokio::test(start_paused = true)]
async fn one_fault_anywhere_repeats_no_phase() {
    let scenario = async |plan: Plan<StoreError>| {
        let idempotency = Idempotency::new(Faulty::new(MemoryStore::new(), plan));
        let effects = Default::default();
        let first = asks(&idempotency, &effects).await;
        assert_eq!(first, asks(&idempotency, &effects).await);
        // A phase is recorded to its end: no single fault is enough for a second effect.
        for effect in effects {
            assert_eq!(effect.into_inner(), 1);
        }
    };
    let injected = fault_sweep(&Fault::ALL, store_error, scenario).await;
    assert!(injected >= 24, "{injected}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_leaves_the_phase_in_doubt_and_the_next_resumes() {
    let away = (2..50).map(|operation| Injection::new(operation, Fault::DoneThenError));
    let memory = MemoryStore::new();
    let faulty = Faulty::new(memory.clone(), Plan::new(away, store_error));
    let idempotency = Idempotency::new(faulty);
    let mut guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    let wrong = guard.phase("ride", &7).await.unwrap_err();
    assert!(matches!(wrong, PhaseError::Store(_)), "{wrong:?}");
    drop(guard);
    advance(300 * SECOND).await;
    let idempotency = Idempotency::new(memory);
    let mut guard = resumed(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    assert_eq!(guard.passed("ride").unwrap(), Some(7), "it was stored");
}
