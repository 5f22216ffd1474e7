//! What becomes of a key by the answer to a request that was made again.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_idempotency::{
    Abandoned, Completer, Idempotency, Policy,
    http::{Keep, StatusRule},
    store::MemoryStore,
    tower::Redriven,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::time::{advance, timeout};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use super::stand::{Shop, ask, asked, kept, layer, plain, with_retry_after};
use crate::{
    http::stand::{Asked, answer},
    stand::SECOND,
};

/// Runs it for an hour; how many keys were finished, and how many parked.
async fn an_hour(completer: &mut Completer) -> (u32, u32) {
    let (mut finished, mut parked) = (0, 0);
    for _ in 0..12 {
        let driven = completer.run_once().await.unwrap();
        finished += driven.finished;
        parked += driven.parked;
        advance(300 * SECOND).await;
    }
    (finished, parked)
}

/// What comes of a request that is answered so when it is made again: finished, parked, runs, and
/// what its client is told at the end of it.
async fn made_again(
    rule: StatusRule,
    answers: impl Fn(bool) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) -> (u32, u32, u32, u16) {
    let layer = layer(MemoryStore::new(), kept("shop")).statuses(rule);
    let shop = Shop::default();
    let service = layer.layer(shop.answering(answers));
    ask(service.clone(), asked("one", "{}")).await;
    advance(300 * SECOND).await;
    let completer = layer.completer(service.clone()).unwrap();
    let mut completer = completer.drives(3).unwrap();
    let (finished, parked) = an_hour(&mut completer).await;
    let runs = shop.runs();
    let later = ask(service, asked("one", "{}")).await;
    assert_eq!(later.is_replay(), finished == 1, "{later:?}");
    (finished, parked, runs, later.status)
}

