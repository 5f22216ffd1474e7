//! Whether the process lives, and whether it can serve.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::extract::State;
use buttress_error_envelope::{Envelope, Problem};
use serde::Serialize;

use super::{Shop, refusal::Refusal};
use crate::nats::Nats;

/// How long the database may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
pub(super) struct Status {
    status: &'static str,
    /// What is away, and done without.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<Vec<&'static str>>,
}

/// Taken back when the service is about to stop, before it stops accepting.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness {
    draining: Arc<AtomicBool>,
}

impl Readiness {
    pub(crate) fn take_back(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

pub(super) async fn alive() -> Envelope<Status> {
    Envelope::new(Status {
        status: "alive",
        degraded: None,
    })
}

pub(super) async fn ready(State(shop): State<Shop>) -> Result<Envelope<Status>, Problem> {
    if shop.readiness.draining.load(Ordering::Relaxed) {
        return Err(Refusal::NotReady.into());
    }
    let asked = tokio::time::timeout(PATIENCE, shop.database.ping());
    let (asked, degraded) = tokio::join!(asked, degraded(&shop));
    match asked {
        Ok(Ok(())) => Ok(Envelope::new(Status {
            status: "ready",
            degraded: Some(degraded),
        })),
        Ok(Err(error)) => Err(Problem::from(Refusal::NotReady).with_source(error)),
        Err(_) => Err(Refusal::NotReady.into()),
    }
}

/// What the shop does without just now.
async fn degraded(shop: &Shop) -> Vec<&'static str> {
    let mut degraded = Vec::new();
    if shop.nats.as_ref().is_some_and(Nats::is_away) {
        degraded.push("nats");
    }
    if let Some(redis) = &shop.redis
        && redis.is_away().await
    {
        degraded.push("redis");
    }
    degraded
}
