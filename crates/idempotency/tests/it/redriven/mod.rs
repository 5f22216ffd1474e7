//! Requests that are kept over HTTP, and made again without their client.

mod answers;
mod kept;
mod killed;
mod stand;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use axum::Router;
use buttress_idempotency::{
    Idempotency, IdempotencyError,
    store::{MemoryStore, Store},
    tower::Redriven,
};
use buttress_store::StoreError;
use buttress_testkit::{
    cancel_sweep::CancelSweep,
    fault::{Fault, Injection, Plan},
    redis::fresh_prefix,
};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use tokio::{
    sync::Notify,
    time::{advance, sleep},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

use self::stand::{Caller, Shop, asked, kept, layer};
use crate::{
    completer::eager,
    http::stand::{Asked, answer, short},
    stand::{Faulty, SECOND, on_redis, store_error},
};

#[tokio::test(start_paused = true)]
async fn what_a_client_left_is_made_again_as_it_came_and_he_is_given_its_answer() {
    let layer = layer(MemoryStore::new(), kept("shop").version(3));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&heard);
    let service = layer.layer(service_fn(move |request: Asked| {
        let note = Arc::clone(&note);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let redriven = head.extensions.get::<Redriven>().cloned();
            let status = if redriven.is_some() { 201 } else { 500 };
            note.lock().unwrap().push((head, body, redriven));
            Ok::<_, std::convert::Infallible>(answer(status, "order 1"))
        }
    }));
    let mut completer = layer.completer(service.clone()).unwrap();
    let request = || {
        let (mut head, body) = asked("one", "{\"item\": 7}").into_parts();
        head.uri = "/orders?express=1".parse().unwrap();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("cookie", "session=secret"),
            ("x-other", "not asked for"),
        ] {
            head.headers.insert(name, value.parse().unwrap());
        }
        Request::from_parts(head, body)
    };
    let first = stand::ask(service.clone(), request()).await;
    assert_eq!(first.status, 500);
    // As long as it is its client's, nobody has it.
    advance(80 * SECOND).await;
    assert_eq!(completer.run_once().await.unwrap().finished, 0);
    advance(20 * SECOND).await;
    assert_eq!(completer.run_once().await.unwrap().finished, 1);
    {
        let heard = heard.lock().unwrap();
        let [(first, body, None), (again, same, Some(redriven))] = &heard[..] else {
            panic!("{heard:?}")
        };
        assert_eq!((&again.method, &again.uri), (&Method::POST, &first.uri));
        assert_eq!(same, body, "to the byte");
        assert_eq!(again.headers["content-type"], "application/json");
        assert_eq!(again.headers.len(), 1, "{:?}", again.headers);
        assert_eq!((redriven.drive(), redriven.version()), (1, 3));
        assert_eq!(again.extensions.get(), Some(&Caller("ann".into())));
    }
    // Much later, and nobody asked meanwhile.
    advance(3600 * SECOND).await;
    let later = stand::ask(service.clone(), request()).await;
    assert!(later.is_replay());
    assert_eq!((later.status, later.text()), (201, "order 1"));
    assert_eq!(heard.lock().unwrap().len(), 2, "one effect");
    assert_eq!(completer.run_once().await.unwrap().finished, 0);
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_it_is_made_again_is_told_that_it_is_in_flight() {
    let layer = layer(MemoryStore::new(), kept("shop"));
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (says, waits) = (Arc::clone(&begun), Arc::clone(&go));
    let service = layer.layer(service_fn(move |request: Asked| {
        let (says, waits) = (Arc::clone(&says), Arc::clone(&waits));
        async move {
            if request.extensions().get::<Redriven>().is_none() {
                return Ok::<_, std::convert::Infallible>(answer(500, "no"));
            }
            says.notify_one();
            waits.notified().await;
            Ok(answer(200, "done"))
        }
    }));
    stand::ask(service.clone(), asked("one", "{}")).await;
    advance(300 * SECOND).await;
    let mut completer = layer.completer(service.clone()).unwrap();
    let driving = tokio::spawn(async move { completer.run_once().await.unwrap() });
    begun.notified().await;
    sleep(60 * SECOND).await;
    let meanwhile = stand::ask(service.clone(), asked("one", "{}")).await;
    assert_eq!(meanwhile.status, 409);
    assert_eq!(meanwhile.code(), "IDEMPOTENCY_KEY_IN_USE");
    let other = stand::ask(service.clone(), asked("one", "{\"other\": 1}")).await;
    assert_eq!(other.status, 422, "another request is told so before");
    go.notify_one();
    assert_eq!(driving.await.unwrap().finished, 1);
    let later = stand::ask(service, asked("one", "{}")).await;
    assert!(later.is_replay());
}

#[tokio::test(start_paused = true)]
async fn of_a_layer_that_is_there_twice_the_outer_takes_what_is_made_again() {
    let layer = layer(MemoryStore::new(), kept("shop"));
    let shop = Shop::default();
    let service = layer.layer(layer.layer(shop.service()));
    stand::ask(service.clone(), asked("one", "{}")).await;
    advance(300 * SECOND).await;
    let mut completer = layer.completer(service.clone()).unwrap();
    assert_eq!(completer.run_once().await.unwrap().finished, 1);
    assert_eq!((shop.runs(), shop.effects()), (2, [1, 1]));
    assert!(stand::ask(service, asked("one", "{}")).await.is_replay());
}