#[tokio::test(start_paused = true)]
async fn what_says_more_of_the_program_than_of_the_request_is_never_its_answer() {
    let tally = buttress_testkit::tally::suite("ID1");
    let all = || StatusRule::by(|_, _| Some(Keep::Answer));
    for status in [401, 403, 404, 405] {
        let lost = move |again| answer(if again { status } else { 500 }, "gone");
        for rule in [StatusRule::new(), all()] {
            // One drive that passes a phase, three that do not; and its client may come all the same.
            let (finished, parked, runs, _) = made_again(rule, lost).await;
            assert_eq!((finished, parked, runs), (0, 1, 5), "{status}");
        }
        // A handler that says so knows that it is its answer.
        let (finished, _, runs, later) = made_again(StatusRule::new(), move |again| {
            let mut answer = lost(again);
            answer.extensions_mut().insert(Keep::Answer);
            answer
        })
        .await;
        assert_eq!((finished, runs, later), (1, 2, status));
        tally.operations(3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_kept_where_it_is_chosen_and_frees_nothing_where_it_is_not() {
    let declined = |again| answer(if again { 402 } else { 500 }, "declined");
    let rule = StatusRule::with_refusals([StatusCode::PAYMENT_REQUIRED]);
    assert_eq!(made_again(rule, declined).await, (1, 0, 2, 402));
    let (finished, parked, runs, _) = made_again(StatusRule::new(), declined).await;
    assert_eq!((finished, parked, runs), (0, 1, 5));
    // Whoever says that nothing was done has answered for it: it is not made again.
    let nothing = move |again| {
        let mut answer = declined(again);
        if again {
            answer.extensions_mut().insert(Keep::Nothing);
        }
        answer
    };
    let (finished, parked, runs, _) = made_again(StatusRule::new(), nothing).await;
    assert_eq!((finished, parked, runs), (0, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_down_counts_against_no_request_and_is_left_alone_as_long_as_it_says() {
    for status in [429, 503] {
        let layer = layer(MemoryStore::new(), kept("shop"));
        let shop = Shop::default();
        let down = Arc::new(AtomicBool::new(true));
        let is_down = Arc::clone(&down);
        let service =
            layer.layer(
                shop.answering(move |again| match (again, is_down.load(SeqCst)) {
                    (false, _) => answer(500, "lost"),
                    (true, true) => with_retry_after(answer(status, "later")),
                    (true, false) => answer(200, "done"),
                }),
            );
        ask(service.clone(), asked("one", "{}")).await;
        advance(300 * SECOND).await;
        let completer = layer.completer(service.clone()).unwrap();
        let mut completer = completer.drives(2).unwrap();
        for _ in 0..5 {
            let driven = completer.run_once().await.unwrap();
            assert!(driven.down && driven.parked == 0, "{driven:?}");
            // As it was told, and not sooner.
            advance(3590 * SECOND).await;
            assert_eq!(completer.run_once().await.unwrap(), Default::default());
            advance(120 * SECOND).await;
        }
        down.store(false, SeqCst);
        assert_eq!(completer.run_once().await.unwrap().finished, 1);
        assert_eq!(shop.effects(), [1, 1], "{status}");
    }
}

/// Something between the completer and the layer that answers in its place.
fn before<S>(
    service: S,
    refuses: impl Fn(&Request<Full<Bytes>>) -> Option<u16> + Clone + Send + Sync + 'static,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static
where
    S: Service<Request<Full<Bytes>>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    S::Response: Send,
{
    service_fn(move |request: Request<Full<Bytes>>| {
        let refused = refuses(&request);
        let service = service.clone();
        async move {
            if let Some(status) = refused {
                return Ok(answer(status, "refused"));
            }
            service.oneshot(request).await.map(|_| answer(200, "done"))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn an_authentication_that_no_longer_lets_it_pass_ends_it_parked_and_not_answered() {
    let (idempotency, shop) = (Idempotency::new(MemoryStore::new()), Shop::default());
    let layer = plain(idempotency.clone())
        .keep_requests(kept("shop"))
        .unwrap();
    let service = layer.layer(shop.service());
    ask(service.clone(), asked("one", "{}")).await;
    advance(300 * SECOND).await;
    let gate = before(service.clone(), |request| {
        // Its token is not kept, and this one does not know the mark.
        request
            .headers()
            .get("authorization")
            .is_none()
            .then_some(401)
    });
    let completer = layer.completer(gate).unwrap();
    let mut completer = completer.drives(3).unwrap();
    assert_eq!(an_hour(&mut completer).await, (0, 1));
    assert_eq!(shop.runs(), 1, "the handler was not come to");
    // Once it knows the mark, and somebody says so, it is finished.
    let gate = before(service.clone(), |request| {
        let passes = request.extensions().get::<Redriven>().is_some();
        (!passes).then_some(401)
    });
    let mut completer = layer.completer(gate).unwrap();
    assert_eq!(completer.run_once().await.unwrap(), Default::default());
    let parked = idempotency.unfinished(Duration::ZERO, 1).await.unwrap();
    assert!(parked[0].parked);
    assert!(idempotency.unpark(&parked[0].key).await.unwrap());
    assert_eq!(completer.run_once().await.unwrap().finished, 1);
    assert_eq!(shop.effects(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_any_more_is_parked_at_once() {
    let may = Arc::new(AtomicBool::new(true));
    let asks = Arc::clone(&may);
    let kept = kept("shop").caller(
        |_| Some(Bytes::from_static(b"ann")),
        move |name, _| name == b"ann" && asks.load(SeqCst),
    );
    let layer = layer(MemoryStore::new(), kept);
    let shop = Shop::default();
    let service = layer.layer(shop.service());
    ask(service.clone(), asked("one", "{}")).await;
    advance(300 * SECOND).await;
    may.store(false, SeqCst);
    let mut completer = layer.completer(service.clone()).unwrap();
    assert_eq!(completer.run_once().await.unwrap().parked, 1);
    assert_eq!(shop.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_loses_no_kept_request_where_abandoned_keys_are_released() {
    let policy = Policy::builder().abandoned(Abandoned::Release).build();
    let builder = Idempotency::builder(MemoryStore::new()).policy(policy.unwrap());
    let layer = plain(builder.build()).keep_requests(kept("shop")).unwrap();
    let service = layer.layer(service_fn(|request: Asked| async move {
        let drive = request.extensions().get().map(Redriven::drive);
        assert_ne!(drive, Some(1), "planted");
        let status = if drive.is_some() { 200 } else { 500 };
        Ok::<_, Infallible>(answer(status, "order 1"))
    }));
    ask(service.clone(), asked("one", "{}")).await;
    let mut completer = layer.completer(service.clone()).unwrap();
    for expected in [(1, 0), (0, 1)] {
        advance(300 * SECOND).await;
        let driven = completer.run_once().await.unwrap();
        assert_eq!((driven.postponed, driven.finished), expected);
    }
    assert!(ask(service, asked("one", "{}")).await.is_replay());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_ends_holds_its_completer_for_a_bounded_time() {
    let layer = layer(MemoryStore::new(), kept("shop"));
    let service = layer.layer(service_fn(|request: Asked| async move {
        let again = request.extensions().get::<Redriven>().is_some();
        let first = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"order")));
        let body = stream::iter([first]).chain(match again {
            true => stream::pending().left_stream(),
            false => stream::empty().right_stream(),
        });
        let mut response = Response::new(StreamBody::new(body));
        *response.status_mut() = match again {
            true => StatusCode::OK,
            false => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Ok::<_, Infallible>(response)
    }));
    ask(service.clone(), asked("one", "{}")).await;
    advance(300 * SECOND).await;
    let mut completer = layer.completer(service.clone()).unwrap();
    // Ten leases of half a minute.
    let driven = timeout(301 * SECOND, completer.run_once()).await;
    assert_eq!(driven.expect("it goes on").unwrap().finished, 1);
    let later = ask(service, asked("one", "{}")).await;
    assert_eq!(later.code(), "IDEMPOTENCY_ANSWER_NOT_KEPT");
}

/// Its router was made with a layer of another handle, say.
#[tokio::test(start_paused = true)]
async fn what_is_done_without_the_layer_and_its_key_is_done_once() {
    let kept_by = layer(MemoryStore::new(), kept("shop"));
    let other = layer(MemoryStore::new(), kept("shop"));
    let effects = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&effects);
    let handler = service_fn(move |_: Asked| {
        counts.fetch_add(1, SeqCst);
        std::future::ready(Ok::<_, Infallible>(answer(200, "done")))
    });
    let lost = Shop::default().answering(|_| answer(500, "lost"));
    ask(kept_by.layer(lost), asked("one", "{}")).await;
    advance(300 * SECOND).await;
    let mut completer = kept_by.completer(other.layer(handler)).unwrap();
    assert_eq!(an_hour(&mut completer).await, (0, 1));
    assert_eq!(effects.load(SeqCst), 1);
}
