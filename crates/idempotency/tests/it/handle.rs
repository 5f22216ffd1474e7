//! The handle, on a store in memory.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Registry, Verdict};
use buttress_idempotency::{
    Abandoned, Begin, CompleteError, Event, EventKind, Idempotency, IdempotencyError, Policy,
    Refusal, RunError, WhenDown, store::MemoryStore,
};
use buttress_store::LeaseLost;
use buttress_testkit::{
    eventually,
    fault::{Fault, Injection, Plan},
};
use tokio::time::{Instant, advance, sleep};

use crate::stand::{ASKED, Faulty, OTHER, SECOND, key, new, replayed, store_error};

fn in_memory() -> (Idempotency, MemoryStore) {
    let store = MemoryStore::new();
    (Idempotency::new(store.clone()), store)
}

fn with(policy: Policy) -> Idempotency {
    Idempotency::builder(MemoryStore::new())
        .policy(policy)
        .build()
}

#[tokio::test(start_paused = true)]
async fn a_second_request_is_in_flight_and_then_replayed_and_another_is_a_mismatch() {
    let (idempotency, _) = in_memory();
    let key = key("one");
    let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
    assert!(!guard.resumed());
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    assert!(matches!(again, Begin::InFlight { retry_after } if retry_after == SECOND));
    let other = idempotency.begin(&key, &OTHER).await.unwrap();
    assert!(matches!(other, Begin::Mismatch), "before in flight");
    guard.complete("order 1").await.unwrap();
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    assert_eq!(replayed(&again), b"order 1");
    let other = idempotency.begin(&key, &OTHER).await.unwrap();
    assert!(matches!(other, Begin::Mismatch));
}

