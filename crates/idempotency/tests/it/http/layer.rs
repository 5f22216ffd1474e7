//! Which requests are taken, which are refused, and how often the handler runs.

use std::{convert::Infallible, sync::Arc, time::Duration};

use buttress_core::Clock;
use buttress_idempotency::{
    Begin, Key, Scope,
    http::{FingerprintRule, KeyRule},
    tower::RequestBody,
};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimitLayer};

use super::stand::{Answer, Asked, Stand, answer, ask, post, whole};

#[tokio::test]
async fn a_request_that_comes_again_gets_the_first_answer_to_the_byte() {
    let stand = Stand::new();
    let (layer, service) = (stand.layer(), stand.answering(201));
    let first = ask(&layer, service.clone(), post("k", "{}")).await;
    assert_eq!(
        (first.status, first.text(), first.is_replay()),
        (201, "run 1", false)
    );
    for _ in 0..3 {
        let again = ask(&layer, service.clone(), post("\"k\"", " {}")).await;
        assert!(again.is_replay());
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_eq!(again.headers["x-answer"], "1");
    }
    assert_eq!(stand.runs(), 1);
}

#[tokio::test]
async fn other_methods_pass_untouched_with_and_without_a_key() {
    let stand = Stand::new();
    let (layer, service) = (stand.layer(), stand.answering(200));
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        for _ in 0..2 {
            let mut request = post("k", "{}");
            *request.method_mut() = method.clone();
            assert!(!ask(&layer, service.clone(), request).await.is_replay());
        }
    }
    assert_eq!(stand.runs(), 6);
    let deletes = layer.methods([Method::DELETE]);
    for _ in 0..2 {
        let mut request = post("k", "{}");
        *request.method_mut() = Method::DELETE;
        ask(&deletes, service.clone(), request).await;
    }
    assert_eq!(stand.runs(), 7);
}

#[tokio::test]
async fn routes_that_are_not_wanted_pass_untouched() {
    let stand = Stand::new();
    let layer = stand.layer().only_if(|head| head.uri.path() != "/orders");
    for _ in 0..2 {
        assert!(
            !ask(&layer, stand.answering(200), post("k", "{}"))
                .await
                .is_replay()
        );
    }
    assert_eq!(stand.runs(), 2);
}

#[tokio::test]
async fn a_key_is_needed_unless_it_is_optional() {
    let stand = Stand::new();
    let without = || Request::post("/orders").body(Full::default()).unwrap();
    let refused = ask(&stand.layer(), stand.answering(200), without()).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "IDEMPOTENCY_KEY_MISSING")
    );
    assert_eq!(stand.runs(), 0);
    let optional = stand.layer().optional_key();
    assert_eq!(
        ask(&optional, stand.answering(200), without()).await.status,
        200
    );
    let wrong = ask(&optional, stand.answering(200), post("", "{}")).await;
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (400, "IDEMPOTENCY_KEY_INVALID")
    );
    assert_eq!(stand.runs(), 1);
}

#[tokio::test]
async fn keys_that_the_rule_refuses_are_refused() {
    let stand = Stand::new();
    let layer = stand.layer().key(KeyRule::new(16, 64).unwrap());
    let refused = ask(&layer, stand.answering(200), post("short", "{}")).await;
    assert_eq!(refused.code(), "IDEMPOTENCY_KEY_INVALID");
}

#[tokio::test]
async fn whose_request_it_is_must_be_known() {
    let stand = Stand::new();
    let mut request = post("k", "{}");
    request
        .headers_mut()
        .insert("x-caller", "nobody".parse().unwrap());
    let refused = ask(&stand.layer(), stand.answering(200), request).await;
    assert_eq!((refused.status, stand.runs()), (401, 0));
}

