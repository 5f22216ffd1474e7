//! The ready-made judges, on what real clients return.

use std::time::Duration;

use axum::{Router, http::StatusCode, routing::get};
use buttress_circuit_breaker::{
    CircuitBreaker, OpenTime, Rate, State,
    http::ByStatus,
    redis::ByRedis,
    reqwest::ByReqwest,
    sqlx::{BySqlx, Phase},
    tonic::ByCode,
    tower::CircuitBreakerLayer,
};
use buttress_core::CallError;
use buttress_testkit::{
    eventually::eventually, left_out::LeftOut, postgres, redis as redis_server,
};
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceExt as _};

use crate::stand::{SECOND, Stand, ten_seconds};

/// Serves these answers on a port of its own, until it is dropped.
async fn serve() -> (String, tokio::task::JoinHandle<()>) {
    let busy = get(async || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "42")]));
    let app = Router::new()
        .route("/ok", get(async || "fine"))
        .route("/gone", get(async || StatusCode::NOT_FOUND))
        .route("/busy", busy);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
    (url, server)
}

/// Opens with the second failure of four, for 1 s at least and at most a minute.
fn stand() -> Stand {
    let open = OpenTime::growing(SECOND, 60 * SECOND).with_jitter_percent(0);
    Stand::new(ten_seconds().count_window(4).open_time(open))
}

#[tokio::test]
async fn over_http_a_503_opens_it_for_as_long_as_it_asks_and_a_404_is_an_answer() {
    let (url, server) = serve().await;
    let stand = stand();
    let client = reqwest::Client::new();
    let ask = async |path: &str| {
        let call = client.get(format!("{url}{path}")).send();
        stand.breaker.call(call).by(ByReqwest).await
    };
    for path in ["/ok", "/gone", "/busy"] {
        ask(path).await.unwrap();
    }
    let counts = stand.breaker.counts();
    assert_eq!((counts.calls, counts.failed), (3, 1));
    assert_eq!(ask("/busy").await.unwrap().status(), 503);
    assert_eq!(stand.state(), State::Open);
    assert_eq!(stand.breaker.retry_after(), Some(42 * SECOND));
    let rejected = ask("/ok").await.unwrap_err();
    assert!(matches!(rejected, CallError::Rejected(_)));
    stand.breaker.close();
    server.abort();
    let _ = server.await;
    for _ in 0..4 {
        assert!(matches!(ask("/ok").await, Err(CallError::Failed(_))));
    }
    assert_eq!(stand.state(), State::Open, "nobody listens any more");
}

#[tokio::test]
async fn a_layer_judges_responses_by_their_status() {
    let stand = stand();
    let layer = CircuitBreakerLayer::new(&stand.breaker).by(ByStatus);
    let app = Router::new().route("/", get(async || StatusCode::TOO_MANY_REQUESTS));
    let service = layer.layer(app);
    for _ in 0..4 {
        let request = axum::http::Request::new(axum::body::Body::empty());
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 429);
    }
    assert_eq!(stand.state(), State::Open);
}

#[tokio::test]
async fn a_grpc_pushback_is_heeded_and_not_found_is_an_answer() {
    let stand = stand();
    let ask = async |code, pushback: Option<&'static str>| {
        let mut status = tonic::Status::new(code, "");
        if let Some(millis) = pushback {
            let value = millis.parse().unwrap();
            status
                .metadata_mut()
                .insert("grpc-retry-pushback-ms", value);
        }
        let call = async { Err::<(), _>(status) };
        stand.breaker.call(call).by(ByCode).await.unwrap_err()
    };
    ask(tonic::Code::NotFound, None).await;
    ask(tonic::Code::InvalidArgument, None).await;
    ask(tonic::Code::Unavailable, None).await;
    assert_eq!(stand.breaker.counts().failed, 1);
    ask(tonic::Code::Unavailable, Some("7000")).await;
    assert_eq!(stand.breaker.retry_after(), Some(7 * SECOND));
}

fn left_out(server: &str, why: &impl std::fmt::Display) {
    LeftOut::new(format!("a breaker on {server}"), why.to_string()).register();
}

/// One that opens with the second failure of two, and tries again soon.
fn real() -> CircuitBreaker {
    let open = OpenTime::fixed(Duration::from_millis(50));
    let policy = ten_seconds()
        .count_window(2)
        .failure_rate(Rate::percent(100))
        .half_open_permits(1);
    CircuitBreaker::builder("store")
        .policy(policy.open_time(open).build().unwrap())
        .build()
}

#[tokio::test]
async fn a_killed_postgres_opens_it_a_wrong_statement_does_not_and_a_restart_closes_it() {
    let server = match postgres::Server::start() {
        Ok(server) => server,
        Err(postgres::StartError::NotFound(why)) => return left_out("PostgreSQL", &why),
        Err(error) => panic!("{error}"),
    };
    let pool = PgPoolOptions::new()
        .acquire_timeout(SECOND)
        .connect(&server.url("postgres"))
        .await
        .unwrap();
    let breaker = real();
    let ask = async |statement: &'static str| {
        let call = sqlx::query(statement).execute(&pool);
        breaker.call(call).by(BySqlx::new(Phase::Read)).await
    };
    for _ in 0..4 {
        assert!(matches!(
            ask("SELECT 1 / 0").await,
            Err(CallError::Failed(_))
        ));
    }
    assert_eq!(breaker.state(), State::Closed);
    server.kill();
    for _ in 0..2 {
        assert!(matches!(ask("SELECT 1").await, Err(CallError::Failed(_))));
    }
    assert!(matches!(ask("SELECT 1").await, Err(CallError::Rejected(_))));
    server.restart().unwrap();
    eventually("it closes by itself", Duration::from_secs(30), async || {
        ask("SELECT 1").await.ok()
    })
    .await;
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn a_killed_redis_opens_it_and_a_restart_closes_it() {
    let server = match redis_server::Server::start() {
        Ok(server) => server,
        Err(redis_server::StartError::NotFound(why)) => return left_out("Redis", &why),
        Err(error) => panic!("{error}"),
    };
    let client = redis::Client::open(server.url()).unwrap();
    let breaker = real();
    let ask = async |command: &'static str| {
        let call = async {
            let mut connection = client.get_multiplexed_async_connection().await?;
            let command = redis::cmd(command);
            command.query_async::<redis::Value>(&mut connection).await
        };
        breaker.call(call).by(ByRedis::new(Phase::Read)).await
    };
    for _ in 0..4 {
        ask("PING").await.unwrap();
    }
    server.kill();
    for _ in 0..2 {
        assert!(matches!(ask("PING").await, Err(CallError::Failed(_))));
    }
    assert!(matches!(ask("PING").await, Err(CallError::Rejected(_))));
    server.restart().unwrap();
    eventually("it closes by itself", Duration::from_secs(30), async || {
        ask("PING").await.ok()
    })
    .await;
    assert_eq!(breaker.state(), State::Closed);
}
