//! A small service whose every error has one shape. Try it:
//!
//! ```text
//! cargo run -p buttress-error-envelope --example orders --features axum,derive,tower
//! curl -i localhost:3000/orders/8
//! curl -i localhost:3000/orders/eight -H 'accept: application/problem+json'
//! curl -i localhost:3000/orders --json '{"quantity": "two"}'
//! curl -i -X DELETE localhost:3000/orders
//! curl -i localhost:3000/panic
//! curl -i localhost:3000/errors
//! ```

use axum::{
    Router,
    response::Html,
    routing::{get, post},
};
use buttress_error_envelope::{
    Catalogue, Envelope, FieldError, FieldErrors, Problem, ProblemCodes, ToProblem,
    axum::{Json, Path},
    tower::EnvelopeLayer,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Order {
    quantity: u32,
}

#[derive(Debug, thiserror::Error, ToProblem)]
#[error("order {0} is not in shard 3")] // for the log
#[problem(
    code = "ORDER_NOT_FOUND",
    status = 404,
    message = "There is no such order."
)]
struct NoSuchOrder(u64);

const CATALOGUE: Catalogue = Catalogue::new(&[NoSuchOrder::CODES, FieldErrors::CODES]);

async fn show(Path(id): Path<u64>) -> Result<Envelope<Order>, Problem> {
    match id {
        7 => Ok(Envelope::new(Order { quantity: 2 })),
        _ => Err(NoSuchOrder(id))?,
    }
}

async fn place(Json(order): Json<Order>) -> Result<(StatusCode, Envelope<Order>), Problem> {
    let mut wrong = FieldErrors::default();
    if order.quantity == 0 {
        wrong.push(FieldError::pointer("/quantity", "must be at least 1"));
    }
    wrong.into_result()?;
    Ok((StatusCode::CREATED, Envelope::new(order)))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt().init();
    let app = Router::new()
        .route("/orders", post(place))
        .route("/orders/{id}", get(show))
        .route("/errors", get(async || Html(CATALOGUE.to_html("Errors"))))
        .route(
            "/panic",
            get(async || -> () { panic!("this is for the log only") }),
        )
        .layer(EnvelopeLayer::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await
}
