//! ID8: the caller goes, at every point at which he can.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU32, Ordering},
};

use buttress_core::Clock;
use buttress_testkit::cancel_sweep::{Point, cancel_sweep};
use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use tower::{Layer, ServiceExt};

use super::stand::{Stand, answer, whole};

#[tokio::test]
async fn id8_whoever_goes_whenever_the_effect_is_one_and_no_key_is_stuck() {
    let _tally = buttress_testkit::tally::suite("ID8 X1");
    let stand = Stand::patient();
    let keys = AtomicU32::new(0);
    let layer = stand.layer();
    // Both bodies and the handler wait in the middle.
    let request = |key: u32| {
        let frames = stream::unfold(0, |sent| async move {
            tokio::task::yield_now().await;
            let frame = Ok::<_, Infallible>(Frame::data(Bytes::from("1")));
            (sent < 3).then_some((frame, sent + 1))
        });
        let request = Request::post("/orders").header("idempotency-key", key.to_string());
        request.body(StreamBody::new(Box::pin(frames))).unwrap()
    };
    let counted = stand.clone();
    let service = tower::service_fn(move |_| {
        let stand = counted.clone();
        async move {
            tokio::task::yield_now().await;
            let run = stand.run();
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(answer(201, &format!("run {run}")))
        }
    });
    let ask = async |key| {
        let response = layer.layer(service.clone()).oneshot(request(key)).await;
        whole(response.unwrap()).await
    };
    let swept = cancel_sweep(
        async || ask(keys.load(Ordering::SeqCst)).await,
        async |point: Point| {
            let key = keys.fetch_add(1, Ordering::SeqCst);
            // The one who comes again gets the answer, well before any lease is over.
            let clock = Clock::tokio();
            let began = clock.now();
            let answer = loop {
                let answer = ask(key).await;
                if answer.status == 201 {
                    break answer;
                }
                assert_eq!(answer.status, 409, "{point}");
                assert!(
                    clock.now().saturating_since(began).as_secs() < 20,
                    "{point}: stuck"
                );
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            };
            assert_eq!(answer.text(), format!("run {}", key + 1), "{point}");
            assert_eq!(stand.runs(), key + 1, "{point}: one effect a key");
            let again = ask(key).await;
            assert!(again.is_replay() && again.body == answer.body, "{point}");
        },
    )
    .await;
    assert!(swept.points >= 8, "{} points", swept.points);
    let drained = stand
        .idempotency
        .drain(std::time::Duration::from_secs(5))
        .await;
    assert_eq!(drained.stopped, 0, "no task is left");
}
