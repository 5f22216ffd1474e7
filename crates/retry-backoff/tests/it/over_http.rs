//! The HTTP layer: methods, keys, bodies, Retry-After; and on a router over fresh connections.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, routing::get};
use buttress_retry_backoff::{
    Backoff, Budget, BudgetRule, Retry, RetryError, RetryPolicy,
    tower::{HttpReplay, ReplayBody, RetryLayer},
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Layer, Service, ServiceExt};

use crate::waits::Stopwatch;

type Bytes = axum::body::Bytes;
type SomeBody = BoxBody<Bytes, Infallible>;

fn retry() -> Retry {
    let policy = RetryPolicy::builder().backoff(Backoff::none());
    Retry::new("test", policy.build().unwrap())
}

/// Answers with these statuses, having read so many frames of the body; tells what it read.
#[derive(Clone)]
struct Upstream {
    answers: Arc<Mutex<VecDeque<(u16, usize)>>>,
    read: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    fn new(answers: impl IntoIterator<Item = (u16, usize)>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            read: Arc::default(),
        }
    }

    fn service<B>(
        &self,
    ) -> impl Service<
        Request<ReplayBody<B>>,
        Response = Response<()>,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<()>, Infallible>>,
    > + Clone
    where
        B: http_body::Body<Data = Bytes, Error = Infallible> + Unpin,
    {
        let upstream = self.clone();
        tower::service_fn(move |request: Request<ReplayBody<B>>| {
            let (status, frames) = upstream.answers.lock().unwrap().pop_front().unwrap();
            let read = Arc::clone(&upstream.read);
            async move {
                let mut body = request.into_body();
                let mut text = String::new();
                for _ in 0..frames {
                    let Some(frame) = body.frame().await else {
                        break;
                    };
                    if let Ok(data) = frame.unwrap().into_data() {
                        text.push_str(std::str::from_utf8(&data).unwrap());
                    }
                }
                read.lock().unwrap().push(text);
                let response = Response::builder().status(status);
                let response = match status {
                    429 => response.header("retry-after", "3"),
                    _ => response,
                };
                Ok(response.body(()).unwrap())
            }
        })
    }
}

const ALL: usize = usize::MAX;

