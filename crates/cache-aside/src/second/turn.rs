//! One load for a fleet: who has the lease loads, the others wait for what he brings, for a while.
//!
//! It fails open. A store that is away, a lease whose holder has died, and a wait that takes too long end in the same: the
//! caller loads for himself. What is loaded is fenced by tokens, lease or no lease.

use std::{pin::pin, sync::Arc, time::Duration};

use buttress_core::Moment;
use buttress_store::{Gate, Key};

use super::{Find, Second, Wanted};
use crate::{
    EventKind, PolicyError,
    cache::Core,
    store::{CacheStore, FillToken, Leased, LoadClaim},
};

/// The first pause before who waits looks again; it doubles.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// A term has so many beats.
const BEATS: u32 = 3;

/// One load of a key for all instances, by a lease in the second level; see
/// [`SecondLevel::one_load`](crate::SecondLevel::one_load).
///
/// | field | default | allowed |
/// | --- | --- | --- |
/// | `term` | 3 s | 100 ms to 1 min |
/// | `wait` | 5 s | 1 ms to 1 h |
/// | `ceiling` | 30 s | a term to 1 h |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is checked where a level is given it"
)]
pub struct LeasePolicy {
    /// For how long a lease is taken: so long after its holder has died, the next one gets it. While the loader runs it is
    /// taken anew three times a term.
    pub term: Duration,
    /// How long a caller waits for another instance at most, all in all. Then he loads for himself, whatever the store
    /// says, and whether or not it says anything.
    pub wait: Duration,
    /// For how long in all one load keeps its lease: one that hangs does not keep the others away for ever.
    pub ceiling: Duration,
}

impl Default for LeasePolicy {
    fn default() -> Self {
        Self {
            term: Duration::from_secs(3),
            wait: Duration::from_secs(5),
            ceiling: Duration::from_secs(30),
        }
    }
}

impl LeasePolicy {
    pub(super) fn checked(self) -> Result<Self, PolicyError> {
        let hour = Duration::from_secs(3600);
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&self.term) {
            return Err(PolicyError::new("term", "between 100 ms and 1 min"));
        }
        if !(Duration::from_millis(1)..=hour).contains(&self.wait) {
            return Err(PolicyError::new("wait", "between 1 ms and 1 h"));
        }
        if !(self.term..=hour).contains(&self.ceiling) {
            return Err(PolicyError::new("ceiling", "between a term and 1 h"));
        }
        Ok(self)
    }
}

/// What came of waiting for one's turn.
pub(crate) struct Turn<V> {
    pub(crate) find: Find<V>,
    /// The lease, where it is ours. It is given back when this is dropped.
    pub(crate) holding: Option<Holding>,
    /// When the second level was last looked at.
    pub(crate) looked: Moment,
}

impl<V: Clone + Send + Sync + 'static> Second<V> {
    /// Waits while another instance loads this key: until its value is there, or it is our turn, or it has taken too long.
    /// Without leases, at once.
    pub(crate) async fn turn(
        &self,
        core: &Core<V>,
        wanted: Wanted<'_>,
        find: Find<V>,
        looked: Moment,
    ) -> Turn<V> {
        let mut turn = Turn {
            find,
            holding: None,
            looked,
        };
        let Some(policy) = self.lease else {
            return turn;
        };
        let begun = core.clock.now();
        let mut waited = false;
        let waiting = self.wait_for_turn(core, &wanted, &policy, &mut turn, &mut waited);
        // Where it strikes, a lease that was just asked for is given back by its destructor.
        let _in_time = tokio::time::timeout(policy.wait, waiting).await;
        if waited {
            let took = core.clock.now().saturating_since(begun);
            let came = matches!(turn.find, Find::Hit(_));
            self.told.tell(EventKind::WaitedForAnother { took, came });
        }
        turn
    }

    async fn wait_for_turn(
        &self,
        core: &Core<V>,
        wanted: &Wanted<'_>,
        policy: &LeasePolicy,
        turn: &mut Turn<V>,
        waited: &mut bool,
    ) {
        let mut pause = PAUSE;
        while let Find::Miss {
            filling: Some(filling),
            ..
        } = &turn.find
        {
            let mut holding = Holding::new(self, *policy, filling.key.clone(), filling.token);
            match holding.take(self).await {
                Some(Leased::Ours) => {
                    turn.holding = Some(holding);
                    return;
                }
                Some(Leased::Open) | None => return,
                Some(Leased::Taken { left }) => {
                    holding.is_over();
                    *waited = true;
                    // Half of it by chance: the fleet does not look all at once.
                    let pause = pause.mul_f64(rand::random_range(0.5..=1.0));
                    tokio::time::sleep(pause.min(left)).await;
                }
                // It was filled or changed: that is looked at soon, and never in a loop without a pause.
                Some(Leased::Ended) => {
                    holding.is_over();
                    if *waited {
                        tokio::time::sleep(PAUSE).await;
                    }
                    *waited = true;
                }
            }
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            let looked = core.clock.now();
            let found = self.find(core, &[wanted.again()]).await.pop();
            turn.find = found.unwrap_or_else(Find::nothing);
            turn.looked = looked;
        }
    }
}

