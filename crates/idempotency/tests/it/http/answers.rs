//! What becomes of a key by the answer: kept, left free, left unknown; and what a replay carries.

use std::{convert::Infallible, panic::AssertUnwindSafe, time::Duration};

use buttress_idempotency::{
    Abandoned, Idempotency, Policy,
    http::{Keep, ReplayedHeaders, StatusRule},
    store::MemoryStore,
};
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tower::{Layer, ServiceExt};

use super::stand::{Asked, Stand, answer, ask, post, short, whole};

#[tokio::test(start_paused = true)]
async fn each_status_keeps_frees_or_leaves_the_key_unknown() {
    for (status, then, runs) in [
        (200, 200, 1),
        (201, 201, 1),
        (204, 204, 1),
        (303, 303, 1),
        (400, 400, 2),
        (402, 402, 2),
        (404, 404, 2),
        (409, 409, 2),
        (422, 422, 2),
        (429, 429, 2),
        (408, 409, 1),
        (500, 409, 1),
        (502, 409, 1),
        (503, 409, 1),
        (504, 409, 1),
    ] {
        let stand = Stand::new();
        let (layer, service) = (stand.layer(), stand.answering(status));
        assert_eq!(
            ask(&layer, service.clone(), post("k", "{}")).await.status,
            status
        );
        let again = ask(&layer, service.clone(), post("k", "{}")).await;
        assert_eq!((again.status, stand.runs()), (then, runs), "{status}");
        // A corrected request may use the key of a refusal.
        let corrected = ask(&layer, service.clone(), post("k", "[]")).await;
        let free = stand.runs() == runs + 1;
        assert_eq!(free, runs == 2, "{status}: {}", corrected.status);
        // And nothing is stuck: what is unknown is tried again when the lease is over.
        tokio::time::sleep(Duration::from_millis(1001)).await;
        let runs = stand.runs();
        let later = ask(&layer, service, post("k", "{}")).await;
        assert_eq!(later.status, status, "later");
        assert_eq!(
            stand.runs() - runs,
            u32::from(!later.is_replay()),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_definite_refusal_is_kept_by_choice() {
    let stand = Stand::new();
    let rule = StatusRule::with_refusals([StatusCode::PAYMENT_REQUIRED]);
    let (layer, service) = (stand.layer().statuses(rule), stand.answering(402));
    assert!(
        !ask(&layer, service.clone(), post("k", "{}"))
            .await
            .is_replay()
    );
    let again = ask(&layer, service, post("k", "{}")).await;
    assert_eq!(
        (again.status, again.is_replay(), stand.runs()),
        (402, true, 1)
    );
}

#[tokio::test]
async fn a_handler_says_that_nothing_was_done() {
    let stand = Stand::new();
    let counted = stand.clone();
    let service = tower::service_fn(move |_: Asked| {
        counted.run();
        let mut response = answer(503, "later");
        response.extensions_mut().insert(Keep::Nothing);
        async move { Ok::<_, Infallible>(response) }
    });
    for _ in 0..2 {
        assert_eq!(
            ask(&stand.layer(), service.clone(), post("k", "{}"))
                .await
                .text(),
            "later"
        );
    }
    assert_eq!(stand.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_comes_through_and_the_key_is_unknown_or_free_as_the_policy_says() {
    for abandoned in [Abandoned::Doubt, Abandoned::Release] {
        let policy = Policy::builder()
            .lease(short().lease())
            .abandoned(abandoned)
            .build();
        let store = MemoryStore::new();
        let stand = Stand::on(Idempotency::builder(store).policy(policy.unwrap()).build());
        let service = tower::service_fn(|_: Asked| async {
            if true {
                panic!("planted")
            }
            Ok::<_, Infallible>(answer(200, ""))
        });
        let layer = stand.layer();
        let asked = ask(&layer, service, post("k", "{}"));
        let panic = AssertUnwindSafe(asked).catch_unwind().await.unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"planted"));
        let then = ask(&stand.layer(), stand.answering(200), post("k", "{}")).await;
        let expected = if abandoned == Abandoned::Doubt {
            409
        } else {
            200
        };
        assert_eq!(then.status, expected);
        tokio::time::sleep(Duration::from_millis(1001)).await;
        assert_eq!(
            ask(&stand.layer(), stand.answering(200), post("k", "{}"))
                .await
                .status,
            200
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_comes_out_as_it_is_and_the_key_is_unknown() {
    let stand = Stand::new();
    let service = tower::service_fn(|_: Asked| async {
        Err::<Response<Full<Bytes>>, _>(std::io::Error::other("planted"))
    });
    let failed = stand.layer().layer(service).oneshot(post("k", "{}")).await;
    assert_eq!(failed.unwrap_err().to_string(), "planted");
    assert_eq!(
        ask(&stand.layer(), stand.answering(200), post("k", "{}"))
            .await
            .status,
        409
    );
    tokio::time::sleep(Duration::from_millis(1001)).await;
    assert_eq!(
        ask(&stand.layer(), stand.answering(200), post("k", "{}"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_replay_carries_no_cookie_unless_asked_and_never_what_is_of_one_message() {
    let service = tower::service_fn(|_: Asked| async {
        let response = Response::builder()
            .status(201)
            .header("location", "/orders/7")
            .header("set-cookie", "session=1")
            .header("set-cookie", "theme=dark")
            .header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .header("connection", "x-hop")
            .header("x-hop", "1");
        Ok::<_, Infallible>(response.body(Full::from("{}")).unwrap())
    });
    for (rule, cookies) in [
        (ReplayedHeaders::all(), 0),
        (ReplayedHeaders::all().with_set_cookie(), 2),
    ] {
        let stand = Stand::new();
        let layer = stand.layer().headers(rule);
        let first = ask(&layer, service, post("k", "{}")).await;
        assert_eq!(first.headers.get_all("set-cookie").iter().count(), 2);
        let replay = ask(&layer, service, post("k", "{}")).await;
        assert!(replay.is_replay());
        assert_eq!(replay.headers["location"], "/orders/7");
        assert_eq!(replay.headers.get_all("set-cookie").iter().count(), cookies);
        for name in ["date", "connection", "x-hop"] {
            assert!(!replay.headers.contains_key(name), "{name}");
        }
    }
}

/// ID10: what is too large, streamed, has trailers or fails passes, and is never run twice.
#[tokio::test]
async fn id10_what_cannot_be_kept_passes_whole_and_is_remembered_as_done() {
    let tally = buttress_testkit::tally::suite("ID10");
    let data = |bytes: usize| Ok(Frame::data(Bytes::from(vec![b'x'; bytes])));
    let sum = (
        http::HeaderName::from_static("x-sum"),
        http::HeaderValue::from_static("1"),
    );
    for (name, hold, kept) in [
        ("streamed", false, false),
        ("held, and fits", true, true),
        ("held, and does not fit", true, false),
        ("trailers", true, false),
        ("fails", true, false),
    ] {
        let sum = sum.clone();
        let frames = move || match name {
            "streamed" | "held, and fits" => vec![data(3), data(4)],
            "trailers" => {
                let trailers = http::HeaderMap::from_iter([sum.clone()]);
                vec![data(3), Ok(Frame::trailers(trailers))]
            }
            "fails" => vec![data(3), Err(std::io::Error::other("planted"))],
            _ => vec![data(2000), data(2000), data(2000)],
        };
        let policy = Policy::builder().longest_outcome(4096).build().unwrap();
        let stand = Stand::on(
            Idempotency::builder(MemoryStore::new())
                .policy(policy)
                .build(),
        );
        let layer = if hold {
            stand.layer().hold_streams()
        } else {
            stand.layer()
        };
        let service = tower::service_fn({
            let (stand, frames) = (stand.clone(), frames.clone());
            move |_: Asked| {
                stand.run();
                let body = StreamBody::new(stream::iter(frames()));
                async move { Ok::<_, Infallible>(Response::new(body)) }
            }
        });
        let first = layer
            .layer(service.clone())
            .oneshot(post("k", "{}"))
            .await
            .unwrap();
        let expected: Vec<_> = frames();
        let (mut sent, mut failed, mut tail) = (0, false, false);
        let mut body = first.into_body();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) if frame.is_trailers() => tail = true,
                Ok(frame) => sent += frame.into_data().unwrap().len(),
                Err(_) => failed = true,
            }
        }
        let length = |frame: &Result<Frame<Bytes>, _>| {
            frame
                .as_ref()
                .ok()
                .and_then(Frame::data_ref)
                .map_or(0, Bytes::len)
        };
        assert_eq!(sent, expected.iter().map(length).sum::<usize>(), "{name}");
        assert_eq!(
            (failed, tail),
            (name == "fails", name == "trailers"),
            "{name}"
        );
        let again = layer.layer(service).oneshot(post("k", "{}")).await.unwrap();
        let again = whole(again).await;
        assert_eq!(stand.runs(), 1, "{name}");
        if kept {
            assert!(again.is_replay() && again.body.len() == sent, "{name}");
        } else {
            let refused = (again.status, again.code(), again.retry_after());
            assert_eq!(
                refused,
                (409, "IDEMPOTENCY_ANSWER_NOT_KEPT".to_owned(), None),
                "{name}"
            );
        }
    }
    tally.operations(5);
}

#[tokio::test]
async fn id10_an_answer_is_kept_up_to_the_limit_and_not_a_byte_further() {
    let tally = buttress_testkit::tally::suite("ID10");
    let policy = Policy::builder().longest_outcome(1024).build().unwrap();
    let stand = Stand::on(
        Idempotency::builder(MemoryStore::new())
            .policy(policy)
            .build(),
    );
    let mut kept = 0;
    for length in 900..1100 {
        let service = tower::service_fn(move |_: Asked| async move {
            Ok::<_, Infallible>(answer(200, &"x".repeat(length)))
        });
        let key = format!("{length}");
        let first = ask(&stand.layer(), service, post(&key, "{}")).await;
        assert_eq!((first.status, first.body.len()), (200, length));
        let again = ask(&stand.layer(), service, post(&key, "{}")).await;
        if again.is_replay() {
            assert_eq!(again.body, first.body);
            assert_eq!(
                kept,
                length.saturating_sub(900),
                "all up to a length, none beyond"
            );
            kept += 1;
        } else {
            assert_eq!(again.code(), "IDEMPOTENCY_ANSWER_NOT_KEPT");
        }
    }
    assert!((50..200).contains(&kept), "{kept}");
    tally.operations(200);
}

#[tokio::test]
async fn the_head_of_a_stream_does_not_wait_for_its_end() {
    let stand = Stand::new();
    let service = tower::service_fn(|_: Asked| async {
        let endless = stream::pending::<Result<Frame<Bytes>, Infallible>>();
        Ok::<_, Infallible>(Response::new(StreamBody::new(endless)))
    });
    let head = stand.layer().layer(service).oneshot(post("k", "{}"));
    let head = tokio::time::timeout(Duration::from_secs(10), head).await;
    let head = head.expect("it does not wait").unwrap();
    assert_eq!(head.status(), 200);
    let again = stand
        .layer()
        .layer(service)
        .oneshot(post("k", "{}"))
        .await
        .unwrap();
    assert_eq!(again.status(), 409);
}

#[tokio::test(start_paused = true)]
async fn who_lost_his_key_answers_with_what_the_other_did() {
    let stand = Stand::new();
    let slow = tower::service_fn(|_: Asked| async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok::<_, Infallible>(answer(201, "the zombie's"))
    });
    let zombie = tokio::spawn({
        let stand = stand.clone();
        async move { ask(&stand.layer(), slow, post("k", "{}")).await }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let second = ask(&stand.layer(), stand.answering(201), post("k", "{}")).await;
    assert_eq!(
        (second.text(), second.is_replay()),
        ("run 1", false),
        "the lease is over"
    );
    let late = zombie.await.unwrap();
    assert_eq!(
        (late.text(), late.is_replay()),
        ("run 1", true),
        "one answer for one key"
    );
}