fn chunks(chunks: &[&'static str]) -> SomeBody {
    let frames: Vec<_> = chunks
        .iter()
        .map(|chunk| Ok(http_body::Frame::data(Bytes::from_static(chunk.as_bytes()))))
        .collect();
    StreamBody::new(Frames(frames.into())).boxed()
}

/// A body of frames that are there.
struct Frames(VecDeque<Result<http_body::Frame<Bytes>, Infallible>>);

impl futures_util::Stream for Frames {
    type Item = Result<http_body::Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}

async fn send(
    layer: &RetryLayer<buttress_retry_backoff::http::ByStatus, HttpReplay>,
    upstream: &Upstream,
    request: Request<SomeBody>,
) -> (u16, Vec<String>) {
    let service = layer.layer(upstream.service());
    let response: Result<_, RetryError<Infallible>> = service.oneshot(request).await;
    let read = upstream.read.lock().unwrap().clone();
    (response.unwrap().status().as_u16(), read)
}

fn post(body: SomeBody) -> Request<SomeBody> {
    Request::post("/").body(body).unwrap()
}

fn keyed(body: SomeBody) -> Request<SomeBody> {
    Request::post("/")
        .header("idempotency-key", "a")
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn a_post_is_sent_twice_only_with_a_key() {
    for (request, expected) in [
        (post(chunks(&["a"])), (503, 1)),
        (keyed(chunks(&["a"])), (200, 2)),
    ] {
        let upstream = Upstream::new([(503, ALL), (200, ALL)]);
        let (status, read) = send(&RetryLayer::http(retry()), &upstream, request).await;
        assert_eq!((status, read.len()), expected);
    }
}

#[tokio::test]
async fn the_last_response_leaves_as_it_is() {
    let upstream = Upstream::new([(503, 0), (500, 0), (502, 0)]);
    let request = Request::get("/").body(chunks(&[])).unwrap();
    let (status, read) = send(&RetryLayer::http(retry()), &upstream, request).await;
    assert_eq!((status, read.len()), (502, 3));
}

#[tokio::test(start_paused = true)]
async fn a_post_that_was_certainly_not_done_is_sent_again_when_the_server_said() {
    let clock = Stopwatch::start();
    let upstream = Upstream::new([(429, ALL), (200, ALL)]);
    let (status, read) = send(
        &RetryLayer::http(retry()),
        &upstream,
        post(chunks(&["a", "b"])),
    )
    .await;
    assert_eq!((status, read), (200, vec!["ab".to_owned(); 2]));
    assert!((3.0..=4.6).contains(&clock.elapsed().as_secs_f64()));
}

#[tokio::test]
async fn a_body_is_replayed_whole_however_much_of_it_was_read_before() {
    for frames in 0..5 {
        let upstream = Upstream::new([(503, frames), (503, 1), (200, ALL)]);
        let (status, read) = send(
            &RetryLayer::http(retry()),
            &upstream,
            keyed(chunks(&["one ", "two ", "three"])),
        )
        .await;
        assert_eq!((status, &*read[2]), (200, "one two three"), "{frames}");
    }
}

#[tokio::test]
async fn a_body_over_the_bound_is_sent_whole_and_once() {
    let layer = RetryLayer::with_replay(
        retry(),
        buttress_retry_backoff::http::ByStatus,
        HttpReplay::new(7),
    );
    let upstream = Upstream::new([(503, ALL)]);
    let (status, read) = send(&layer, &upstream, keyed(chunks(&["1234", "5678"]))).await;
    assert_eq!((status, read), (503, vec!["12345678".to_owned()]));
    // Of a known length: seen before it is sent.
    let upstream = Upstream::new([(503, ALL)]);
    let full = Full::new(Bytes::from_static(b"12345678")).boxed();
    let (status, read) = send(&layer, &upstream, keyed(full)).await;
    assert_eq!((status, read.len()), (503, 1));
    let upstream = Upstream::new([(503, ALL), (200, ALL)]);
    let full = Full::new(Bytes::from_static(b"1234567")).boxed();
    let (status, read) = send(&layer, &upstream, keyed(full)).await;
    assert_eq!((status, read.len()), (200, 2));
}

#[tokio::test]
async fn a_body_tells_its_size_and_its_end_each_time() {
    use http_body::Body as _;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let service = tower::service_fn(move |request: Request<ReplayBody<Full<Bytes>>>| {
        let mut body = request.into_body();
        let list = Arc::clone(&list);
        async move {
            let before = (body.size_hint().exact(), body.is_end_stream());
            let _ = body.frame().await;
            list.lock().unwrap().push((before, body.is_end_stream()));
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
        }
    });
    for (text, expected) in [("abc", (Some(3), false)), ("", (Some(0), true))] {
        let request = Request::put("/").body(Full::from(text)).unwrap();
        let layered = RetryLayer::http(retry()).layer(service.clone());
        layered.oneshot(request).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [(expected, true); 3], "{text}");
        seen.lock().unwrap().clear();
    }
}

async fn ask(address: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn on_a_router_every_fresh_connection_pays_from_the_one_budget() {
    let rule = BudgetRule::Quota {
        capacity: 3,
        error: 1,
        timeout: 1,
        throttled: 1,
    };
    let layer = RetryLayer::http(retry().with_budget(Budget::new(rule).unwrap()));
    let calls = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let inner = Router::new().route(
        "/",
        get(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async { StatusCode::SERVICE_UNAVAILABLE }
        }),
    );
    // axum applies a layer anew for each connection.
    let within = tower::ServiceBuilder::new()
        .map_err(|error: RetryError<Infallible>| -> Infallible { panic!("{error}") })
        .layer(layer)
        .map_request(|request: Request<ReplayBody<Body>>| request.map(Body::new));
    let app: Router = Router::new()
        .fallback_service(Router::new())
        .merge(inner.layer(within));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    for _ in 0..4 {
        assert!(ask(address).await.starts_with("HTTP/1.1 503"));
    }
    // Four calls, and the three retries that the budget has.
    assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 7);
}

#[tokio::test]
async fn trailers_are_replayed_after_the_data_whoever_read_them_before() {
    for read_before in [0, 1, 2, 3] {
        let trailers =
            || http::HeaderMap::from_iter([(http::header::ETAG, "\"a\"".parse().unwrap())]);
        let frames =
            ["one", "two"].map(|it| http_body::Frame::data(Bytes::from_static(it.as_bytes())));
        let frames = frames
            .into_iter()
            .chain([http_body::Frame::trailers(trailers())]);
        let body = StreamBody::new(Frames(frames.map(Ok).collect())).boxed();
        let sent = Arc::new(Mutex::new(0));
        let service = tower::service_fn(|request: Request<ReplayBody<SomeBody>>| {
            let mut count = sent.lock().unwrap();
            *count += 1;
            let first = *count == 1;
            async move {
                let mut body = request.into_body();
                if first {
                    for _ in 0..read_before {
                        body.frame().await.unwrap().unwrap();
                    }
                    return Ok::<_, Infallible>(Response::builder().status(429).body(()).unwrap());
                }
                let collected = body.collect().await.unwrap();
                assert_eq!(collected.trailers(), Some(&trailers()));
                assert_eq!(collected.to_bytes(), "onetwo");
                Ok(Response::new(()))
            }
        });
        let layer = RetryLayer::http(retry());
        let response = layer.layer(service).oneshot(post(body)).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), *sent.lock().unwrap()),
            (200, 2),
            "{read_before}"
        );
    }
}
