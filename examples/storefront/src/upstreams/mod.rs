//! The services behind the shop: separate listeners in the same process, reached over real HTTP.
//!
//! They stand in for what other teams run. Each honours the idempotency key it is sent, and
//! cancelling a key that it has never seen leaves a mark that refuses it later.

mod carrier;
mod fault;
mod listener;
mod payments;
mod shipments;
mod subscriber;

use std::{net::SocketAddr, sync::Arc};

pub(crate) use buttress_idempotency::http::IDEMPOTENCY_KEY;
use buttress_idempotency::http::KeyRule;
use buttress_outbox::webhook::Secret;
use http::{HeaderMap, StatusCode};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{
    carrier::{Quote, QuoteRequest},
    fault::{Fault, FaultMode, FaultSwitches, FaultTarget},
    payments::{ChargeAnswer, ChargeRequest},
    shipments::{ShipmentAnswer, ShipmentRequest},
    subscriber::PATH as SUBSCRIBER_PATH,
};
use crate::repository::Database;

/// The key in the header, quoted or bare. What was done under it is a row of its service's own,
/// for ever, and a later cancellation changes that row: so no answer is kept beside it.
fn key_of(headers: &HeaderMap) -> Result<String, StatusCode> {
    let key = KeyRule::default().require(headers);
    let key = key.map_err(|_| StatusCode::BAD_REQUEST)?;
    String::from_utf8(key.as_bytes().to_vec()).map_err(|_| StatusCode::BAD_REQUEST)
}

/// Where the services listen, and what goes wrong with them.
#[derive(Clone, Debug)]
pub(crate) struct Upstreams {
    pub(crate) payments: SocketAddr,
    pub(crate) carrier: SocketAddr,
    pub(crate) shipments: SocketAddr,
    pub(crate) subscriber: SocketAddr,
    pub(crate) faults: Arc<FaultSwitches>,
}

impl Upstreams {
    /// Starts all of them on free ports of the loopback; they stop with `stop`. The subscriber
    /// believes what is signed with `secret`.
    pub(crate) async fn start(
        database: &Database,
        secret: Secret,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Self> {
        let faults = Arc::new(FaultSwitches::default());
        let listen = |target, router| {
            listener::listen(
                router,
                Arc::clone(faults.of(target)),
                stop.clone(),
                tasks.clone(),
            )
        };
        Ok(Self {
            payments: listen(
                FaultTarget::Payments,
                payments::router(Arc::clone(database)),
            )
            .await?,
            carrier: listen(FaultTarget::Carrier, carrier::router()).await?,
            shipments: listen(
                FaultTarget::Shipments,
                shipments::router(Arc::clone(database)),
            )
            .await?,
            subscriber: listen(
                FaultTarget::Subscriber,
                subscriber::router(database, secret)?,
            )
            .await?,
            faults,
        })
    }
}
