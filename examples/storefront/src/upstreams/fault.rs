//! What goes wrong on purpose.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use serde::Deserialize;
use strum::EnumCount;

/// A service behind the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, EnumCount)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultTarget {
    Payments,
    Carrier,
    Shipments,
    Subscriber,
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultMode {
    /// It does not.
    Ok,
    /// It fails before its effect.
    Error,
    /// It waits, and then works, also when the caller has gone.
    Slow,
    /// It works, and never answers.
    Hang,
    /// It works, and the connection is cut without an answer.
    Lost,
}

/// How often, and how, the calls of one service go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) mode: FaultMode,
    /// The share of calls, from 0 to 1.
    pub(crate) rate: f64,
    /// For [`FaultMode::Slow`].
    pub(crate) latency: Duration,
}

impl Fault {
    const NONE: Self = Self {
        mode: FaultMode::Ok,
        rate: 0.0,
        latency: Duration::ZERO,
    };
}

/// The fault of one service, which can be changed while it serves.
#[derive(Debug)]
pub(crate) struct FaultSwitch {
    fault: RwLock<Fault>,
}

impl FaultSwitch {
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.write().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// What becomes of one call: draws by the rate.
    pub(super) fn draw(&self) -> (FaultMode, Duration) {
        let fault = *self.fault.read().unwrap_or_else(PoisonError::into_inner);
        if fault.rate > 0.0 && rand::random::<f64>() < fault.rate {
            (fault.mode, fault.latency)
        } else {
            (FaultMode::Ok, Duration::ZERO)
        }
    }
}

/// One switch a service.
#[derive(Debug)]
pub(crate) struct FaultSwitches([Arc<FaultSwitch>; FaultTarget::COUNT]);

impl Default for FaultSwitches {
    fn default() -> Self {
        Self(std::array::from_fn(|_| {
            Arc::new(FaultSwitch {
                fault: RwLock::new(Fault::NONE),
            })
        }))
    }
}

impl FaultSwitches {
    pub(crate) fn of(&self, target: FaultTarget) -> &Arc<FaultSwitch> {
        &self.0[target as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_one_hits_every_call_and_a_rate_of_zero_none() {
        let switches = FaultSwitches::default();
        let switch = switches.of(FaultTarget::Carrier);
        let lost = |rate| Fault {
            mode: FaultMode::Lost,
            rate,
            latency: Duration::ZERO,
        };
        switch.set(lost(1.0));
        assert!((0..1000).all(|_| switch.draw().0 == FaultMode::Lost));
        switch.set(lost(0.0));
        assert!((0..1000).all(|_| switch.draw().0 == FaultMode::Ok));
        assert_eq!(switches.of(FaultTarget::Payments).draw().0, FaultMode::Ok);
    }
}
