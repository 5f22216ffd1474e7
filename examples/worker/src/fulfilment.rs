//! Fulfilling an order: charge, then ship. Both are calls to a service that honours the key it is sent.

use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreaker, MetricsObserver, reqwest::ByReqwest};
use buttress_core::{CallError, Classify as _};
use buttress_saga::{
    Context, DefinitionError, Effect, Saga, Step, StepError, StepPolicy, UndoContext,
};
use http::Method;
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};

/// What a fulfilment begins with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) amount: i64,
}

/// How long a call may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The service behind, and what keeps it from being asked while it is down.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    http: Client,
    base: String,
    breaker: CircuitBreaker,
}

impl Api {
    pub(crate) fn new(base: &str) -> anyhow::Result<Self> {
        Ok(Self {
            http: Client::builder().timeout(ATTEMPT).build()?,
            base: base.trim_end_matches('/').to_owned(),
            breaker: CircuitBreaker::builder("api")
                .observer(MetricsObserver::new())
                .build(),
        })
    }

    /// What keeps the service from being asked while it is down.
    pub(crate) const fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        key: &str,
        order: &Order,
    ) -> Result<(), StepError> {
        let request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .header("idempotency-key", key)
            .json(order);
        match self.breaker.call(request.send()).by(ByReqwest).await {
            Ok(response) => judged(&response),
            Err(CallError::Rejected(rejection)) => {
                let wait = rejection.retry_after().unwrap_or_default();
                Err(StepError::postponed("CIRCUIT_OPEN", wait))
            }
            Err(CallError::Failed(error)) => {
                let verdict = ByReqwest.classify(Err::<&Response, _>(&error));
                Err(StepError::of_class(verdict.class(), "API_UNAVAILABLE")
                    .because(error.without_url()))
            }
        }
    }
}

/// 402 is a verdict about this order. All other failures are the service's.
fn judged(response: &Response) -> Result<(), StepError> {
    match response.status() {
        status if status.is_success() => Ok(()),
        StatusCode::PAYMENT_REQUIRED => Err(StepError::refused("PAYMENT_DECLINED")),
        _ => {
            let verdict = ByReqwest.classify(Ok::<_, &reqwest::Error>(response));
            let error = StepError::of_class(verdict.class(), "API_FAILED");
            Err(match verdict.retry_after() {
                Some(wait) => error.with_retry_after(wait),
                None => error,
            })
        }
    }
}

struct Charge(Option<Api>);

impl Step for Charge {
    type Input = Order;
    type Output = ();

    async fn run(&self, step: &Context<'_, Order>) -> Result<(), StepError> {
        let api = self.0.as_ref().ok_or(NOT_HERE)?;
        api.call(
            Method::POST,
            "/charges",
            &step.idempotency_key(),
            step.input(),
        )
        .await
    }

    /// Also when nobody knows whether it was charged: cancelling a key that was never seen refuses it
    /// later.
    async fn undo(&self, undo: &UndoContext<'_, Order>, _: Effect<()>) -> Result<(), StepError> {
        let api = self.0.as_ref().ok_or(NOT_HERE)?;
        api.call(
            Method::DELETE,
            "/charges",
            &undo.idempotency_key(),
            undo.input(),
        )
        .await
    }
}

struct Ship(Option<Api>);

impl Step for Ship {
    type Input = Order;
    type Output = ();

    async fn run(&self, step: &Context<'_, Order>) -> Result<(), StepError> {
        let api = self.0.as_ref().ok_or(NOT_HERE)?;
        api.call(
            Method::POST,
            "/shipments",
            &step.idempotency_key(),
            step.input(),
        )
        .await
    }
}

/// Who only starts sagas has nobody to call.
const NOT_HERE: StepError = StepError::not_done("NOT_HERE");

/// The steps, for who runs them.
pub(crate) fn saga(api: &Api) -> Result<Saga<Order>, DefinitionError> {
    define(Some(api))
}

/// The same steps, for who starts sagas and runs none.
pub(crate) fn shape() -> Result<Saga<Order>, DefinitionError> {
    define(None)
}

fn define(api: Option<&Api>) -> Result<Saga<Order>, DefinitionError> {
    let mut order = Saga::define("fulfilment", 1);
    let policy = StepPolicy::default()
        .unlimited_attempts()
        .timeout(ATTEMPT * 2);
    order.step_with("charge", Charge(api.cloned()), policy.clone());
    order.pivot();
    order.step_with("ship", Ship(api.cloned()), policy);
    order.build()
}
