//! Whatever strikes whichever operation of a load under a lease: everybody gets his value in bounded time, and nobody one
//! of before an invalidation.

use buttress_cache_aside::LeasePolicy;
use buttress_testkit::fault::{Fault, Injected, Plan, fault_sweep};

use super::{
    lease::{MILLISECOND, instance},
    *,
};

#[derive(Debug)]
struct Faulty {
    store: Arc<MemoryStore>,
    plan: Plan<StoreError>,
}

#[async_trait]
impl CacheStore for Faulty {
    async fn read(
        &self,
        keys: &[Key],
        watch: Option<Watch<'_>>,
        deadline: Deadline,
    ) -> Result<Reading, StoreError> {
        let read = self.store.read(keys, watch, deadline);
        let read = self.plan.around("read", read);
        deadline.run(Phase::Read, read).await
    }

    async fn claim(&self, keys: &[Key], deadline: Deadline) -> Result<Vec<Missed>, StoreError> {
        let claim = self.store.claim(keys, deadline);
        let claim = self.plan.around("claim", claim);
        deadline.run(Phase::Read, claim).await
    }

    async fn marks(&self, watch: Watch<'_>, deadline: Deadline) -> Result<Marks, StoreError> {
        self.store.marks(watch, deadline).await
    }

    async fn fill(
        &self,
        key: &Key,
        token: &FillToken,
        record: Record<'_>,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        let fill = self.store.fill(key, token, record, deadline);
        let fill = self.plan.around("fill", fill);
        deadline.run(Phase::Statement, fill).await
    }

    async fn take_over(&self, key: &Key, deadline: Deadline) -> Result<FillToken, StoreError> {
        self.store.take_over(key, deadline).await
    }

    async fn invalidate(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        self.store.invalidate(keys, deadline).await
    }

    async fn expire(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        self.store.expire(keys, deadline).await
    }

    async fn mark(
        &self,
        space: &Key,
        what: Marked<'_>,
        deadline: Deadline,
    ) -> Result<Stamp, StoreError> {
        self.store.mark(space, what, deadline).await
    }

    async fn lease(
        &self,
        key: &Key,
        claim: &LoadClaim,
        term: Duration,
        deadline: Deadline,
    ) -> Result<Leased, StoreError> {
        let lease = self.store.lease(key, claim, term, deadline);
        let lease = self.plan.around("lease", lease);
        deadline.run(Phase::Statement, lease).await
    }

    async fn let_go(
        &self,
        key: &Key,
        claim: &LoadClaim,
        open: Option<Duration>,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let let_go = self.store.let_go(key, claim, open, deadline);
        let let_go = self.plan.around("let go", let_go);
        deadline.run(Phase::Statement, let_go).await
    }
}

fn lost(injected: Injected) -> StoreError {
    let phase = match injected.may_have_been_done() {
        true => Phase::Statement,
        false => Phase::Connect,
    };
    StoreError::new(StoreErrorKind::Lost, phase)
}

const LEASE: LeasePolicy = LeasePolicy {
    term: Duration::from_secs(1),
    wait: Duration::from_secs(3),
    ceiling: Duration::from_secs(10),
};

async fn ask(cache: Cache<u32>, source: Arc<AtomicU32>, takes: Duration, fails: bool) -> u32 {
    let loader = {
        let source = Arc::clone(&source);
        move || async move {
            let value = source.load(SeqCst);
            tokio::time::sleep(takes).await;
            match fails {
                true => Err(io::Error::other("down")),
                false => Ok(value),
            }
        }
    };
    match cache.get_or_load("k", loader).await {
        Ok(value) => value,
        Err(_) => source.load(SeqCst),
    }
}

/// One instance of the two has the faulty store, and it begins with a load or waits for the other's.
async fn scenario(plan: Plan<StoreError>, faulty_first: bool, takes: Duration, fails: bool) {
    let store = Arc::new(MemoryStore::new());
    let source = Arc::new(AtomicU32::new(1));
    let good = instance(Arc::clone(&store), policy(), LEASE);
    let faulty = Faulty {
        store: Arc::clone(&store),
        plan,
    };
    let bad = instance(faulty, policy(), LEASE);
    let (first, second) = match faulty_first {
        true => (bad, good.clone()),
        false => (good.clone(), bad),
    };
    let clock = Clock::default();
    let begun = clock.now();
    let holder = tokio::spawn(ask(first, Arc::clone(&source), takes, fails));
    tokio::time::sleep(MILLISECOND).await;
    let waiter = tokio::spawn(ask(second, Arc::clone(&source), takes, false));
    assert_eq!(holder.await.unwrap(), 1);
    assert_eq!(waiter.await.unwrap(), 1);
    let took = clock.now().saturating_since(begun);
    // The wait, its own load, and what deadlines of the store can cost: each strikes once.
    let bound = LEASE.wait + takes * 2 + 2 * SECOND;
    assert!(took <= bound, "{took:?}");
    // Whatever was left behind: after a change nobody sees what was before, and nobody waits for it.
    source.store(2, SeqCst);
    good.invalidate("k").await;
    let third = instance(Arc::clone(&store), policy(), LEASE);
    let begun = clock.now();
    assert_eq!(ask(third, Arc::clone(&source), MILLISECOND, false).await, 2);
    assert!(clock.now().saturating_since(begun) < SECOND);
    assert_eq!(instance(store, policy(), LEASE).get("k").await, Some(2));
    // What is given back by a task of its own has its turn.
    tokio::time::sleep(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn any_fault_at_any_operation_of_a_holder_costs_a_bounded_time() {
    let mut runs = 0;
    for (takes, fails) in [(600 * MILLISECOND, false), (600 * MILLISECOND, true)] {
        runs += fault_sweep(&Fault::ALL, lost, async |plan| {
            scenario(plan, true, takes, fails).await;
        })
        .await;
    }
    // To look, to take, once more while it loads, to fill or to give back.
    assert_eq!(runs as usize, 2 * 4 * Fault::ALL.len());
}

#[tokio::test(start_paused = true)]
async fn any_fault_at_any_operation_of_one_who_waits_costs_a_bounded_time() {
    let runs = fault_sweep(&Fault::ALL, lost, async |plan| {
        scenario(plan, false, 3 * MILLISECOND, false).await;
    })
    .await;
    // To look, to ask for the turn, and to look again.
    assert_eq!(runs as usize, 3 * Fault::ALL.len());
}
