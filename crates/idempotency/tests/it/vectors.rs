//! What other systems expect, row by row, with the rows' ids. What is HTTP's is tested there; what
//! is not built, or decided otherwise, is in `docs/decisions`.

use std::time::Duration;

use buttress_core::Verdict;
use buttress_idempotency::{
    Begin, CompleteError, Idempotency, Key, KeyError, Policy, RunError, Scope, ScopedKey,
    store::{Answer, MemoryStore, Request, Store},
};
use buttress_store::{StoreErrorKind, Token};
use buttress_testkit::fault::{Fault, Injection, Plan};
use tokio::{task::yield_now, time::advance};

use crate::stand::{ASKED, Faulty, OTHER, OnPostgres, SECOND, key, new, replayed, store_error};

const HOUR: Duration = Duration::from_secs(3600);

/// What a row gives, in the order in which it happens to one key.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Comes with the request, or with another one.
    Asks,
    AsksOther,
    Completes,
    Fails,
    /// The work is found not to have begun.
    Releases,
    Dies,
    Passes(Duration),
}
use Step::{Asks, AsksOther, Completes, Dies, Fails, Passes, Releases};

/// What its last question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    New,
    Resumed,
    Replayed,
    InFlight,
    Mismatch,
}
use Expected::{InFlight, Mismatch, New, Replayed, Resumed};

const ROWS: &[(&str, &[Step], Expected)] = &[
    ("ID-02", &[Asks, Completes, AsksOther], Mismatch),
    ("ID-03", &[Asks, Asks], InFlight),
    ("ID-09", &[Asks, Completes, Asks], Replayed),
    (
        "ID-11",
        &[Asks, Dies, Passes(Duration::from_secs(90)), Asks],
        Resumed,
    ),
    // Ours: an unexpected error leaves it in doubt, and not free at once.
    (
        "ID-17",
        &[Asks, Fails, Passes(Duration::from_secs(30)), Asks],
        Resumed,
    ),
    ("ID-18", &[Asks, AsksOther], Mismatch),
    (
        "ID-22 kept",
        &[
            Asks,
            Completes,
            Passes(Duration::from_secs(71 * 3600)),
            Asks,
        ],
        Replayed,
    ),
    (
        "ID-22 gone",
        &[
            Asks,
            Completes,
            Passes(Duration::from_secs(73 * 3600)),
            Asks,
        ],
        New,
    ),
    (
        "ID-26",
        &[Asks, Dies, Passes(Duration::from_secs(25)), Asks],
        InFlight,
    ),
    (
        "ID-29",
        &[Asks, Dies, Passes(Duration::from_secs(30)), Asks],
        Resumed,
    ),
    (
        "ID-30",
        &[Asks, Dies, Passes(Duration::from_secs(31)), Asks],
        Resumed,
    ),
    ("ID-34", &[Asks, Completes, AsksOther], Mismatch),
    ("ID-35", &[Asks, Completes, Asks, AsksOther], Mismatch),
    ("ID-47", &[Asks, Releases, AsksOther], New),
    (
        "ID-47 conflict",
        &[Asks, Asks, AsksOther, Completes, Asks],
        Replayed,
    ),
    (
        "ID-49",
        &[
            Asks,
            Completes,
            Passes(Duration::from_secs(73 * 3600)),
            AsksOther,
        ],
        New,
    ),
];

