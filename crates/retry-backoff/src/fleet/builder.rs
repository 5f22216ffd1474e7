//! Making a fleet.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};

use buttress_core::{Observer, Observers, Registry};
use buttress_store::{
    Gate,
    board::{Board, Member},
};

use super::{BudgetFleet, FleetEvent, Shared};
use crate::PolicyError;

/// Makes a [`BudgetFleet`].
///
/// | what | default | range |
/// | --- | --- | --- |
/// | interval between two exchanges, ±20 % | 1 s | 50 ms to 1 h |
/// | life: what an instance has drawn is forgotten so long after it was last heard | 10 intervals | 3 to 1000 intervals |
/// | deadline of an exchange | 500 ms | the gate's: 1 ms to 1 h |
/// | name | | 1 to 100 characters of ASCII |
#[must_use]
pub struct BudgetFleetBuilder {
    name: Cow<'static, str>,
    board: Arc<dyn Board>,
    gate: Gate,
    interval: Duration,
    lives: u32,
    observers: Observers<FleetEvent>,
    registry: Option<Registry>,
}

impl BudgetFleetBuilder {
    pub(super) fn new(name: Cow<'static, str>, board: Arc<dyn Board>) -> Self {
        Self {
            name,
            board,
            gate: Gate::redis(),
            interval: Duration::from_secs(1),
            lives: 10,
            observers: Observers::none(),
            registry: None,
        }
    }

    /// The time between two exchanges.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// After how many intervals what an instance has drawn is forgotten.
    pub const fn life_in_intervals(mut self, intervals: u32) -> Self {
        self.lives = intervals;
        self
    }

    /// The gate before the board, for another deadline or to share it with others who use the same
    /// server.
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

    /// The fleet, without budgets yet. Nothing is written, and nothing is asked.
    ///
    /// # Errors
    ///
    /// What is out of its range.
    pub fn build(self) -> Result<BudgetFleet, PolicyError> {
        if !self.name.is_ascii() || !(1..=100).contains(&self.name.len()) {
            return Err(PolicyError::new("name", "1 to 100 characters of ASCII"));
        }
        let range = Duration::from_millis(50)..=Duration::from_secs(3600);
        if !range.contains(&self.interval) {
            return Err(PolicyError::new("interval", "from 50 ms to an hour"));
        }
        if !(3..=1000).contains(&self.lives) {
            return Err(PolicyError::new("life_in_intervals", "from 3 to 1000"));
        }
        let shared = Arc::new(Shared {
            name: self.name,
            board: self.board,
            gate: self.gate,
            member: Member::random(),
            interval: self.interval,
            life: self.interval.saturating_mul(self.lives),
            observers: self.observers,
            desks: Mutex::default(),
            alone: AtomicBool::new(true),
            members: AtomicUsize::new(0),
        });
        if let Some(registry) = self.registry {
            registry.add(&shared);
        }
        Ok(BudgetFleet { shared })
    }
}

impl fmt::Debug for BudgetFleetBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetFleetBuilder")
            .field("name", &self.name)
            .field("interval", &self.interval)
            .field("lives", &self.lives)
            .finish_non_exhaustive()
    }
}
