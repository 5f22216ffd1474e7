//! Making a fleet.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use buttress_core::{Observer, Observers, Registry};
use buttress_store::{
    Gate,
    board::{Board, Member},
};
use tokio::sync::Notify;

use super::{BreakerFleet, FleetEvent, FleetPolicy, Shared};
use crate::{PolicyError, chance::Chance};

/// Makes a [`BreakerFleet`].
///
/// | what | default | range |
/// | --- | --- | --- |
/// | policy | [`FleetPolicy::default`] | its table |
/// | deadline of an exchange | 500 ms | the gate's: 1 ms to 1 h |
/// | name | | 1 to 100 characters of ASCII |
#[must_use]
pub struct BreakerFleetBuilder {
    name: Cow<'static, str>,
    board: Arc<dyn Board>,
    gate: Gate,
    policy: FleetPolicy,
    observers: Observers<FleetEvent>,
    registry: Option<Registry>,
}

impl BreakerFleetBuilder {
    pub(super) fn new(name: Cow<'static, str>, board: Arc<dyn Board>) -> Self {
        Self {
            name,
            board,
            gate: Gate::redis(),
            policy: FleetPolicy::default(),
            observers: Observers::none(),
            registry: None,
        }
    }

    /// How the fleet agrees.
    pub const fn policy(mut self, policy: FleetPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The gate before the board, for another deadline or to share it with others who use the same
    /// server. What arrives there may be twice its deadline old.
    pub fn gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// One more who hears what happens.
    pub fn observer(mut self, observer: impl Observer<FleetEvent> + 'static) -> Self {
        self.observers = self.observers.with(observer);
        self
    }

    /// Lists it there, as long as it lives.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// The fleet, without breakers yet. Nothing is written, and nothing is asked.
    ///
    /// # Errors
    ///
    /// When the name is not 1 to 100 characters of ASCII.
    pub fn build(self) -> Result<BreakerFleet, PolicyError> {
        if !self.name.is_ascii() || !(1..=100).contains(&self.name.len()) {
            return Err(PolicyError::new("name", "1 to 100 characters of ASCII"));
        }
        let shared = Arc::new(Shared {
            name: self.name,
            board: self.board,
            gate: self.gate,
            member: Member::random(),
            policy: self.policy,
            observers: self.observers,
            desks: Mutex::default(),
            bell: Arc::new(Notify::new()),
            down: AtomicBool::new(false),
            members: AtomicUsize::new(0),
            chance: Chance::default(),
        });
        if let Some(registry) = self.registry {
            registry.add(&shared);
        }
        Ok(BreakerFleet { shared })
    }
}

impl fmt::Debug for BreakerFleetBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerFleetBuilder")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
