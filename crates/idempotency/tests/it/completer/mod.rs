//! Work that nobody asks for again, and that is finished all the same.

mod databases;
mod released;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use buttress_core::Verdict;
use buttress_idempotency::{
    Begin, Completer, Event, Fingerprint, Guard, Idempotency, IdempotencyError, Orphan, Policy,
    Tracked, store::MemoryStore,
};
use buttress_testkit::{
    fault::{Fault, Injection, Plan},
    redis::fresh_prefix,
};
use tokio::{
    sync::Notify,
    task::yield_now,
    time::{advance, sleep},
};

use crate::stand::{ASKED, Faulty, SECOND, key, new, on_redis, replayed, store_error};

/// Somebody begins this, and goes.
async fn abandon(idempotency: &Idempotency, name: &str) {
    let request = name.to_owned();
    let begun = idempotency.begin_keeping(&key(name), &ASKED, request).await;
    drop(new(begun.unwrap()));
    // The key is left in doubt, on a task of its own.
    yield_now().await;
}

/// Answers with the request.
async fn answers(orphan: Orphan) -> Result<(), &'static str> {
    let answer = orphan.request.to_vec();
    orphan.guard.complete(answer).await.map_err(|_| "lost")
}

pub(crate) fn eager(completer: Completer) -> Completer {
    let completer = completer.idle(Duration::ZERO).unwrap();
    completer.every(Duration::from_millis(5)).unwrap()
}

async fn is_done(idempotency: &Idempotency, name: &str) -> bool {
    let begun = idempotency.begin(&key(name), &ASKED).await.unwrap();
    match begun {
        Begin::Replay(outcome) => {
            assert_eq!(outcome, name);
            true
        }
        Begin::InFlight { .. } => false,
        other => panic!("{other:?}"),
    }
}

