//! What the receiving layer lets through, over TCP.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Bytes,
    http::{Response, StatusCode},
    routing::post,
};
use buttress_outbox::{
    OutboxError, PublishErrorKind,
    tower::{Seen, Webhook, WebhookLayer},
};
use buttress_testkit::cancel_sweep::{Point, cancel_sweep};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::stand::{NOW, at, kind, publisher, signer, verifier};

/// What reached the handler.
type Taken = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A receiver behind layers.
struct Receiver {
    port: u16,
    taken: Taken,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    async fn start(layers: &[WebhookLayer]) -> Self {
        let taken = Taken::default();
        let shared = Arc::clone(&taken);
        let handler = async move |Extension(webhook): Extension<Webhook>, body: Bytes| {
            let taken = (webhook.id().to_owned(), body.to_vec());
            shared.lock().unwrap().push(taken);
            assert_eq!(webhook.sent(), at(NOW));
        };
        let mut app = Router::new().route("/hooks", post(handler));
        for layer in layers {
            app = app.layer(layer.clone());
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
        Self { port, taken, task }
    }

    fn taken(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    /// Sends bytes over a new connection, and reads the answer.
    async fn send(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        // A server that refuses early may reset what it did not read.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    async fn status(&self, request: &[u8]) -> String {
        let answer = self.send(request).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request with these fields, each of them ended.
fn request(fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut request = format!(
        "POST /hooks HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n"
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn fields(id: &str, sent: u64, body: &[u8]) -> String {
    let signed = signer(&[1]).sign(id, at(sent), body).unwrap();
    format!(
        "webhook-id: {id}\r\nwebhook-timestamp: {}\r\nwebhook-signature: {}\r\n",
        signed.timestamp(),
        signed.signature()
    )
}

fn layer() -> WebhookLayer {
    WebhookLayer::new(verifier(&[1])).with_wall_clock(|| at(NOW))
}

const BODY: &[u8] = b"{ \"n\": 1.0,\xff\r\n}";

#[tokio::test]
async fn only_what_is_believed_reaches_the_handler_and_byte_for_byte() {
    let receiver = Receiver::start(&[layer()]).await;
    let right = fields("m-1", NOW, BODY);
    let other_body = fields("m-1", NOW, b"{}");
    let timestamp = format!("webhook-timestamp: {NOW}\r\n");
    for (name, fields, status) in [
        ("right", right.clone(), "200"),
        ("no fields", String::new(), "400"),
        ("no time", right.replace(&timestamp, ""), "400"),
        ("two times", format!("{right}{timestamp}"), "400"),
        ("two ids", format!("{right}webhook-id: m-2\r\n"), "400"),
        (
            "an id that is no text",
            right.replace("m-1", "m-\u{e9}"),
            "400",
        ),
        ("an id with a full stop", right.replace("m-1", "m.1"), "400"),
        (
            "a plus",
            right.replace(&timestamp, &format!("webhook-timestamp: +{NOW}\r\n")),
            "400",
        ),
        (
            "a long signature",
            format!("{} {}\r\n", right.trim_end(), "v1,AAAA ".repeat(200)),
            "400",
        ),
        ("another id", right.replace("m-1", "m-2"), "401"),
        (
            "another time",
            right.replace(&timestamp, &format!("webhook-timestamp: {}\r\n", NOW + 1)),
            "401",
        ),
        ("another body", other_body, "401"),
        ("another version", right.replace("v1,", "v1a,"), "401"),
    ] {
        let found = receiver.status(&request(&fields, BODY)).await;
        assert_eq!(found, status, "{name}");
    }
    let taken = receiver.taken.lock().unwrap().clone();
    assert_eq!(taken, [("m-1".to_owned(), BODY.to_vec())]);
}

#[tokio::test]
async fn clocks_may_differ_by_five_minutes_either_way() {
    for (ahead, status) in [(-301, "401"), (-300, "200"), (300, "200"), (301, "401")] {
        let here = NOW.checked_add_signed(ahead).unwrap();
        let layer = WebhookLayer::new(verifier(&[1])).with_wall_clock(move || at(here));
        let receiver = Receiver::start(&[layer]).await;
        let found = receiver
            .status(&request(&fields("m-1", NOW, BODY), BODY))
            .await;
        assert_eq!(found, status, "{ahead}");
    }
}

#[tokio::test]
async fn a_refusal_is_a_problem_that_repeats_nothing() {
    let receiver = Receiver::start(&[layer()]).await;
    let canary = fields("canary", NOW, b"other");
    let answer = receiver.send(&request(&canary, b"canary")).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("content-type: application/problem+json"));
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "title": "Unauthorized", "status": 401, "code": "WEBHOOK_SIGNATURE",
        "detail": "The webhook's signature is not accepted.",
    });
    assert_eq!(problem, expected);

    let respond = |fault: &dyn buttress_core::Fault| {
        let mut response = Response::new(Bytes::from(fault.code()));
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        response
    };
    let receiver = Receiver::start(&[layer().with_responder(respond)]).await;
    let answer = receiver.send(&request("", b"")).await;
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
    assert!(answer.ends_with("WEBHOOK_MALFORMED"), "{answer}");
}

#[tokio::test]
async fn a_body_is_read_up_to_its_bound_however_it_is_sent() {
    let layer = layer().with_longest_body(10);
    let receiver = Receiver::start(&[layer]).await;
    let (fits, longer) = (&b"0123456789"[..], &b"0123456789a"[..]);
    let status = receiver
        .status(&request(&fields("m-1", NOW, fits), fits))
        .await;
    assert_eq!(status, "200");
    let status = receiver
        .status(&request(&fields("m-1", NOW, longer), longer))
        .await;
    assert_eq!(status, "413");
    let chunked = |fields: &str, chunks: &str| {
        format!(
            "POST /hooks HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n{fields}\r\n{chunks}"
        )
        .into_bytes()
    };
    let parts = "4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n";
    let status = receiver
        .status(&chunked(&fields("m-1", NOW, fits), parts))
        .await;
    assert_eq!(status, "200");
    let parts = "4\r\n0123\r\n7\r\n456789a\r\n0\r\n\r\n";
    let status = receiver
        .status(&chunked(&fields("m-1", NOW, longer), parts))
        .await;
    assert_eq!(status, "413");
    // One that says that it is huge is answered before it is sent.
    let huge = String::from_utf8(request(&fields("m-1", NOW, b""), b"")).unwrap();
    let huge = huge.replace("content-length: 0", "content-length: 1099511627776");
    assert_eq!(receiver.status(huge.as_bytes()).await, "413");
    assert_eq!(receiver.taken(), 2);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let layer = layer().with_body_timeout(Duration::from_millis(100));
    let receiver = Receiver::start(&[layer]).await;
    let whole = request(&fields("m-1", NOW, BODY), BODY);
    assert_eq!(receiver.status(&whole[..whole.len() - 1]).await, "408");
    // What is refused by its fields is refused before its body.
    let late = String::from_utf8(request(&fields("m-1", NOW - 301, b""), b"")).unwrap();
    let late = late.replace("content-length: 0", "content-length: 10");
    assert_eq!(receiver.status(late.as_bytes()).await, "401");
    assert_eq!(receiver.taken(), 0);
}

#[tokio::test]
async fn a_body_that_is_cut_reaches_nobody() {
    let receiver = Receiver::start(&[layer()]).await;
    let whole = request(&fields("m-1", NOW, BODY), BODY);
    let mut stream = TcpStream::connect(("127.0.0.1", receiver.port))
        .await
        .unwrap();
    stream.write_all(&whole[..whole.len() - 3]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(receiver.taken(), 0);
}

/// An inbox that knows some ids, and can be down.
#[derive(Clone, Default)]
struct Known {
    ids: Arc<Mutex<HashSet<String>>>,
    asked: Arc<AtomicUsize>,
    down: bool,
}

#[async_trait::async_trait]
impl Seen for Known {
    async fn was_taken(&self, id: &str) -> Result<bool, OutboxError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.down {
            return Err(OutboxError::NoSuchDeadLetter);
        }
        Ok(self.ids.lock().unwrap().contains(id))
    }
}

#[tokio::test]
async fn one_that_was_taken_does_not_reach_the_handler_and_its_sender_is_content() {
    let known = Known::default();
    let receiver = Receiver::start(&[layer().with_seen(known.clone())]).await;
    let webhook = request(&fields("m-1", NOW, BODY), BODY);
    assert_eq!(receiver.status(&webhook).await, "200");
    // The handler's transaction did not commit: it comes again, and is handled again.
    assert_eq!(receiver.status(&webhook).await, "200");
    known.ids.lock().unwrap().insert("m-1".into());
    assert_eq!(receiver.status(&webhook).await, "204");
    assert_eq!(receiver.taken(), 2);
    // A forger learns nothing of what was taken.
    let forged = request(&fields("m-1", NOW, b"other"), BODY);
    let asked = known.asked.load(Ordering::SeqCst);
    assert_eq!(receiver.status(&forged).await, "401");
    assert_eq!(known.asked.load(Ordering::SeqCst), asked);
}

#[tokio::test]
async fn when_the_inbox_cannot_be_asked_nothing_is_handled() {
    let known = Known {
        down: true,
        ..Known::default()
    };
    let receiver = Receiver::start(&[layer().with_seen(known)]).await;
    let status = receiver
        .status(&request(&fields("m-1", NOW, BODY), BODY))
        .await;
    assert_eq!(status, "404"); // what this error says of itself
    assert_eq!(receiver.taken(), 0);
}

#[tokio::test]
async fn applied_twice_it_lets_the_same_through() {
    let known = Known::default();
    let seen = layer().with_seen(known.clone());
    let receiver = Receiver::start(&[seen.clone(), seen]).await;
    let right = request(&fields("m-1", NOW, BODY), BODY);
    assert_eq!(receiver.status(&right).await, "200");
    let wrong = request(&fields("m-1", NOW, b"other"), BODY);
    assert_eq!(receiver.status(&wrong).await, "401");
    assert_eq!(
        receiver.taken.lock().unwrap()[..],
        [("m-1".to_owned(), BODY.to_vec())]
    );
    assert_eq!(known.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn our_publisher_is_believed_by_our_layer_and_another_secret_is_not() {
    let receiver = Receiver::start(&[layer()]).await;
    let url = format!("http://127.0.0.1:{}/hooks", receiver.port);
    let publisher = publisher(&url);
    assert_eq!(kind(&publisher).await, None);
    publisher.set_signer(signer(&[2]));
    assert_eq!(kind(&publisher).await, Some(PublishErrorKind::Refused));
    publisher.set_signer(signer(&[2, 1]));
    assert_eq!(kind(&publisher).await, None);
    assert_eq!(receiver.taken(), 2);
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_that_is_called() {
    use std::task::{Context, Poll};

    use tower::{Layer, Service, ServiceExt};

    /// Panics when it is called without having been polled ready.
    #[derive(Default)]
    struct Strict(bool);

    impl Clone for Strict {
        fn clone(&self) -> Self {
            Self(false)
        }
    }

    impl Service<axum::extract::Request> for Strict {
        type Response = axum::response::Response;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            self.0 = true;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: axum::extract::Request) -> Self::Future {
            assert!(std::mem::take(&mut self.0), "not polled ready");
            std::future::ready(Ok(axum::response::Response::default()))
        }
    }

    let mut service = layer().layer(Strict::default());
    let signed = signer(&[1]).sign("m-1", at(NOW), BODY).unwrap();
    for _ in 0..2 {
        let request = axum::extract::Request::builder()
            .header("webhook-id", "m-1")
            .header("webhook-timestamp", signed.timestamp())
            .header("webhook-signature", signed.signature())
            .body(axum::body::Body::from(BODY))
            .unwrap();
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), 200);
    }
}

/// A body that comes in pieces, each of them waited for.
fn piecemeal() -> axum::body::Body {
    let pieces = futures_util::stream::unfold(0, |n| async move {
        tokio::task::yield_now().await;
        let piece = BODY.get(n..n + 1)?;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(piece)), n + 1))
    });
    axum::body::Body::from_stream(pieces)
}