#[tokio::test(start_paused = true)]
async fn a_released_key_is_free_and_a_doubted_one_waits_for_its_lease() {
    let (idempotency, _) = in_memory();
    let key = key("one");
    new(idempotency.begin(&key, &ASKED).await.unwrap())
        .release()
        .await
        .unwrap();
    let guard = new(idempotency.begin(&key, &OTHER).await.unwrap());
    advance(5 * SECOND).await;
    guard.keep_unknown().await.unwrap();
    let again = idempotency.begin(&key, &OTHER).await.unwrap();
    assert!(
        matches!(again, Begin::InFlight { retry_after } if retry_after == 25 * SECOND),
        "nobody works on it, so nothing comes earlier: {again:?}"
    );
    advance(25 * SECOND).await;
    assert!(new(idempotency.begin(&key, &OTHER).await.unwrap()).resumed());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_guard_leaves_its_key_in_doubt_or_releases_it_as_the_policy_says() {
    for (abandoned, free) in [(Abandoned::Doubt, false), (Abandoned::Release, true)] {
        let idempotency = with(Policy::builder().abandoned(abandoned).build().unwrap());
        let key = key("one");
        drop(new(idempotency.begin(&key, &ASKED).await.unwrap()));
        assert_eq!(idempotency.drain(SECOND).await.stopped, 0);
        let again = idempotency.begin(&key, &ASKED).await.unwrap();
        assert_eq!(matches!(again, Begin::New(_)), free, "{abandoned:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn work_longer_than_its_lease_keeps_its_key_up_to_the_ceiling() {
    let (idempotency, _) = in_memory();
    let key = key("one");
    let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
    sleep(200 * SECOND).await;
    assert!(guard.is_held());
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    assert!(matches!(again, Begin::InFlight { .. }));
    assert_eq!(guard.lost().await, LeaseLost::Ceiling);
    assert!(!guard.is_held());
    sleep(31 * SECOND).await;
    let second = new(idempotency.begin(&key, &ASKED).await.unwrap());
    assert!(second.resumed());
    let late = guard.complete("late").await;
    assert!(
        matches!(late, Err(CompleteError::Lost(_))),
        "a zombie is refused"
    );
    second.complete("second").await.unwrap();
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    assert_eq!(replayed(&again), b"second");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_given_the_outcome_of_the_first() {
    let (idempotency, _) = in_memory();
    let key = key("one");
    let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
    let waits = idempotency.begin_or_wait(&key, &ASKED, 10 * SECOND);
    let works = async {
        sleep(2 * SECOND).await;
        guard.complete("order 1").await.unwrap();
    };
    let (waited, ()) = tokio::join!(waits, works);
    assert_eq!(replayed(&waited.unwrap()), b"order 1");
    let guard = new(idempotency
        .begin(&crate::stand::key("two"), &ASKED)
        .await
        .unwrap());
    let start = Instant::now();
    let waited = idempotency
        .begin_or_wait(guard.key(), &ASKED, 3 * SECOND)
        .await;
    assert!(matches!(waited.unwrap(), Begin::InFlight { .. }));
    assert_eq!(start.elapsed().as_secs(), 3, "and no longer");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_is_too_large_is_refused_and_leaves_the_key_in_doubt() {
    let idempotency = with(Policy::builder().longest_outcome(4).build().unwrap());
    let key = key("one");
    let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
    let error = guard.complete("12345").await.unwrap_err();
    assert!(matches!(
        error,
        CompleteError::TooLarge {
            length: 5,
            longest: 4
        }
    ));
    idempotency.drain(SECOND).await;
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    assert!(matches!(again, Begin::InFlight { retry_after } if retry_after > SECOND));
}

#[tokio::test(start_paused = true)]
async fn work_is_run_once_and_replayed_and_judged_by_its_error() {
    let (idempotency, _) = in_memory();
    let runs = AtomicU32::new(0);
    let work = || async {
        runs.fetch_add(1, Relaxed);
        Ok::<_, &str>("order 1".into())
    };
    for replayed in [false, true, true] {
        let ran = idempotency.run(&key("one"), &ASKED, work).await.unwrap();
        assert_eq!((&*ran.outcome, ran.replayed), (&b"order 1"[..], replayed));
    }
    assert_eq!(runs.load(Relaxed), 1);
    let classify = |result: Result<&bytes::Bytes, &&str>| match result {
        Err(&"refused") => Verdict::refused(),
        Err(_) => Verdict::unknown(),
        Ok(_) => Verdict::success(),
    };
    for (error, free) in [("refused", true), ("timed out", false)] {
        let key = key(error);
        let fails = || async { Err(error) };
        let failed = idempotency.run_with(&key, &ASKED, &classify, fails).await;
        assert!(matches!(failed, Err(RunError::Failed(it)) if it == error));
        let again = idempotency.run_with(&key, &ASKED, &classify, work).await;
        assert_eq!(again.is_ok(), free, "{error}");
        if !free {
            let refusal = again.unwrap_err();
            assert!(matches!(
                refusal,
                RunError::Refused(Refusal::InFlight { .. })
            ));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn detached_work_goes_on_when_its_caller_is_gone_and_is_waited_for_at_the_end() {
    let (idempotency, _) = in_memory();
    let work = || async {
        sleep(5 * SECOND).await;
        Ok::<_, ()>("order 1".into())
    };
    let key = key("one");
    let caller = idempotency.run_detached(&key, &ASKED, work);
    assert!(
        tokio::time::timeout(SECOND, caller).await.is_err(),
        "it hangs up"
    );
    assert_eq!(idempotency.drain(60 * SECOND).await.stopped, 0);
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    assert_eq!(replayed(&again), b"order 1");
}

#[tokio::test(start_paused = true)]
async fn draining_has_a_bound_and_hands_back_what_it_stops() {
    let (idempotency, _) = in_memory();
    let key = key("one");
    let start = Instant::now();
    let (ran, drained) = tokio::join!(
        idempotency.run_detached::<(), _>(&key, &ASKED, pending),
        async {
            tokio::task::yield_now().await;
            idempotency.drain(3 * SECOND).await
        }
    );
    assert!(matches!(ran, Err(RunError::Drained)));
    assert_eq!(drained.stopped, 1);
    assert_eq!(start.elapsed().as_secs(), 3);
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    let left = 27 * SECOND;
    assert!(
        matches!(again, Begin::InFlight { retry_after } if retry_after == left),
        "in doubt: {again:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_leaves_its_key_in_doubt_and_its_caller_panicking() {
    let (idempotency, _) = in_memory();
    let key = key("one");
    let caller = tokio::spawn({
        let (idempotency, key) = (idempotency.clone(), key.clone());
        async move {
            let panics = || async { panic!("at the worst moment") };
            idempotency
                .run_detached::<(), _>(&key, &ASKED, panics)
                .await
        }
    });
    assert!(caller.await.unwrap_err().is_panic());
    idempotency.drain(SECOND).await;
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    assert!(matches!(again, Begin::InFlight { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_refuses_unless_the_policy_lets_it_proceed() {
    for when_down in [WhenDown::Refuse, WhenDown::Proceed] {
        let plan = Plan::new([Injection::new(1, Fault::Before)], store_error);
        let store = Faulty::new(MemoryStore::new(), plan);
        let policy = Policy::builder().when_down(when_down).build().unwrap();
        let idempotency = Idempotency::builder(store).policy(policy).build();
        let begun = idempotency.begin(&key("one"), &ASKED).await;
        match when_down {
            WhenDown::Proceed => {
                let guard = new(begun.unwrap());
                assert!(guard.fence().is_none() && !guard.is_held());
                guard.complete("unprotected").await.unwrap();
            }
            _ => assert!(matches!(begun, Err(IdempotencyError::Store(_)))),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_recorded_although_the_store_fails_for_a_while() {
    // The claim is the first operation.
    let failing = (2..=6).map(|operation| Injection::new(operation, Fault::Before));
    let plan = Plan::new(failing, store_error);
    let idempotency = Idempotency::new(Faulty::new(MemoryStore::new(), plan.clone()));
    let key = key("one");
    let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
    guard.complete("order 1").await.unwrap();
    assert_eq!(plan.struck(), 5);
    let again = idempotency.begin(&key, &ASKED).await.unwrap();
    assert_eq!(replayed(&again), b"order 1");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_begins_to_expire_is_reaped_by_a_task_that_outlives_errors() {
    let store = MemoryStore::new();
    let plan = Plan::new([Injection::new(3, Fault::Before)], store_error);
    let policy = Policy::builder().retention(SECOND).build().unwrap();
    let idempotency = Idempotency::builder(Faulty::new(store.clone(), plan))
        .policy(policy)
        .build();
    let guard = new(idempotency.begin(&key("one"), &ASKED).await.unwrap());
    guard.complete("order 1").await.unwrap();
    let reaper = idempotency.reaper().with(SECOND, 10).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runs = tokio::spawn(async move { reaper.run_until(async { drop(stopped.await) }).await });
    sleep(400 * SECOND).await;
    assert!(format!("{store:?}").contains("records: 0"), "{store:?}");
    drop(stop);
    runs.await.unwrap();
    assert_eq!(
        idempotency
            .reaper()
            .with(Duration::ZERO, 1)
            .unwrap_err()
            .field(),
        "every"
    );
    assert_eq!(
        idempotency.reaper().with(SECOND, 0).unwrap_err().field(),
        "batch"
    );
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_told_and_counted() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let registry = Registry::new();
    let idempotency = Idempotency::builder(MemoryStore::new())
        .name("orders")
        .observer(move |event: &Event| hears.lock().unwrap().push(event.kind))
        .observer(buttress_idempotency::TraceEvents)
        .observer(buttress_idempotency::MetricsObserver::new())
        .registry(&registry)
        .build();
    let key = key("one");
    let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
    let gauge = || {
        let mut found = None;
        registry.entries()[0].gauges(&mut |name, value| {
            if name == "buttress_idempotency_in_flight" {
                found = Some(value);
            }
        });
        found
    };
    assert_eq!((registry.entries()[0].name(), gauge()), ("orders", Some(1)));
    drop(idempotency.begin(&key, &ASKED).await.unwrap());
    drop(idempotency.begin(&key, &OTHER).await.unwrap());
    guard.complete("done").await.unwrap();
    drop(idempotency.begin(&key, &ASKED).await.unwrap());
    assert_eq!(gauge(), Some(0));
    drop(new(idempotency
        .begin(&crate::stand::key("two"), &ASKED)
        .await
        .unwrap()));
    let expected = [
        EventKind::InFlight,
        EventKind::Mismatched,
        EventKind::Completed,
        EventKind::Replayed,
    ];
    eventually("it is handed back", SECOND, async || {
        heard
            .lock()
            .unwrap()
            .contains(&EventKind::Doubted)
            .then_some(())
    })
    .await;
    let heard = heard.lock().unwrap();
    assert_eq!(heard[1..5], expected);
    assert!(heard.contains(&EventKind::Abandoned));
}

#[tokio::test(start_paused = true)]
async fn keys_that_nobody_finishes_are_listed() {
    let (idempotency, _) = in_memory();
    let key = key("one");
    let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
    guard.keep_unknown().await.unwrap();
    assert!(idempotency.unfinished(SECOND, 10).await.unwrap().is_empty());
    advance(32 * SECOND).await;
    let listed = idempotency.unfinished(SECOND, 10).await.unwrap();
    assert_eq!((&listed[0].key, listed[0].epoch), (&key, 1));
    assert!(new(idempotency.begin(&listed[0].key, &ASKED).await.unwrap()).resumed());
}
