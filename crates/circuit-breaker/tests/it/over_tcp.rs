//! The layer on an axum router, asked over a new connection each time.

use axum::{Router, error_handling::HandleErrorLayer, routing::get};
use buttress_circuit_breaker::{State, tower::CircuitBreakerLayer};
use buttress_core::{CallError, Verdict};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::ServiceBuilder;

use crate::stand::{Stand, ten_seconds};

async fn status(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn fresh_connections_share_the_state() {
    let stand = Stand::new(ten_seconds().count_window(4));
    let breaker = CircuitBreakerLayer::new(&stand.breaker).by(
        |result: Result<&axum::response::Response, &std::convert::Infallible>| match result {
            Ok(response) if response.status().is_server_error() => Verdict::unknown(),
            _ => Verdict::success(),
        },
    );
    let rejected = |error: CallError<std::convert::Infallible>| async move {
        assert!(matches!(error, CallError::Rejected(_)));
        axum::http::StatusCode::SERVICE_UNAVAILABLE
    };
    let layers = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(rejected))
        .layer(breaker);
    let fails = get(async || axum::http::StatusCode::INTERNAL_SERVER_ERROR);
    let app = Router::new().route("/", fails).layer(layers);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async { axum::serve(listener, app).await });
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(status(port).await);
    }
    assert_eq!(answers, ["500", "500", "500", "500", "503", "503"]);
    assert_eq!(stand.state(), State::Open);
    server.abort();
}
