//! The service that the tour builds, whole: it takes orders, each once, charges them, and tells
//! the shipping of them.
//!
//! ```text
//! cargo run -p buttress --example tour --features patterns,axum,http,sqlite,tower
//! curl -i localhost:3000/orders -H 'idempotency-key: k1' --json '{"item": "lamp", "amount": 1999}'
//! curl -i localhost:3000/orders -H 'idempotency-key: k1' --json '{"item": "lamp", "amount": 1999}'
//! curl -i localhost:3000/rates/SEK
//! ```
//!
//! It listens at another address when it is given one.

#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Response, StatusCode, header::LOCATION},
    routing::{get, post},
};
use buttress::{
    circuit_breaker::CircuitBreaker,
    error_envelope::{Envelope, Problem, axum::Path, parse_json, tower::EnvelopeLayer},
    idempotency::{
        Begin, Idempotency, Refusal, Scope,
        http::{FingerprintRule, KeyRule, ReplayedHeaders, StoredResponse},
        store::SqliteStore as Keys,
    },
    outbox::{Message, Outbox, OutboxStore, Relay, publisher::in_process},
    rate_limiter::{KeyedRateLimiter, Quota, http::Client, tower::HttpRateLimitLayer},
    retry_backoff::{Retry, RetryPolicy},
    saga::{Context, Saga, Sagas, StartOptions, Step, StepError, store::SqliteStore as Journals},
    store::{
        Deadline,
        sqlite::{Writer, options},
    },
};
use serde::{Deserialize, Serialize};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct Shop {
    writer: Writer,
    keys: Idempotency,
    outbox: Outbox,
    sagas: Sagas,
    order: Saga<Order>,
    breaker: CircuitBreaker,
    retry: Retry,
}

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    item: String,
    amount: u64,
}

/// The service that is asked for rates of exchange. This one is down every other time.
async fn ask(currency: &str) -> io::Result<u64> {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let asked = ASKED.fetch_add(1, Relaxed);
    match asked % 2 {
        0 => Err(io::ErrorKind::ConnectionRefused.into()),
        _ => Ok(currency.len() as u64 * 100),
    }
}

async fn rate(
    State(shop): State<Shop>,
    Path(currency): Path<String>,
) -> Result<Envelope<u64>, Problem> {
    let call = shop
        .retry
        .call_wrapped(|| shop.breaker.call(ask(&currency)));
    let rate = call.idempotent().await;
    let down =
        |error| Problem::new(502, "RATES_DOWN", "Rates are not to be had.").with_source(error);
    Ok(Envelope::new(rate.map_err(down)?))
}

async fn place(
    State(shop): State<Shop>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, Problem> {
    let key = Scope::of(["POST /orders"]).key(&KeyRule::default().require(&headers)?);
    let asked = FingerprintRule::of_json(&body);
    let order: Order = parse_json(&body)?;

    let mut tx = shop.writer.begin(Deadline::after(Deadline::SQL)).await?;
    let guard = match shop.keys.begin_in(&mut *tx, &key, &asked).await? {
        Begin::New(guard) => guard,
        Begin::Replay(answer) => {
            let answer = StoredResponse::decode(&answer).map_err(Problem::internal)?;
            let replay = answer.into_replay().ok_or_else(gone)?;
            return Ok(replay.map(Body::from));
        }
        Begin::InFlight { retry_after } => Err(Refusal::in_flight(retry_after))?,
        Begin::Mismatch => Err(Refusal::Mismatch)?,
    };
    let row = sqlx::query("INSERT INTO orders (item, amount) VALUES (?, ?)")
        .bind(&order.item)
        .bind(order.amount.cast_signed());
    let row = row.execute(&mut *tx).await.map_err(Problem::internal)?;
    let id = row.last_insert_rowid();
    let placed = Message::builder("orders", "/shop", "order.placed")
        .key(id.to_be_bytes())
        .json(&order)
        .build()?;
    let told = shop.outbox.append_in(&mut *tx, &placed).await?;
    let options = StartOptions::new().key(id.to_be_bytes());
    let started = shop.sagas.start_in(&mut *tx, &shop.order, &order, options);
    let (_, started) = started.await?;
    let mut answer = Envelope::new(order).render();
    *answer.status_mut() = StatusCode::ACCEPTED;
    let location = format!("/orders/{id}").parse().map_err(Problem::internal)?;
    answer.headers_mut().insert(LOCATION, location);
    let kept = StoredResponse::of(&answer, &ReplayedHeaders::default());
    let done = guard.complete_in(&mut *tx, kept.encode()).await?;
    tx.commit().await?;
    done.and(told).and(started).fire();
    Ok(answer.map(Body::from))
}

fn gone() -> Problem {
    Problem::new(
        410,
        "ANSWER_GONE",
        "This was done before; its answer was not kept.",
    )
}

struct Charge;

impl Step for Charge {
    type Input = Order;
    type Output = String;

    async fn run(&self, context: &Context<'_, Order>) -> Result<String, StepError> {
        let (amount, key) = (context.input().amount, context.idempotency_key());
        println!("charge {amount} under {key}"); // a call to the payment service
        Ok("receipt 1".to_owned())
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let pool = sqlx::SqlitePool::connect_lazy_with(options(folder.path().join("shop.db")));
    let orders = "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, amount INTEGER)";
    sqlx::query(orders).execute(&pool).await?;
    let writer = Writer::new(pool.clone());
    let keys = Keys::new(writer.clone())?;
    keys.migrate().await?;
    let messages = OutboxStore::sqlite(writer.clone())?;
    messages.migrate().await?;
    let journals = Journals::new(pool)?;
    journals.migrate().await?;

    let mut order = Saga::define("order", 1);
    order.step("charge", Charge);
    let shop = Shop {
        writer,
        keys: Idempotency::new(keys),
        outbox: Outbox::new(messages),
        sagas: Sagas::new(journals),
        order: order.build()?,
        breaker: CircuitBreaker::new("rates"),
        retry: Retry::new("rates", RetryPolicy::default()),
    };
    let shipping = in_process(|delivery| async move {
        println!("shipping hears: {:?}", delivery.message());
        Ok(())
    });
    let relay = Relay::builder(&shop.outbox)
        .topic("orders", shipping)
        .build()?;
    let runner = shop.sagas.runner().saga(&shop.order).build()?;

    let clients = KeyedRateLimiter::new("clients", Quota::per_second(20)?)?;
    let client = Client::header(axum::http::HeaderName::from_static("x-api-key"));
    let app = Router::new()
        .route("/orders", post(place))
        .route("/rates/{currency}", get(rate))
        .with_state(shop)
        .layer(HttpRateLimitLayer::new(clients, client))
        .layer(EnvelopeLayer::new());

    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:3000");
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = || async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let serve = async {
        axum::serve(listener, app)
            .with_graceful_shutdown(stop())
            .await
    };
    let (served, (), ()) = tokio::join!(serve, relay.run_until(stop()), runner.run_until(stop()));
    Ok(served?)
}