/// A lease that is held, or may be: it is given back when this is dropped, by a task of its own.
pub(crate) struct Holding {
    store: Arc<dyn CacheStore>,
    gate: Gate,
    policy: LeasePolicy,
    key: Key,
    claim: LoadClaim,
    /// There may be something to give back.
    may_hold: bool,
    /// Nobody is to wait for another who loads it.
    opens: bool,
}

impl Holding {
    fn new<V>(second: &Second<V>, policy: LeasePolicy, key: Key, token: FillToken) -> Self {
        Self {
            store: Arc::clone(&second.store),
            gate: second.gate.clone(),
            policy,
            key,
            claim: LoadClaim::new(token),
            may_hold: false,
            opens: false,
        }
    }

    /// Takes it, for the first time or for another term.
    async fn take<V>(&mut self, second: &Second<V>) -> Option<Leased> {
        // Before the first byte is sent: what is dropped on its way may have been done.
        self.may_hold = true;
        self.ask(second).await
    }

    async fn ask<V>(&self, second: &Second<V>) -> Option<Leased> {
        let (key, claim, term) = (&self.key, &self.claim, self.policy.term);
        let taken = second.run(|deadline| self.store.lease(key, claim, term, deadline));
        taken.await
    }

    /// Runs a load, and takes the lease anew while it runs. No task of its own: a load that nobody polls does not keep
    /// the others away.
    pub(crate) async fn keep<V, T>(&self, second: &Second<V>, load: impl Future<Output = T>) -> T {
        let beats = async {
            loop {
                tokio::time::sleep(self.policy.term / BEATS).await;
                match self.ask(second).await {
                    Some(Leased::Ours) | None => {}
                    // Lost: whoever has it now may have loaded by now. The token says who fills.
                    Some(_) => break,
                }
            }
        };
        // What was taken last stands for a term.
        let beating = self.policy.ceiling.saturating_sub(self.policy.term);
        let beats = async {
            let _over = tokio::time::timeout(beating, beats).await;
            std::future::pending().await
        };
        let (load, beats) = (pin!(load), pin!(beats));
        tokio::select! {
            biased;
            loaded = load => loaded,
            never = beats => never,
        }
    }

    /// What was loaded is there, or its token has ended: there is nothing to give back.
    pub(crate) const fn is_over(&mut self) {
        self.may_hold = false;
    }

    /// What was loaded cannot be shared: to wait for the next who loads it is of no use.
    pub(crate) const fn opens(&mut self) {
        self.opens = true;
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if !self.may_hold {
            return;
        }
        // Without a runtime its term ends it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (store, gate) = (Arc::clone(&self.store), self.gate.clone());
        let (key, claim) = (self.key.clone(), self.claim);
        let open = self.opens.then_some(self.policy.term);
        runtime.spawn(async move {
            // What fails here ends with its term.
            let given_back = gate.run(|deadline| store.let_go(&key, &claim, open, deadline));
            drop(given_back.await);
        });
    }
}
