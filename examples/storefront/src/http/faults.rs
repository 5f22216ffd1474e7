//! `/faults`: what goes wrong with the services behind the shop, for demonstrations and tests.

use std::time::Duration;

use axum::{body::Body, extract::State};
use buttress_error_envelope::Problem;
use garde::Validate;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{Shop, body};
use crate::upstreams::{Fault, FaultMode, FaultTarget};

#[derive(Debug, Deserialize, Validate)]
struct FaultBody {
    #[garde(skip)]
    target: FaultTarget,
    #[garde(skip)]
    mode: FaultMode,
    #[garde(range(min = 0.0, max = 1.0))]
    #[serde(default = "always")]
    rate: f64,
    #[garde(range(max = 60_000))]
    #[serde(default)]
    latency_ms: u64,
    #[garde(skip)]
    #[serde(flatten)]
    _by_name: body::ByName,
}

const fn always() -> f64 {
    1.0
}

pub(super) async fn set(
    State(shop): State<Shop>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let body: FaultBody = body::read_json(&headers, body).await?;
    if let Some(faults) = &shop.faults {
        let latency = Duration::from_millis(body.latency_ms);
        faults.of(body.target).set(Fault {
            mode: body.mode,
            rate: body.rate,
            latency,
        });
    }
    Ok(StatusCode::NO_CONTENT)
}