/// The path that is kept is the one that the layer saw.
#[tokio::test(start_paused = true)]
async fn what_came_through_a_nested_router_is_made_again_by_the_inner_one() {
    let layer = layer(MemoryStore::new(), kept("shop"));
    let shop = Shop::default();
    let inner = Router::new().route_service("/orders", shop.service());
    let inner = inner.layer(layer.clone());
    let outer = Router::new().nest("/api", inner.clone());
    let request = || {
        let mut request = asked("one", "{}");
        *request.uri_mut() = "/api/orders".parse().unwrap();
        request
    };
    let first = outer.clone().oneshot(request()).await.unwrap();
    assert_eq!(first.status(), 500);
    advance(300 * SECOND).await;
    let mut wrong = layer.completer(outer.clone()).unwrap();
    let driven = wrong.run_once().await.unwrap();
    assert_eq!((driven.postponed, shop.runs()), (1, 1), "it is not there");
    advance(300 * SECOND).await;
    let mut right = layer.completer(inner).unwrap();
    assert_eq!(right.run_once().await.unwrap().finished, 1);
    assert_eq!(shop.effects(), [1, 1]);
    let later = outer.oneshot(request()).await.unwrap();
    assert!(later.headers().contains_key("idempotency-replayed"));
}

#[tokio::test(start_paused = true)]
async fn programs_that_share_a_table_are_not_given_each_others_requests() {
    let memory = MemoryStore::new();
    let (one, other) = (Shop::default(), Shop::default());
    let (mine, yours) = (
        layer(memory.clone(), kept("mine")),
        layer(memory.clone(), kept("yours")),
    );
    let (my, your) = (mine.layer(one.service()), yours.layer(other.service()));
    stand::ask(my.clone(), asked("one", "{}")).await;
    advance(300 * SECOND).await;
    let mut wrong = yours.completer(your).unwrap();
    assert_eq!(wrong.run_once().await.unwrap(), Default::default());
    let program = Idempotency::new(memory);
    let mut programs = program.completer(async |_| Ok::<_, ()>(()));
    assert_eq!(programs.run_once().await.unwrap(), Default::default());
    let mut right = mine.completer(my).unwrap();
    assert_eq!(right.run_once().await.unwrap().finished, 1);
    assert_eq!((one.runs(), other.runs()), (2, 0));
}

#[tokio::test]
async fn where_nothing_can_be_kept_the_layer_is_refused_when_it_is_built() {
    let plain = stand::plain(Idempotency::new(MemoryStore::new()));
    let none = plain.completer(Shop::default().service());
    assert!(matches!(none, Err(IdempotencyError::NoRequests)));
    let Some(prefix) = fresh_prefix() else { return };
    let redis = Idempotency::new(on_redis(prefix.url(), prefix.as_str()).await);
    let refused = stand::plain(redis).keep_requests(kept("shop"));
    assert!(matches!(refused, Err(IdempotencyError::NoRequests)));
}

/// A client who asks once and goes; a completer; and a client who comes much later.
async fn left(store: impl Store + Clone + 'static, completes: impl Store + 'static) -> [u32; 2] {
    let shop = Shop::default();
    let first = layer(store.clone(), kept("shop"));
    let asked_for = stand::ask(first.layer(shop.service()), asked("one", "{}")).await;
    assert_eq!(asked_for.status, 500);
    advance(300 * SECOND).await;
    let second = layer(completes, kept("shop"));
    let completer = second.completer(second.layer(shop.service())).unwrap();
    let running = tokio::spawn(completer.run_until(std::future::pending()));
    sleep(1200 * SECOND).await;
    running.abort();
    let third = layer(store, kept("shop"));
    let later = stand::ask(third.layer(shop.service()), asked("one", "{}")).await;
    assert!(later.is_replay(), "{later:?}");
    shop.effects()
}

#[tokio::test(start_paused = true)]
async fn one_fault_anywhere_loses_no_kept_request_and_does_no_phase_twice() {
    let _tally = buttress_testkit::tally::suite("X2");
    let mut met = 0;
    for fault in Fault::ALL {
        for operation in 1..=6 {
            let plan: Plan<StoreError> = Plan::new([Injection::new(operation, fault)], store_error);
            let memory = MemoryStore::new();
            let effects = left(memory.clone(), Faulty::new(memory, plan)).await;
            assert_eq!(effects, [1, 1], "{fault:?} at {operation}");
            met += 1;
        }
    }
    assert!(met > 20, "{met}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_anywhere_loses_no_kept_request() {
    let _tally = buttress_testkit::tally::suite("X1");
    let builder = Idempotency::builder(MemoryStore::new()).policy(short());
    let layer = stand::plain(builder.build());
    let layer = layer.keep_requests(kept("shop")).unwrap();
    let shop = Shop::default();
    let service = layer.layer(shop.service());
    let round = AtomicU32::new(0);
    let name = || format!("swept {}", round.load(SeqCst));
    let leave = async || {
        let left = stand::ask(service.clone(), asked(&name(), "{}")).await;
        assert_eq!(left.status, 500);
        advance(2 * SECOND).await;
    };
    leave().await;
    CancelSweep::default()
        .run(
            async || {
                let mut completer = eager(layer.completer(service.clone()).unwrap());
                let _ = completer.run_once().await.unwrap();
            },
            async |_| {
                // What was begun goes on by itself, and what was not is begun again.
                sleep(5 * SECOND).await;
                let mut completer = eager(layer.completer(service.clone()).unwrap());
                completer.run_once().await.unwrap();
                let later = stand::ask(service.clone(), asked(&name(), "{}")).await;
                assert!(later.is_replay(), "{later:?}");
                assert_eq!(shop.effects(), [round.load(SeqCst) + 1; 2], "one effect");
                round.fetch_add(1, SeqCst);
                leave().await;
            },
        )
        .await;
}
