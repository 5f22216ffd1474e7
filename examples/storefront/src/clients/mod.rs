//! How the shop calls the services behind it: through a retry, a breaker and a time limit.

mod carrier;
mod endpoint;
mod failure;
mod payments;
mod shipments;

use std::time::Duration;

use buttress_circuit_breaker::{BreakerFleet, FleetPolicy, MetricsObserver};
use buttress_core::Registry;

use self::endpoint::{Endpoint, Terms};
pub(crate) use self::{
    carrier::Carrier,
    failure::{CallFailed, Unanswered},
    payments::Payments,
    shipments::Shipments,
};
use crate::{redis::Redis, upstreams::Upstreams};

/// How often instances tell one another what they see: their breakers are open for seconds.
const EXCHANGE: Duration = Duration::from_millis(250);

/// All the services that the shop calls. Made once; clones share breakers, retries and budgets.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) payments: Payments,
    pub(crate) carrier: Carrier,
    pub(crate) shipments: Shipments,
}

impl Clients {
    /// Lists what stands before each service in `registry`, under the service's name.
    pub(crate) fn new(upstreams: &Upstreams, registry: &Registry) -> anyhow::Result<Self> {
        // No proxy: these are our neighbours, whatever the environment says.
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_millis(500))
            .build()?;
        let endpoint = |address, terms| Endpoint::new(&http, address, terms, registry);
        Ok(Self {
            payments: Payments::new(endpoint(upstreams.payments, payments::TERMS)?),
            carrier: Carrier::new(endpoint(upstreams.carrier, carrier::TERMS)?),
            shipments: Shipments::new(endpoint(upstreams.shipments, shipments::TERMS)?),
        })
    }

    /// The breakers, with those of the other instances: a service that most have found to be down
    /// need not be found out by each.
    pub(crate) fn shared_by(
        &self,
        redis: &Redis,
        registry: &Registry,
    ) -> anyhow::Result<BreakerFleet> {
        let fleet = BreakerFleet::builder("storefront", redis.board()?)
            .policy(FleetPolicy::default().interval(EXCHANGE)?)
            .gate(redis.gate.clone())
            .observer(MetricsObserver::new())
            .registry(registry)
            .build()?;
        fleet.add(self.payments.breaker())?;
        fleet.add(self.carrier.breaker())?;
        fleet.add(self.shipments.breaker())?;
        Ok(fleet)
    }
}
