//! Budgets that the instances of a fleet spend together, counted in the background.

mod builder;
mod event;
mod wire;

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Observers, Registered};
use buttress_store::{
    Gate, Key, StoreError,
    board::{Board, Member, Seat},
};
use rand::RngExt as _;
use tokio::time::sleep;

pub use self::{
    builder::BudgetFleetBuilder,
    event::{FleetEvent, FleetEventKind},
};
use crate::{
    Budget, PolicyError,
    budget::{Drawn, Pooled},
};

/// Budgets that are spent together with those of the same name and rule in other instances, over a
/// [`Board`] such as Redis. Cheap to clone; clones are the same member.
///
/// Each instance says what it has drawn and hears the others, once in an interval, in the
/// background: a call neither waits for the board nor knows of it. In between each spends no more
/// than its part of what was left, one retry at least. So `n` instances that have heard of one
/// another spend at most twice the budget and `n` retries, not `n` budgets, whatever they do
/// between two exchanges.
///
/// Without the board each goes on with its own share: what is always there is divided by the number
/// of instances that were heard last, and what its own calls bring in is its own.
///
/// ```
/// use buttress_retry_backoff::{Budget, BudgetFleet, BudgetRule};
/// use buttress_store::board::MemoryBoard;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let budget = Budget::new(BudgetRule::tokens())?;
/// let board = MemoryBoard::new(); // or RedisBoard::new(connection)
/// let fleet = BudgetFleet::new("shop", board)?;
/// fleet.add("payments", &budget)?;
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
pub struct BudgetFleet {
    shared: Arc<Shared>,
}

struct Shared {
    name: Cow<'static, str>,
    board: Arc<dyn Board>,
    gate: Gate,
    member: Member,
    interval: Duration,
    life: Duration,
    observers: Observers<FleetEvent>,
    desks: Mutex<Vec<Arc<Desk>>>,
    alone: AtomicBool,
    members: AtomicUsize,
}

/// One budget of it.
struct Desk {
    budget: Pooled,
    seat: Seat,
}

