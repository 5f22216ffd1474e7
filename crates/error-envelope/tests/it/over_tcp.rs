//! The layer on an axum router, asked over a new connection each time.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use buttress_error_envelope::{
    Envelope, Problem,
    axum::Json,
    tower::{EnvelopeLayer, RequestId},
};
use http::StatusCode;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_http::timeout::TimeoutLayer;

fn app(layer: &EnvelopeLayer) -> Router {
    Router::new()
        .route("/fine", get(async || Envelope::new("fine")))
        .route(
            "/id",
            get(async |axum::Extension(id): axum::Extension<RequestId>| id.to_string()),
        )
        .route(
            "/problem",
            get(async || Problem::new(409, "CONFLICT", "No.")),
        )
        .route("/gone", get(async || StatusCode::GONE))
        .route("/panics", get(async || -> () { panic!("c4n4ry") }))
        .route("/hangs", get(async || std::future::pending::<()>().await))
        .route("/axums", post(async |_: axum::body::Bytes| ()))
        .route(
            "/ours",
            post(async |Json(value): Json<Value>| Envelope::new(value)),
        )
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            Duration::from_millis(200),
        ))
        .layer(DefaultBodyLimit::max(16))
        .layer(layer.clone())
}

fn layer() -> EnvelopeLayer {
    EnvelopeLayer::new().with_status(StatusCode::GONE, Problem::new(410, "SOLD_OUT", "Sold out."))
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    address
}

/// Status, lines of the head in lower case, and body, over a connection of its own.
async fn ask(address: SocketAddr, start: &str, rest: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{start} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n{rest}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

fn code(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    let code = body.get("code").unwrap_or(&body["error"]["code"]);
    code.as_str().unwrap().to_owned()
}

const TABLE: [(&str, &str, u16, &str); 10] = [
    ("GET /problem", "\r\n", 409, "CONFLICT"),
    ("GET /gone", "\r\n", 410, "SOLD_OUT"),
    ("GET /panics", "\r\n", 500, "INTERNAL"),
    ("GET /hangs", "\r\n", 504, "UPSTREAM_TIMEOUT"),
    ("GET /nowhere", "\r\n", 404, "ROUTE_NOT_FOUND"),
    (
        "POST /fine",
        "content-length: 0\r\n\r\n",
        405,
        "METHOD_NOT_ALLOWED",
    ),
    (
        "POST /axums",
        "content-length: 17\r\n\r\n01234567890123456",
        413,
        "PAYLOAD_TOO_LARGE",
    ),
    (
        "POST /ours",
        "content-length: 17\r\n\r\n01234567890123456",
        413,
        "PAYLOAD_TOO_LARGE",
    ),
    (
        "POST /ours",
        "content-length: 1\r\n\r\n1",
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    ),
    (
        "POST /ours",
        "content-type: application/json\r\ncontent-length: 1\r\n\r\n{",
        400,
        "MALFORMED_REQUEST",
    ),
];

#[tokio::test]
async fn every_error_of_handlers_extractors_and_axum_itself_has_one_shape_on_every_connection() {
    let layer = layer();
    let within = Router::new().nest("/api", app(&layer)).layer(layer.clone());
    let table = [
        ("", serve(app(&layer)).await),
        ("/api", serve(within).await),
    ];
    for (prefix, address) in table {
        for (start, rest, status, name) in TABLE {
            let start = start.replacen(" /", &format!(" {prefix}/"), 1);
            for form in ["application/json", "application/problem+json"] {
                let rest = format!("accept: {form}\r\nx-request-id: abc\r\n{rest}");
                let (got, head, body) = ask(address, &start, &rest).await;
                assert_eq!((got, &*code(&body)), (status, name), "{start}: {head}");
                for line in [
                    &*format!("content-type: {form}"),
                    "vary: accept",
                    "x-request-id: abc",
                    &*format!("content-length: {}", body.len()),
                ] {
                    let count = head.lines().filter(|got| *got == line).count();
                    assert_eq!(count, 1, "{start}: {line} in {head}");
                }
                assert!(!body.contains("c4n4ry"));
            }
        }
    }
}

#[tokio::test]
async fn a_method_that_is_not_allowed_is_told_which_are() {
    let address = serve(app(&layer())).await;
    let (status, head, _) = ask(address, "DELETE /fine", "\r\n").await;
    assert_eq!(status, 405);
    assert!(head.contains("\r\nallow: get,head"), "{head}");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let address = serve(app(&layer())).await;
    for path in ["/fine", "/problem", "/nowhere", "/panics"] {
        let (status, head, body) = ask(address, &format!("HEAD {path}"), "\r\n").await;
        let (same, _, whole) = ask(address, &format!("GET {path}"), "\r\n").await;
        assert_eq!((status, body.len()), (same, 0), "{path}");
        let length = format!("content-length: {}", whole.len());
        assert!(head.lines().any(|line| line == length), "{path}: {head}");
    }
}

#[tokio::test]
async fn the_id_that_a_handler_sees_is_the_one_that_leaves() {
    let address = serve(app(&layer())).await;
    let (_, head, body) = ask(address, "GET /id", "x-request-id: not/good\r\n\r\n").await;
    assert_eq!(body.len(), 36);
    assert!(head.contains(&format!("x-request-id: {body}")), "{head}");
}