#[tokio::test]
async fn dropped_at_any_await_nothing_reached_the_handler_half() {
    let _tally = buttress_testkit::tally::suite("X1");
    use tower::{Layer, ServiceExt};

    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let inner = tower::service_fn(move |request: axum::extract::Request| {
        let count = Arc::clone(&count);
        async move {
            let body = axum::body::to_bytes(request.into_body(), usize::MAX).await;
            assert_eq!(body.unwrap(), BODY);
            tokio::task::yield_now().await;
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<axum::response::Response, std::convert::Infallible>(Response::default())
        }
    });
    let service = layer().with_seen(Known::default()).layer(inner);
    let signed = signer(&[1]).sign("m-1", at(NOW), BODY).unwrap();
    let swept = cancel_sweep(
        async || {
            let request = axum::extract::Request::builder()
                .header("webhook-id", "m-1")
                .header("webhook-timestamp", signed.timestamp())
                .header("webhook-signature", signed.signature())
                .body(piecemeal())
                .unwrap();
            service.clone().oneshot(request).await.unwrap().status()
        },
        async |point| {
            let expected = usize::from(point == Point::Completed);
            assert_eq!(handled.load(Ordering::SeqCst), expected, "{point}");
        },
    )
    .await;
    assert!(swept.points as usize > BODY.len());
    assert_eq!(swept.output, StatusCode::OK);
}

#[test]
fn nothing_secret_is_shown() {
    let shown = format!("{:#?}", WebhookLayer::new(verifier(&[1])));
    assert!(
        !shown.contains("1, 1, 1") && !shown.contains("AQEB"),
        "{shown}"
    );
}