impl BudgetFleet {
    /// A fleet of that name, which exchanges each second. Instances with the same name on the same
    /// board are one fleet. Nothing is written.
    ///
    /// # Errors
    ///
    /// As [`BudgetFleetBuilder::build`].
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
    ) -> BudgetFleetBuilder {
        BudgetFleetBuilder::new(name.into(), Arc::new(board))
    }

    /// Takes a budget in: from the next round on it is spent together with all of this name that
    /// follow the same rule with the same numbers. Others of the name are another budget: while a
    /// new rule is rolled out there are two. Once all handles of it are dropped it is forgotten.
    ///
    /// # Errors
    ///
    /// When it is of a fleet already, when another one here has its name and rule, or when the name
    /// is not 1 to 100 bytes.
    pub fn add(&self, name: &str, budget: &Budget) -> Result<(), PolicyError> {
        let shared = &*self.shared;
        let refuse = || PolicyError::new("name", "1 to 100 bytes");
        if !(1..=100).contains(&name.len()) {
            return Err(refuse());
        }
        let page = format!("budget:{}:{name}:{:016x}", shared.name, budget.mark());
        let page = Key::new(page).map_err(|_| refuse())?;
        let mut desks = shared.desks();
        let takes = |desk: &Arc<Desk>| desk.budget.is_held() && *desk.seat.page() == page;
        if desks.iter().any(takes) {
            return Err(PolicyError::new(
                "name",
                "another than that of one which is in the fleet already",
            ));
        }
        let Some(pooled) = budget.pool() else {
            return Err(PolicyError::new("budget", "of one fleet, and that once"));
        };
        let seat = Seat::new(
            Arc::clone(&shared.board),
            shared.gate.clone(),
            page,
            shared.member,
            shared.life,
            budget.clock().clone(),
        );
        let desk = Desk {
            budget: pooled,
            seat,
        };
        desks.push(Arc::new(desk));
        Ok(())
    }

    /// One round: each budget says what was drawn here and hears what the others have drawn. It
    /// takes one round trip for each, and no longer than the gate's deadline for all where the
    /// board does not answer.
    ///
    /// Dropping the future leaves some told and others not; the next round makes up for it.
    ///
    /// # Errors
    ///
    /// The first that the board gave. Nothing has to be done about it: each goes on with its part.
    pub async fn run_once(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let desks = {
            let mut desks = shared.desks();
            desks.retain(|desk| desk.budget.is_held());
            desks.clone()
        };
        let (mut first, mut away, mut most) = (None, false, 0);
        for desk in desks {
            if away {
                // Whoever asks next would wait in vain as well.
                desk.budget.be_alone();
                continue;
            }
            let mut said = None;
            let says = |_| {
                said = desk.budget.drawn();
                said.map(wire::written)
            };
            match desk.seat.exchange(says).await {
                Ok(heard) => {
                    let others = heard.others.iter().filter_map(|it| wire::read(&it.body));
                    let others: Vec<Drawn> = others.collect();
                    most = most.max(others.len() + 1);
                    desk.budget.heard(&others, said.filter(|_| heard.pinned));
                }
                Err(error) => {
                    desk.budget.be_alone();
                    away = error.kind().is_away();
                    first.get_or_insert(error);
                }
            }
        }
        shared.members.store(most, Relaxed);
        shared.ended(first.as_ref());
        first.map_or(Ok(()), Err)
    }

    /// A round after each interval, until `shutdown` is ready. What was drawn here counts for the
    /// others for its life, for it was drawn. It never ends by itself.
    ///
    /// Dropping the future stops it as `shutdown` does. A budget that is used on without it spends
    /// what it had left of its part, and no more.
    pub async fn run_until(&self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = shutdown => {}
            () = self.run() => {}
        }
        for desk in &*self.shared.desks() {
            desk.budget.be_alone();
        }
    }

    async fn run(&self) {
        loop {
            // Its errors are told as events.
            let _ended = self.run_once().await;
            // Instances that were started together part.
            let percent = rand::rng().random_range(80..=120);
            sleep(self.shared.interval.saturating_mul(percent) / 100).await;
        }
    }

    /// Whether the last round went without an answer, or there was none yet.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.shared.alone.load(Relaxed)
    }

    /// How many instances were heard in the last round, this one among them; 0 when none was.
    #[must_use]
    pub fn members(&self) -> usize {
        self.shared.members.load(Relaxed)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }
}

impl Shared {
    fn desks(&self) -> MutexGuard<'_, Vec<Arc<Desk>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, error: Option<&StoreError>) {
        let name = &self.name;
        match (error, self.alone.swap(error.is_some(), Relaxed)) {
            (Some(error), false) => {
                tracing::warn!(%name, %error, "a fleet's board failed; each budget goes on alone");
            }
            (None, true) => tracing::info!(%name, "a fleet's board answers"),
            _ => {}
        }
        self.observers.tell(|| FleetEvent {
            fleet: self.name.clone(),
            kind: match error {
                None => FleetEventKind::Exchanged,
                Some(error) => FleetEventKind::Failed { kind: error.kind() },
            },
        });
    }
}

impl Registered for Shared {
    fn pattern(&self) -> &'static str {
        "retry_backoff"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> &'static str {
        match self.alone.load(Relaxed) {
            false => "shared",
            true => "alone",
        }
    }

    fn gauges(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let members = self.members.load(Relaxed);
        each(
            "buttress_retry_backoff_fleet_members",
            u64::try_from(members).unwrap_or(u64::MAX),
        );
        let alone = u64::from(self.alone.load(Relaxed));
        each("buttress_retry_backoff_fleet_alone", alone);
    }
}

impl fmt::Debug for BudgetFleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetFleet")
            .field("name", &self.shared.name)
            .field("budgets", &self.shared.desks().len())
            .field("alone", &self.is_alone())
            .finish_non_exhaustive()
    }
}
