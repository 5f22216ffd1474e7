//! How the shop calls the services behind it: one attempt each, bounded in time, judged.
//!
//! Trying again and pausing calls are not done here: a retry and a breaker wrap these calls.

mod carrier;
mod payments;
mod shipments;

use std::{borrow::Cow, net::SocketAddr, time::Duration};

use buttress_core::{Fault, Verdict};
use serde::de::DeserializeOwned;

pub(crate) use self::{carrier::Carrier, payments::Payments, shipments::Shipments};
use crate::upstreams::Upstreams;

/// All the services that the shop calls.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) payments: Payments,
    pub(crate) carrier: Carrier,
    pub(crate) shipments: Shipments,
}

impl Clients {
    pub(crate) fn new(upstreams: &Upstreams) -> Result<Self, reqwest::Error> {
        // No proxy: these are our neighbours, whatever the environment says.
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(1))
            .build()?;
        Ok(Self {
            payments: Payments::new(Endpoint::new(&http, upstreams.payments)),
            carrier: Carrier::new(Endpoint::new(&http, upstreams.carrier)),
            shipments: Shipments::new(Endpoint::new(&http, upstreams.shipments)),
        })
    }
}

/// Where a service is, and what to call it with.
#[derive(Clone, Debug)]
struct Endpoint {
    http: reqwest::Client,
    base: String,
}

impl Endpoint {
    fn new(http: &reqwest::Client, address: SocketAddr) -> Self {
        Self {
            http: http.clone(),
            base: format!("http://{address}"),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// A call to a service behind the shop that gave no answer one can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallFailed {
    /// It said that it cannot, before it did anything.
    #[error("the service answered with an error")]
    Refused,
    /// The connection could not be made.
    #[error("the service could not be reached")]
    Unreachable,
    /// The answer did not come in time; it may have been done.
    #[error("the service did not answer in time")]
    TimedOut,
    /// The connection went, or the answer made no sense; it may have been done.
    #[error("the service's answer was lost")]
    Lost,
}

impl CallFailed {
    /// For a breaker and a retry.
    pub(crate) const fn verdict(self) -> Verdict {
        match self {
            Self::Refused | Self::Unreachable => Verdict::not_done(),
            Self::TimedOut | Self::Lost => Verdict::unknown(),
        }
    }
}

impl Fault for CallFailed {
    fn code(&self) -> &'static str {
        if *self == Self::TimedOut {
            "UPSTREAM_TIMEOUT"
        } else {
            "UPSTREAM_FAILED"
        }
    }

    fn status(&self) -> u16 {
        if *self == Self::TimedOut { 504 } else { 502 }
    }

    fn public_message(&self) -> Cow<'_, str> {
        match self {
            Self::TimedOut => "A service behind the shop did not answer in time.".into(),
            _ => "A service behind the shop failed.".into(),
        }
    }
}

/// Sends one request and reads a JSON answer, within `limit` altogether.
async fn ask<T: DeserializeOwned>(
    request: reqwest::RequestBuilder,
    limit: Duration,
) -> Result<T, CallFailed> {
    let response = send(request, limit).await?;
    response.json().await.map_err(|error| {
        if error.is_timeout() {
            CallFailed::TimedOut
        } else {
            CallFailed::Lost
        }
    })
}

/// Sends one request for the sake of its effect; the limit covers the answer's body as well.
async fn send(
    request: reqwest::RequestBuilder,
    limit: Duration,
) -> Result<reqwest::Response, CallFailed> {
    let sent = request.timeout(limit).send().await;
    let response = sent.map_err(|error| {
        if error.is_connect() {
            CallFailed::Unreachable
        } else if error.is_timeout() {
            CallFailed::TimedOut
        } else {
            CallFailed::Lost
        }
    })?;
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(CallFailed::Refused)
    }
}