/// A handler that waits for a permit.
fn waiting(
    stand: &Stand,
    go: &Arc<Semaphore>,
) -> impl Service<Asked, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let (stand, go) = (stand.clone(), Arc::clone(go));
    tower::service_fn(move |_: Asked| {
        let (stand, go) = (stand.clone(), Arc::clone(&go));
        async move {
            let run = stand.run();
            go.acquire().await.unwrap().forget();
            Ok(answer(201, &format!("run {run}")))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn while_the_first_runs_the_second_is_told_to_come_back() {
    let stand = Stand::new();
    let go = Arc::new(Semaphore::new(0));
    let (layer, service) = (stand.layer(), waiting(&stand, &go));
    let first = tokio::spawn({
        let (layer, service) = (layer.clone(), service.clone());
        async move { ask(&layer, service, post("k", "{}")).await }
    });
    tokio::task::yield_now().await;
    let second = ask(&layer, service.clone(), post("k", "{}")).await;
    assert_eq!(
        (second.status, second.code().as_str()),
        (409, "IDEMPOTENCY_KEY_IN_USE")
    );
    assert_eq!(second.retry_after(), Some(1));
    // Another request is told so before he is told to wait.
    let other = ask(&layer, service.clone(), post("k", "[]")).await;
    assert_eq!(
        (other.status, other.code().as_str()),
        (422, "IDEMPOTENCY_KEY_REUSED")
    );
    assert_eq!(other.retry_after(), None);
    go.add_permits(1);
    assert_eq!(first.await.unwrap().text(), "run 1");
    assert!(ask(&layer, service, post("k", "{}")).await.is_replay());
    assert_eq!(stand.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_second_waits_for_the_first_if_that_is_chosen_and_not_for_ever() {
    let stand = Stand::new();
    let go = Arc::new(Semaphore::new(0));
    let layer = stand.layer().wait_for_first(Duration::from_millis(300));
    let service = waiting(&stand, &go);
    let asked = || {
        let (layer, service) = (layer.clone(), service.clone());
        tokio::spawn(async move { ask(&layer, service, post("k", "{}")).await })
    };
    let first = asked();
    tokio::task::yield_now().await;
    let clock = Clock::tokio();
    let began = clock.now();
    assert_eq!(asked().await.unwrap().status, 409);
    let waited = clock.now().saturating_since(began);
    assert!((300..=310).contains(&waited.as_millis()), "{waited:?}");
    let second = asked();
    tokio::time::sleep(Duration::from_millis(100)).await;
    go.add_permits(1);
    assert!(!first.await.unwrap().is_replay());
    assert!(second.await.unwrap().is_replay());
    assert_eq!(stand.runs(), 1);
}

#[tokio::test]
async fn the_handler_sees_the_body_whole_and_its_own_key() {
    let stand = Stand::new();
    let service = tower::service_fn(|request: Asked| async move {
        let handed = request
            .extensions()
            .get::<buttress_idempotency::tower::Idempotent>();
        let charge = handed.unwrap().key().derive("charge");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let text = format!("{charge} {}", std::str::from_utf8(&body).unwrap());
        Ok::<_, Infallible>(answer(500, &text))
    });
    let expected = Scope::of([
        Scope::of([b"anyone"]).as_bytes().as_slice(),
        b"POST",
        b"/orders",
    ]);
    let expected = expected.key(&Key::new("k").unwrap()).derive("charge");
    // Twice, for a second try must derive the same: the lease is over in between.
    for _ in 0..2 {
        let answer = ask(&stand.layer(), service, post("k", "[1, 2]")).await;
        assert_eq!(answer.text(), format!("{expected} [1, 2]"));
        tokio::time::sleep(Duration::from_millis(1050)).await;
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_its_rest_is_not_read() {
    let stand = Stand::new();
    let layer = stand.layer().largest_request(8);
    let asked = |body: &str| ask(&layer, stand.answering(200), post("k", body));
    let refused = asked("123456789").await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (413, "PAYLOAD_TOO_LARGE")
    );
    assert_eq!(asked("12345678").await.status, 200);
    // A gigabyte that does not say its length: read until the limit, and no further.
    let chunk = Bytes::from(vec![b'x'; 4]);
    let read = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let endless = futures_util::stream::repeat_with({
        let read = Arc::clone(&read);
        move || {
            read.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok::<_, Infallible>(http_body::Frame::data(chunk.clone()))
        }
    });
    let request = Request::post("/orders").header("idempotency-key", "other");
    let request = request
        .body(http_body_util::StreamBody::new(endless))
        .unwrap();
    let service = tower::service_fn(|_| async { Ok::<_, Infallible>(answer(200, "")) });
    let response = layer.layer(service).oneshot(request).await.unwrap();
    assert_eq!(whole(response).await.status, 413);
    assert_eq!(read.load(std::sync::atomic::Ordering::SeqCst), 3);
    assert_eq!(stand.runs(), 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused_and_leaves_the_key_free() {
    let stand = Stand::new();
    let frames = [
        Ok(http_body::Frame::data(Bytes::from("x"))),
        Err(std::io::Error::other("cut")),
    ];
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
    let request = Request::post("/orders").header("idempotency-key", "k");
    let service = tower::service_fn(|_| async { Ok::<_, Infallible>(answer(200, "")) });
    let response = stand
        .layer()
        .layer(service)
        .oneshot(request.body(body).unwrap());
    assert_eq!(whole(response.await.unwrap()).await.status, 400);
    assert_eq!(
        ask(&stand.layer(), stand.answering(200), post("k", "{}"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn applied_twice_it_claims_once() {
    let stand = Stand::new();
    let layer = stand.layer();
    let counted = stand.clone();
    let service = tower::service_fn(move |_: Request<RequestBody<RequestBody<Full<Bytes>>>>| {
        let answer = answer(201, &format!("run {}", counted.run()));
        async { Ok::<_, Infallible>(answer) }
    });
    let twice = || layer.layer(layer.layer(service.clone()));
    let asked = async || whole(twice().oneshot(post("k", "{}")).await.unwrap()).await;
    assert_eq!(asked().await.text(), "run 1");
    let again = asked().await;
    assert!(again.is_replay());
    assert_eq!((again.text(), stand.runs()), ("run 1", 1));
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_that_is_called() {
    let stand = Stand::new();
    // Its permit is taken by `poll_ready`, and a call without one panics.
    let limited = ConcurrencyLimitLayer::new(1).layer(stand.answering(201));
    let mut service = stand.layer().layer(limited);
    for key in ["a", "b", "a", "b"] {
        let ready = service.ready().await.unwrap();
        assert_eq!(
            whole(ready.call(post(key, "{}")).await.unwrap())
                .await
                .status,
            201
        );
    }
    assert_eq!(stand.runs(), 2);
}

#[tokio::test]
async fn refusals_leave_in_the_form_that_is_chosen() {
    let stand = Stand::new();
    let layer = stand.layer().respond_with(|refusal| {
        let code = buttress_core::Fault::code(&refusal);
        Response::builder()
            .status(418)
            .body(Bytes::from(code))
            .unwrap()
    });
    let refused = ask(&layer, stand.answering(200), post("", "{}")).await;
    assert_eq!(
        (refused.status, refused.text()),
        (418, "IDEMPOTENCY_KEY_INVALID")
    );
}

#[tokio::test]
async fn a_replay_can_be_marked_for_a_layer_further_out() {
    #[derive(Clone)]
    struct Marked;
    let stand = Stand::new();
    let layer = stand.layer().mark_replays(|replay| {
        replay.extensions_mut().insert(Marked);
    });
    let service = stand.answering(200);
    for marked in [false, true] {
        let answer = layer
            .layer(service.clone())
            .oneshot(post("k", "{}"))
            .await
            .unwrap();
        assert_eq!(answer.extensions().get::<Marked>().is_some(), marked);
    }
}

#[tokio::test]
async fn a_stop_waits_for_handlers_whose_callers_have_gone() {
    let stand = Stand::patient();
    let go = Arc::new(Semaphore::new(0));
    let (layer, service) = (stand.layer(), waiting(&stand, &go));
    let mut asked = Box::pin(layer.layer(service.clone()).oneshot(post("k", "{}")));
    while stand.runs() == 0 {
        assert!(futures_util::poll!(&mut asked).is_pending());
        tokio::task::yield_now().await;
    }
    drop(asked);
    go.add_permits(1);
    assert_eq!(
        stand
            .idempotency
            .drain(Duration::from_secs(5))
            .await
            .stopped,
        0
    );
    assert!(ask(&layer, service, post("k", "{}")).await.is_replay());
}

#[tokio::test]
async fn what_a_stop_does_not_wait_for_is_said_to_be_away() {
    let stand = Stand::patient();
    let go = Arc::new(Semaphore::new(0));
    let (layer, service) = (stand.layer(), waiting(&stand, &go));
    let asked = tokio::spawn({
        let (layer, service) = (layer.clone(), service.clone());
        async move { ask(&layer, service, post("k", "{}")).await }
    });
    while stand.runs() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stand.idempotency.drain(Duration::ZERO).await.stopped, 1);
    let stopped = asked.await.unwrap();
    assert_eq!((stopped.status, stopped.retry_after()), (503, Some(1)));
    // Nobody knows how far it came.
    assert_eq!(ask(&layer, service, post("k", "{}")).await.status, 409);
}

/// The key under which the layer keeps what came of `POST /orders` with `key`.
pub(super) fn kept_under(key: &str) -> buttress_idempotency::ScopedKey {
    let whose = Scope::of([b"anyone"]);
    let scope = Scope::of([whose.as_bytes().as_slice(), b"POST", b"/orders"]);
    scope.key(&Key::new(key).unwrap())
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_a_failure_and_not_another_run() {
    let stand = Stand::new();
    let asked = post("k", "{}");
    let fingerprint =
        FingerprintRule::new().of(asked.method(), asked.uri(), asked.headers(), b"{}");
    let begun = stand
        .idempotency
        .begin(&kept_under("k"), &fingerprint)
        .await;
    let Begin::New(guard) = begun.unwrap() else {
        panic!("it is new")
    };
    guard.complete(&b"\x07later"[..]).await.unwrap();
    let failed: Answer = ask(&stand.layer(), stand.answering(200), asked).await;
    assert_eq!(
        (failed.status, failed.code().as_str(), stand.runs()),
        (500, "INTERNAL", 0)
    );
}
