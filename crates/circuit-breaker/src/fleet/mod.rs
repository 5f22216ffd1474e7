//! Breakers of several instances that share opinions, in the background.

mod builder;
mod desk;
mod event;
mod policy;
mod wire;

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use buttress_core::{Observers, Registered};
use buttress_store::{
    Gate, Key, StoreError,
    board::{Board, Member, Seat},
};
use tokio::{sync::Notify, time::sleep};

use self::desk::Desk;
pub use self::{
    builder::BreakerFleetBuilder,
    event::{FleetEvent, FleetEventKind},
    policy::FleetPolicy,
};
use crate::{CircuitBreaker, PolicyError, chance::Chance, machine::fleet::Agreement};

/// Breakers that share opinions with those of the same name in other instances, over a
/// [`Board`] such as Redis. Cheap to clone; clones are the same member.
///
/// Each instance pins what it has seen itself, and reads the others, once in an interval, in the
/// background: a call neither waits for the board nor knows of it. When enough instances are open
/// by what they saw, so is this one, for as long as they are; when they are well again, it may try
/// at once. It then finds out by its own probes. One instance that is bad by itself opens no other.
/// Without the board, each goes on by itself.
///
/// ```
/// use buttress_circuit_breaker::{BreakerFleet, CircuitBreaker};
/// use buttress_store::board::MemoryBoard;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let payments = CircuitBreaker::new("payments");
/// let board = MemoryBoard::new(); // or RedisBoard::new(connection)
/// let fleet = BreakerFleet::new("shop", board)?;
/// fleet.add(&payments)?;
/// # let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let sharing = tokio::spawn({
///     let fleet = fleet.clone();
///     async move { fleet.run_until(async { let _ = stopped.await; }).await }
/// });
/// # stop.send(()).ok();
/// # sharing.await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct BreakerFleet {
    shared: Arc<Shared>,
}

struct Shared {
    name: Cow<'static, str>,
    board: Arc<dyn Board>,
    gate: Gate,
    member: Member,
    policy: FleetPolicy,
    observers: Observers<FleetEvent>,
    desks: Mutex<Vec<Arc<Desk>>>,
    /// Rings when a breaker of it changes its state.
    bell: Arc<Notify>,
    down: AtomicBool,
    members: AtomicUsize,
    chance: Chance,
}

/// What this instance last heard about one breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetView {
    /// The breaker's name.
    pub name: Cow<'static, str>,
    /// Its key, when it is one of `CircuitBreakers`.
    pub key: Option<Arc<str>>,
    /// How many instances were heard, this one among them; 0 before the first exchange.
    pub members: usize,
    /// How many of them have something to say.
    pub voters: u32,
    /// How many of those have opened by what they saw themselves.
    pub open: u32,
    /// How many of those see failures, of too few calls to open by.
    pub failing: u32,
}