#[tokio::test(start_paused = true)]
async fn each_row_ends_as_it_should() {
    for (id, steps, expected) in ROWS {
        let policy = Policy::builder().retention(72 * HOUR).build().unwrap();
        let idempotency = Idempotency::builder(MemoryStore::new())
            .policy(policy)
            .build();
        let (mut guard, mut last) = (None, None);
        for step in *steps {
            match step {
                Asks | AsksOther => {
                    let asked = if matches!(step, Asks) { &ASKED } else { &OTHER };
                    let begun = idempotency.begin(&key("one"), asked).await.unwrap();
                    last = Some(match begun {
                        Begin::New(his) => {
                            let answer = if his.resumed() { Resumed } else { New };
                            guard = Some(his);
                            answer
                        }
                        Begin::Replay(outcome) => {
                            assert_eq!(outcome, "201 Created", "{id}");
                            Replayed
                        }
                        Begin::InFlight { .. } => InFlight,
                        Begin::Mismatch => Mismatch,
                    });
                }
                Completes => guard.take().unwrap().complete("201 Created").await.unwrap(),
                Fails => guard.take().unwrap().keep_unknown().await.unwrap(),
                Releases => guard.take().unwrap().release().await.unwrap(),
                Dies => {
                    drop(guard.take());
                    yield_now().await;
                }
                Passes(time) => advance(*time).await,
            }
        }
        assert_eq!(last, Some(*expected), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn id_07_and_id_37_one_key_in_two_scopes_is_two_keys() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let key = Key::new("abc").unwrap();
    for user in ["alice", "bob"] {
        for function in ["charge", "ship"] {
            let key = Scope::of([user, function]).key(&key);
            new(idempotency.begin(&key, &ASKED).await.unwrap())
                .complete(user)
                .await
                .unwrap();
            let again = idempotency.begin(&key, &ASKED).await.unwrap();
            assert_eq!(replayed(&again), user.as_bytes());
        }
    }
}

/// Ten thousand pairs of tenants, with keys as alike as they can be.
#[tokio::test(start_paused = true)]
async fn id5_no_tenant_sees_what_another_has() {
    let tally = buttress_testkit::tally::suite("ID5");
    let idempotency = Idempotency::new(MemoryStore::new());
    for number in 0..10_000_u32 {
        let (one, other) = (format!("{number}:a"), format!("{number}"));
        let keys: [ScopedKey; 2] = [
            Scope::of([&*one, "b"]).key(&Key::new("key").unwrap()),
            Scope::of([&*other, "a:b"]).key(&Key::new("key").unwrap()),
        ];
        for (tenant, key) in ["one", "other"].iter().zip(&keys) {
            let guard = new(idempotency.begin(key, &ASKED).await.unwrap());
            guard.complete(*tenant).await.unwrap();
        }
        assert_ne!(keys[0].derive("charge"), keys[1].derive("charge"));
    }
    tally.operations(20_000);
}

#[tokio::test(start_paused = true)]
async fn id_19_work_that_nobody_asks_for_again_is_found_and_done() {
    let idempotency = Idempotency::new(MemoryStore::new());
    drop(new(idempotency.begin(&key("one"), &ASKED).await.unwrap()));
    yield_now().await;
    advance(300 * SECOND).await;
    let found = idempotency.unfinished(60 * SECOND, 1000).await.unwrap();
    let guard = new(idempotency.begin(&found[0].key, &ASKED).await.unwrap());
    guard.complete("201 Created").await.unwrap();
    assert!(
        idempotency
            .unfinished(Duration::ZERO, 1000)
            .await
            .unwrap()
            .is_empty()
    );
}

#[test]
fn id_23_an_empty_key_is_no_key() {
    assert_eq!(Key::new(""), Err(KeyError::Empty));
    for real in ["0", "false", "null", " "] {
        assert!(Key::new(real).is_ok(), "{real:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn id_31_work_that_was_not_done_frees_its_key_and_its_own_error_comes_out() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let not_done = |_: Result<&bytes::Bytes, &&str>| Verdict::not_done();
    let fails = || async { Err("no connection") };
    for _ in 0..2 {
        let ran = idempotency
            .run_with(&key("one"), &ASKED, &not_done, fails)
            .await;
        assert!(
            matches!(ran, Err(RunError::Failed("no connection"))),
            "it runs again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn id_33_an_outcome_that_cannot_be_saved_is_an_error() {
    let faults = (2..50).map(|operation| Injection::new(operation, Fault::Before));
    let idempotency = Idempotency::new(Faulty::new(
        MemoryStore::new(),
        Plan::new(faults, store_error),
    ));
    let guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    assert!(matches!(
        guard.complete("done").await,
        Err(CompleteError::Store(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn id_38_what_is_completed_is_what_was_claimed() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let mut bytes = b"abc".to_vec();
    let key = Scope::of(["x"]).key(&Key::new(&bytes).unwrap());
    let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
    bytes.clear();
    assert_eq!(guard.key(), &key);
    guard.complete("done").await.unwrap();
    assert!(matches!(
        idempotency.begin(&key, &ASKED).await.unwrap(),
        Begin::Replay(_)
    ));
}

/// ID-39 and ID-41, an orphan with many claimers at once, are in the suite for stores, as is
/// ID-46, the zombie.
#[tokio::test]
async fn id_42_and_id_43_a_record_that_cannot_be_read_is_an_error_and_no_rerun() {
    let Some(on) = OnPostgres::start().await else {
        return;
    };
    let key = key("one");
    let request = Request::new(&key, ASKED, Token::random(), SECOND, SECOND * 60);
    for wrong in [
        "UPDATE buttress_idempotency SET state = 9",
        "UPDATE buttress_idempotency SET state = 2, outcome = NULL",
        "UPDATE buttress_idempotency SET state = 0, fingerprint = '\\x01'",
        "UPDATE buttress_idempotency SET fingerprint = decode(repeat('01', 33), 'hex'), token = '\\x01'",
    ] {
        assert!(matches!(
            on.store.claim(&request).await.unwrap(),
            Answer::Claimed(_)
        ));
        sqlx::query(wrong).execute(&on.pool).await.unwrap();
        let another = Request::new(&key, ASKED, Token::random(), SECOND, SECOND * 60);
        let error = on.store.claim(&another).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Broken, "{wrong}: {error}");
        sqlx::query("DELETE FROM buttress_idempotency")
            .execute(&on.pool)
            .await
            .unwrap();
    }
    on.close().await;
}