/// Where work was when its worker died, and what is then done: ID-10, ID-13, ID-14, ID-15; and that
/// it is done at all though nobody asks: ID-19.
#[tokio::test(start_paused = true)]
async fn id_10_to_id_19_work_goes_on_from_its_recovery_point() {
    const ROWS: &[(&str, &[&str], &[&str])] = &[
        ("ID-13", &[], &["ride", "charge", "receipt"]),
        ("ID-14", &["ride"], &["charge", "receipt"]),
        ("ID-15", &["ride", "charge"], &["receipt"]),
        ("ID-10", &["ride", "charge", "receipt"], &[]),
    ];
    async fn run(mut guard: Guard, done: &Mutex<Vec<String>>, until: usize) {
        for phase in ["ride", "charge", "receipt"].iter().take(until) {
            if guard.passed::<()>(phase).unwrap().is_none() {
                done.lock().unwrap().push((*phase).to_owned());
                guard.phase(phase, &()).await.unwrap();
            }
        }
        if until > 3 {
            guard.complete("201 Created").await.unwrap();
        }
    }
    for by_completer in [true, false] {
        for (id, passed, expected) in ROWS {
            let idempotency = Idempotency::new(MemoryStore::new());
            let key = key(id);
            let begun = idempotency.begin_keeping(&key, &ASKED, "POST /rides");
            let guard = new(begun.await.unwrap());
            run(guard, &Mutex::default(), passed.len()).await;
            let done = Arc::new(Mutex::new(Vec::new()));
            // Before anybody may have it, and after.
            for (waited, finished) in [(80, 0), (220, 1)] {
                advance(waited * SECOND).await;
                if by_completer {
                    let note = Arc::clone(&done);
                    let mut completer = idempotency.completer(move |orphan: Orphan| {
                        let note = Arc::clone(&note);
                        async move {
                            run(orphan.guard, &note, 4).await;
                            Ok::<_, ()>(())
                        }
                    });
                    let driven = completer.run_once().await.unwrap();
                    assert_eq!(driven.finished, finished, "{id}");
                }
            }
            if !by_completer {
                let guard = new(idempotency.begin(&key, &ASKED).await.unwrap());
                run(guard, &done, 4).await;
            }
            assert_eq!(*done.lock().unwrap(), *expected, "{id}");
            let again = idempotency.begin(&key, &ASKED).await.unwrap();
            assert_eq!(replayed(&again), b"201 Created", "{id}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn id_21_a_handler_that_fails_or_panics_counts_and_the_loop_survives() {
    let idempotency = Idempotency::new(MemoryStore::new());
    for name in ["fails", "panics", "panics at once", "works"] {
        abandon(&idempotency, name).await;
    }
    advance(300 * SECOND).await;
    let handler = |orphan: Orphan| {
        assert_ne!(&*orphan.request, b"panics at once");
        async move {
            match &*orphan.request {
                b"fails" => Err("no"),
                b"panics" => panic!("the handler's own bug"),
                _ => answers(orphan).await,
            }
        }
    };
    let mut completer = idempotency.completer(handler);
    let driven = completer.run_once().await.unwrap();
    assert_eq!(
        (driven.finished, driven.postponed, driven.parked),
        (1, 3, 0)
    );
    assert!(is_done(&idempotency, "works").await);
    // They wait, longer each time, and are parked in the end.
    let mut parked = 0;
    for _ in 0..40 {
        advance(300 * SECOND).await;
        parked += completer.run_once().await.unwrap().parked;
    }
    assert_eq!(parked, 3);
    let listed = idempotency.unfinished(Duration::ZERO, 10).await.unwrap();
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|it| it.parked && it.drives == 10));
    assert!(idempotency.unpark(&key("fails")).await.unwrap());
    assert!(!idempotency.unpark(&key("works")).await.unwrap());
    let mut completer = idempotency.completer(answers);
    assert_eq!(completer.run_once().await.unwrap().finished, 1);
    assert!(is_done(&idempotency, "fails").await);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_down_counts_against_nobody_and_is_left_alone_for_longer() {
    let idempotency = Idempotency::new(MemoryStore::new());
    for name in ["one", "other"] {
        abandon(&idempotency, name).await;
    }
    advance(300 * SECOND).await;
    let (calls, down) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(1)));
    let (count, is_down) = (Arc::clone(&calls), Arc::clone(&down));
    let classify = |result: Result<&(), &&str>| match result {
        Ok(()) => Verdict::success(),
        Err(&"down") => Verdict::not_done(),
        Err(_) => Verdict::refused(),
    };
    let completer = idempotency.completer_with(classify, move |orphan: Orphan| {
        count.fetch_add(1, SeqCst);
        let is_down = is_down.load(SeqCst) == 1;
        async move {
            match is_down {
                true => Err("down"),
                false => answers(orphan).await,
            }
        }
    });
    let running = tokio::spawn(completer.run_until(std::future::pending()));
    sleep(3600 * SECOND).await;
    let called = calls.load(SeqCst);
    // Each ten seconds it would be 360 calls; pauses of 160 s, or the minute that a key is its
    // client's again, make few of them.
    assert!((10..=60).contains(&called), "{called} calls in an hour");
    let listed = idempotency.unfinished(Duration::ZERO, 10).await.unwrap();
    assert!(
        listed.iter().all(|it| !it.parked && it.drives == 0),
        "{listed:?}"
    );
    down.store(0, SeqCst);
    sleep(600 * SECOND).await;
    for name in ["one", "other"] {
        assert!(is_done(&idempotency, name).await, "{name}");
    }
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_parked_at_once() {
    let idempotency = Idempotency::new(MemoryStore::new());
    abandon(&idempotency, "one").await;
    advance(300 * SECOND).await;
    let refused = |_: Result<&(), &()>| Verdict::refused();
    let mut completer = idempotency.completer_with(refused, async |_: Orphan| Err(()));
    assert_eq!(completer.run_once().await.unwrap().parked, 1);
    // Refused or not, it is in doubt until its lease is over.
    advance(30 * SECOND).await;
    let listed = idempotency.unfinished(Duration::ZERO, 10).await.unwrap();
    assert!(listed[0].parked && listed[0].drives == 1);
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_it_is_driven_is_told_that_it_is_in_flight() {
    let idempotency = Idempotency::new(MemoryStore::new());
    abandon(&idempotency, "one").await;
    advance(300 * SECOND).await;
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (says, waits) = (Arc::clone(&begun), Arc::clone(&go));
    let completer = idempotency.completer(move |orphan: Orphan| {
        let (says, waits) = (Arc::clone(&says), Arc::clone(&waits));
        async move {
            says.notify_one();
            waits.notified().await;
            answers(orphan).await
        }
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(completer.run_until(async {
        let _ = stopped.await;
    }));
    begun.notified().await;
    sleep(60 * SECOND).await;
    assert!(!is_done(&idempotency, "one").await, "it is in flight");
    // It is told to stop; what is under way goes on, and the drain waits for it.
    stop.send(()).unwrap();
    running.await.unwrap();
    assert!(!is_done(&idempotency, "one").await);
    go.notify_one();
    assert_eq!(idempotency.drain(60 * SECOND).await.stopped, 0);
    assert!(is_done(&idempotency, "one").await);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_has_completed_and_goes_on_is_not_stopped() {
    let idempotency = Idempotency::new(MemoryStore::new());
    abandon(&idempotency, "one").await;
    advance(300 * SECOND).await;
    let mailed = Arc::new(AtomicU32::new(0));
    let note = Arc::clone(&mailed);
    let mut completer = idempotency.completer(move |orphan: Orphan| {
        let note = Arc::clone(&note);
        async move {
            answers(orphan).await?;
            sleep(SECOND).await;
            note.fetch_add(1, SeqCst);
            Ok::<_, &'static str>(())
        }
    });
    assert_eq!(completer.run_once().await.unwrap().finished, 1);
    assert_eq!(mailed.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_drain_stops_is_driven_again_after_its_lease() {
    let memory = MemoryStore::new();
    let idempotency = Idempotency::new(memory.clone());
    abandon(&idempotency, "one").await;
    advance(300 * SECOND).await;
    let mut completer = idempotency.completer(async |orphan: Orphan| {
        let guard = orphan.guard;
        std::future::pending::<()>().await;
        drop(guard);
        Ok::<_, ()>(())
    });
    let run = async { completer.run_once().await.unwrap() };
    let (driven, drained) = tokio::join!(run, async {
        sleep(SECOND).await;
        idempotency.drain(SECOND).await
    });
    assert_eq!((driven.postponed, drained.stopped), (1, 1));
    let idempotency = Idempotency::new(memory);
    assert!(
        !is_done(&idempotency, "one").await,
        "until its lease is over"
    );
    advance(300 * SECOND).await;
    let mut completer = idempotency.completer(answers);
    assert_eq!(completer.run_once().await.unwrap().finished, 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_refused_before_anything_is_claimed() {
    let policy = Policy::builder().longest_request(8).build().unwrap();
    let builder = Idempotency::builder(MemoryStore::new()).policy(policy);
    let idempotency = builder.build();
    let key = key("one");
    let begun = idempotency.begin_keeping(&key, &ASKED, "123456789").await;
    let Err(IdempotencyError::RequestTooLarge { length: 9, .. }) = begun else {
        panic!("{begun:?}")
    };
    let begun = idempotency.begin_keeping(&key, &ASKED, "12345678").await;
    new(begun.unwrap()).complete("done").await.unwrap();
    // Another request under the key is told so, whatever it brings.
    let other = Fingerprint::new(1, [9; 32]);
    let begun = idempotency.begin_keeping(&key, &other, "other").await;
    assert!(matches!(begun.unwrap(), Begin::Mismatch));
}

#[tokio::test]
async fn a_store_without_a_list_keeps_no_requests() {
    let Some(prefix) = fresh_prefix() else { return };
    let idempotency = Idempotency::new(on_redis(prefix.url(), prefix.as_str()).await);
    let begun = idempotency.begin_keeping(&key("one"), &ASKED, "x").await;
    assert!(matches!(begun, Err(IdempotencyError::NoRequests)));
    let mut completer = idempotency.completer(answers);
    let run = completer.run_once().await;
    assert!(matches!(run, Err(IdempotencyError::NoRequests)));
}

#[tokio::test(start_paused = true)]
async fn what_a_completer_does_is_told_to_those_who_listen_and_shows_no_request() {
    let (said, heard) = mpsc::channel();
    let said = Mutex::new(said);
    let idempotency = Idempotency::builder(MemoryStore::new())
        .observer(move |event: &Event| said.lock().unwrap().send(event.kind).unwrap())
        .build();
    abandon(&idempotency, "a secret").await;
    advance(300 * SECOND).await;
    let mut completer = idempotency
        .completer(async |orphan: Orphan| {
            let shown = format!("{orphan:?}");
            assert!(!shown.contains("secret"), "{shown}");
            orphan.guard.keep_unknown().await.unwrap();
            Err(())
        })
        .drives(2)
        .unwrap();
    for _ in 0..2 {
        completer.run_once().await.unwrap();
        advance(300 * SECOND).await;
    }
    let heard: Vec<String> = heard.try_iter().map(|it| format!("{it:?}")).collect();
    let expected = [
        "Claimed { epoch: 1 }",
        "Abandoned",
        "Doubted",
        "Adopted { drive: 1 }",
        "Doubted",
        "Postponed",
        "Adopted { drive: 2 }",
        "Doubted",
        "Parked",
    ];
    assert_eq!(heard, expected);
}

#[tokio::test(start_paused = true)]
async fn one_fault_anywhere_loses_no_abandoned_key() {
    let mut met = 0;
    for fault in Fault::ALL {
        for operation in 2..=6 {
            let plan = Plan::new([Injection::new(operation, fault)], store_error);
            let memory = MemoryStore::new();
            abandon(&Idempotency::new(memory.clone()), "one").await;
            advance(300 * SECOND).await;
            let idempotency = Idempotency::new(Faulty::new(memory.clone(), plan));
            let effects = Arc::new(AtomicU32::new(0));
            let count = Arc::clone(&effects);
            let completer = idempotency.completer(move |mut orphan: Orphan| {
                let count = Arc::clone(&count);
                async move {
                    if orphan.guard.passed::<()>("ride").map_err(drop)?.is_none() {
                        count.fetch_add(1, SeqCst);
                        orphan.guard.phase("ride", &()).await.map_err(drop)?;
                    }
                    answers(orphan).await.map_err(drop)
                }
            });
            let running = tokio::spawn(completer.run_until(std::future::pending()));
            sleep(1200 * SECOND).await;
            running.abort();
            let idempotency = Idempotency::new(memory);
            assert!(
                is_done(&idempotency, "one").await,
                "{fault:?} at {operation}"
            );
            assert_eq!(effects.load(SeqCst), 1, "{fault:?} at {operation}");
            met += 1;
        }
    }
    assert!(met > 20, "{met}");
}

/// That it can be spawned.
#[expect(dead_code, reason = "it is enough that it compiles")]
fn is_send(idempotency: &Idempotency) -> Tracked<()> {
    let completer = idempotency.completer(answers);
    idempotency.spawn(completer.run_until(std::future::pending()))
}