impl BreakerFleet {
    /// A fleet of that name, with the default [`FleetPolicy`]. Instances with the same name on the
    /// same board are one fleet. Nothing is written.
    ///
    /// # Errors
    ///
    /// As [`BreakerFleetBuilder::build`].
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        board: impl Board + 'static,
    ) -> Result<Self, PolicyError> {
        Self::builder(name, board).build()
    }

    /// To choose more.
    pub fn builder(
        name: impl Into<Cow<'static, str>>,
        board: impl Board + 'static,
    ) -> BreakerFleetBuilder {
        BreakerFleetBuilder::new(name.into(), Arc::new(board))
    }

    /// Takes a breaker in: from the next round on it shares opinions with all of its name and key.
    /// Only a closed one is ever opened; one that was put into a state by hand is left alone. Once
    /// all handles of it are dropped, it is forgotten.
    ///
    /// # Errors
    ///
    /// When it is of a fleet already, when another one here has its name and key, or when these are
    /// longer than 150 bytes together or empty.
    pub fn add(&self, breaker: &CircuitBreaker) -> Result<(), PolicyError> {
        let core = breaker.core();
        let shared = &*self.shared;
        let key = core.key.as_deref();
        let length = core.name.len() + key.map_or(0, str::len);
        if !(1..=150).contains(&length) {
            return Err(PolicyError::new(
                "breaker.name",
                "1 to 150 bytes, with its key",
            ));
        }
        let mut page = format!("{}:{}", shared.name, core.name);
        if let Some(key) = key {
            // A name with a colon in it must not meet another name's key.
            page.push('\n');
            page.push_str(key);
        }
        let page =
            Key::new(page).map_err(|_| PolicyError::new("breaker.name", "1 to 150 bytes"))?;
        let refuse = || PolicyError::new("breaker", "of one fleet, and that once");
        if core.fleet.get().is_some() {
            return Err(refuse());
        }
        let mut desks = shared.desks();
        let takes = |desk: &Arc<Desk>| desk.breaker.strong_count() > 0 && *desk.seat.page() == page;
        if desks.iter().any(takes) {
            return Err(PolicyError::new(
                "breaker.name",
                "another than that of one which is in the fleet already",
            ));
        }
        if core.fleet.set(Arc::clone(&shared.bell)).is_err() {
            return Err(refuse());
        }
        let seat = Seat::new(
            Arc::clone(&shared.board),
            shared.gate.clone(),
            page,
            shared.member,
            shared.policy.life(),
            core.clock.clone(),
        );
        desks.push(Arc::new(Desk::new(core, seat)));
        Ok(())
    }

    /// One round: each breaker says what it sees, hears the others, and does what follows. It takes
    /// one round trip for each, and no longer than the gate's deadline for all where the board does
    /// not answer.
    ///
    /// Dropping the future leaves some told and others not; the next round makes up for it.
    ///
    /// # Errors
    ///
    /// The first that the board gave. Nothing has to be done about it: the breakers go on alone.
    pub async fn run_once(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let mut first = None;
        let desks: Vec<_> = {
            let mut desks = shared.desks();
            desks.retain(|desk| desk.breaker.strong_count() > 0);
            desks.clone()
        };
        for desk in desks {
            let agreement = shared.agreement(&desk);
            match desk.exchange(&agreement).await {
                Ok(None) => {}
                Ok(Some(kind)) => shared.tell(kind),
                Err(error) => {
                    let kind = error.kind();
                    first.get_or_insert(error);
                    if kind.is_away() {
                        break;
                    }
                }
            }
        }
        let members = self.views().iter().map(|it| it.members).max();
        shared.members.store(members.unwrap_or(0), Relaxed);
        shared.ended(first.as_ref());
        first.map_or(Ok(()), Err)
    }

    /// A round after each interval, and soon after a breaker's state has changed, until `shutdown`
    /// is ready; then takes down what this instance has said. It never ends by itself.
    ///
    /// Dropping the future stops it at once; what was said fades.
    pub async fn run_until(&self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = shutdown => {}
            () = self.run() => {}
        }
        let desks = self.shared.desks().clone();
        for desk in desks {
            if desk
                .seat
                .leave()
                .await
                .is_err_and(|error| error.kind().is_away())
            {
                break;
            }
        }
    }

    async fn run(&self) {
        let interval = self.shared.policy.interval;
        loop {
            // Its errors are told as events.
            let _ended = self.run_once().await;
            // Instances that were started together part.
            let part = u32::try_from(self.shared.chance.next() % 41).unwrap_or(20);
            let pause = interval.saturating_mul(80 + part) / 100;
            let least = interval / 10;
            sleep(least).await;
            tokio::select! {
                () = self.shared.bell.notified() => {}
                () = sleep(pause.saturating_sub(least)) => {}
            }
        }
    }

    /// What was last heard about each breaker.
    #[must_use]
    pub fn views(&self) -> Vec<FleetView> {
        let desks = self.shared.desks().clone();
        desks.iter().filter_map(|desk| desk.view()).collect()
    }

    /// Whether the last round went without an answer: each instance is alone then.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.shared.down.load(Relaxed)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The policy it goes by.
    #[must_use]
    pub fn policy(&self) -> FleetPolicy {
        self.shared.policy
    }
}

impl Shared {
    fn desks(&self) -> MutexGuard<'_, Vec<Arc<Desk>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn agreement(&self, desk: &Desk) -> Agreement {
        let limits = desk.breaker.upgrade().map(|core| core.cell.limits().get());
        Agreement {
            share: self.policy.share,
            at_least: self.policy.at_least,
            minimum_calls: limits.map_or(u64::MAX, |it| it.minimum_calls.into()),
            slack: desk.seat.slack(),
            fresh: self.policy.life(),
            longest: self.policy.longest,
        }
    }

    fn ended(&self, error: Option<&StoreError>) {
        let name = &self.name;
        match (error, self.down.swap(error.is_some(), Relaxed)) {
            (Some(error), false) => {
                tracing::warn!(%name, %error, "a fleet's board failed; each breaker goes on alone");
            }
            (None, true) => tracing::info!(%name, "a fleet's board answers again"),
            _ => {}
        }
        self.tell(match error {
            None => FleetEventKind::Exchanged,
            Some(error) => FleetEventKind::Failed { kind: error.kind() },
        });
    }

    fn tell(&self, kind: FleetEventKind) {
        self.observers.tell(|| FleetEvent {
            fleet: self.name.clone(),
            kind,
        });
    }
}

impl Registered for Shared {
    fn pattern(&self) -> &'static str {
        "circuit_breaker"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> &'static str {
        match self.down.load(Relaxed) {
            false => "shared",
            true => "alone",
        }
    }

    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let members = self.members.load(Relaxed);
        each(
            "buttress_circuit_breaker_fleet_members",
            u64::try_from(members).unwrap_or(u64::MAX),
        );
        let down = u64::from(self.down.load(Relaxed));
        each("buttress_circuit_breaker_fleet_alone", down);
    }
}

impl fmt::Debug for BreakerFleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerFleet")
            .field("name", &self.shared.name)
            .field("policy", &self.shared.policy)
            .field("breakers", &self.shared.desks().len())
            .field("alone", &self.is_alone())
            .finish_non_exhaustive()
    }
}
