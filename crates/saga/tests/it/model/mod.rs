//! Random sagas on a store that suffers, driven by runners that die, stall and overlap: none ends
//! half-done unseen.

mod family;
mod judge;
mod trouble;
mod unfenced;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use buttress_retry_backoff::Backoff;
use buttress_saga::{
    Output, Saga, SagaBuilder, Sagas, StartOptions, StepPolicy, Waited,
    store::{MemoryStore, Store},
};
use buttress_testkit::{seed::Seed, short_or_long};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

use self::{family::Family, unfenced::Unfenced};
use crate::world::{Scripted, World};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const LEASE: Duration = Duration::from_millis(900);
/// All that is wrong in a history is over by then, and all that was begun has come to its end.
const CALM: Duration = Duration::from_secs(5);
const END: Duration = Duration::from_secs(60);

/// One random history.
struct History {
    rng: StdRng,
    steps: usize,
    pivot: Option<usize>,
    /// Before which step it sleeps, and for how long.
    sleep: Option<(usize, Duration)>,
    /// Which steps are in branches: the first, the first behind, and how many to a branch.
    fork: Option<(usize, usize, usize)>,
    /// Before which step it waits for a signal, how long, and whether it turns back without.
    wait: Option<(usize, Duration, bool)>,
    world: World,
    store: Arc<dyn Store>,
    /// Which steps are sagas themselves.
    family: Option<Family>,
    /// How long the way forward may take.
    forward_within: Option<Duration>,
    /// How often somebody sends it on that needs attention.
    helped: usize,
    planted: Planted,
}

/// A bug that is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    None,
    /// Whoever was in a batch is told that he was written.
    Boasts,
    /// A child that ends wakes nobody.
    Deaf,
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    completed: u32,
    undone: u32,
    parked: u32,
    came: u32,
    missed: u32,
    forked: u32,
    /// Children that were completed, and not undone later.
    children: u32,
    /// Children that were undone because their parents were.
    called_back: u32,
    cancelled: u32,
    resumed: u32,
}

impl Tally {
    fn add(&mut self, one: Self) {
        self.completed += one.completed;
        self.undone += one.undone;
        self.parked += one.parked;
        self.came += one.came;
        self.missed += one.missed;
        self.forked += one.forked;
        self.children += one.children;
        self.called_back += one.called_back;
        self.cancelled += one.cancelled;
        self.resumed += one.resumed;
    }
}

impl History {
    fn new(mut rng: StdRng, store: Arc<dyn Store>, planted: Planted) -> Self {
        let steps = rng.random_range(1..=NAMES.len());
        let pivot = rng.random_bool(0.5).then(|| rng.random_range(0..steps));
        let sleep = rng.random_bool(0.3).then(|| {
            let length = Duration::from_millis(rng.random_range(0..3000));
            (rng.random_range(0..steps), length)
        });
        let fork = rng.random_bool(0.5).then(|| {
            let first = rng.random_range(0..steps);
            let behind = rng.random_range(first..=steps);
            (first, behind, rng.random_range(1..3))
        });
        let wait = rng.random_bool(0.3).then(|| {
            let within = Duration::from_millis(rng.random_range(0..3000));
            (rng.random_range(0..steps), within, rng.random_bool(0.5))
        });
        let family = rng
            .random_bool(0.3)
            .then(|| Family::new(&mut rng, steps, pivot, fork));
        let forward_within = rng
            .random_bool(0.2)
            .then(|| Duration::from_millis(rng.random_range(0..4000)));
        let helped = rng.random_range(0..3);
        Self {
            rng,
            steps,
            pivot,
            sleep,
            fork,
            wait,
            world: World::default(),
            store,
            family,
            forward_within,
            helped,
            planted,
        }
    }

    fn policy() -> StepPolicy {
        let backoff =
            Backoff::exponential(Duration::from_millis(20)).with_cap(Duration::from_millis(200));
        StepPolicy::default()
            .attempts(3)
            .backoff(backoff.clone())
            .undo_backoff(backoff)
            .timeout(Duration::from_millis(300))
            .undo_timeout(Duration::from_millis(300))
    }

    fn saga(&self, children: &[Saga<u64>]) -> Saga<u64> {
        let mut saga = Saga::define("random", 1);
        let mut place = 0;
        while place < self.steps {
            match self.fork {
                Some((first, behind, length)) if place == first && first < behind => {
                    saga.fork(|fork| {
                        for from in (first..behind).step_by(length) {
                            fork.branch(|branch| {
                                for place in from..behind.min(from + length) {
                                    self.add(branch, place, children);
                                }
                            });
                        }
                    });
                    // There is no pivot beside other branches.
                    if self
                        .pivot
                        .is_some_and(|pivot| (first..behind).contains(&pivot))
                    {
                        saga.pivot();
                    }
                    place = behind;
                }
                _ => {
                    self.add(&mut saga, place, children);
                    if self.pivot == Some(place) {
                        saga.pivot();
                    }
                    place += 1;
                }
            }
        }
        if let Some(limit) = self.forward_within {
            saga.forward_within(limit);
        }
        saga.build().unwrap()
    }

    /// Adds a step, and what is waited for before it.
    fn add(&self, saga: &mut SagaBuilder<u64>, place: usize, children: &[Saga<u64>]) {
        if let Some((before, length)) = self.sleep
            && before == place
        {
            saga.sleep("sleep", length);
        }
        if let Some((before, within, must)) = self.wait
            && before == place
        {
            if must {
                let _: Output<u64> = saga.wait_or_turn_back("wait", within);
            } else {
                let _: Output<Waited<u64>> = saga.wait("wait", within);
            }
        }
        let (name, world) = (NAMES[place], self.world.clone());
        if let Some(family) = &self.family
            && family.places.contains(&place)
        {
            return family.call(saga, place, children);
        }
        saga.step_with(name, Scripted { name, world }, Self::policy());
    }

    async fn run(mut self) -> Tally {
        let children = self.family.as_ref().map(|it| it.children(&self.world));
        let children = children.unwrap_or_default();
        let saga = self.saga(&children);
        let sagas = Sagas::shared(Arc::clone(&self.store));
        let count = self.rng.random_range(1..4);
        let mut ids = Vec::new();
        for number in 0..count {
            for step in NAMES.into_iter().take(self.steps) {
                let acts = self.acts(0.1);
                self.world.script(number, step, &acts);
                let acts = self.acts(0.05);
                self.world.undo_script(number, step, &acts);
            }
            if self.family.is_some() {
                for ((step, of), twin) in family::STEPS.into_iter().flat_map(family::twice) {
                    let number = number + of + twin;
                    let acts = self.acts(0.1);
                    self.world.script(number, step, &acts);
                    let acts = self.acts(0.05);
                    self.world.undo_script(number, step, &acts);
                }
            }
            let started = sagas.start(&saga, &number, StartOptions::new()).await;
            let id = started.unwrap().id();
            ids.push(id);
            if self.wait.is_some() && self.rng.random_bool(0.7) {
                let sagas = sagas.clone();
                let about = Duration::from_millis(self.rng.random_range(0..5000));
                tokio::spawn(async move {
                    tokio::time::sleep(about).await;
                    // It may be over by then, and sent twice it is once.
                    for payload in [number, 99] {
                        let _ = sagas.signal(id, "wait", "key", &payload).await;
                    }
                });
            }
        }
        for id in &ids {
            if self.rng.random_bool(0.2) {
                let about = Duration::from_millis(self.rng.random_range(0..4000));
                let child = children.first().filter(|_| self.rng.random_bool(0.4));
                tokio::spawn(trouble::cancelled(
                    Sagas::shared(self.shaky()),
                    about,
                    (saga.clone(), *id),
                    child.cloned(),
                ));
            }
        }
        let runners = self.rng.random_range(1..4);
        let mut processes = Vec::new();
        for number in 0..runners {
            // Some know only the parents, or only the children.
            let mut kinds = [std::slice::from_ref(&saga), &children[..]].concat();
            if number > 0 && !children.is_empty() && self.rng.random_bool(0.4) {
                kinds = match self.rng.random_bool(0.5) {
                    true => children.clone(),
                    false => vec![saga.clone()],
                };
            }
            processes.push(self.process(kinds));
        }
        // Once all of them rest nothing can happen any more, but for what comes late.
        let rest = async {
            for id in &ids {
                while self.goes_on(&sagas, &saga, &children, *id).await {
                    tokio::time::sleep(LEASE).await;
                }
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
        };
        tokio::select! {
            () = rest => {}
            _ = futures_util::future::join_all(processes) => {}
        }
        let mut tally = Tally::default();
        for (number, id) in (0..).zip(ids) {
            self.judge(&sagas, &saga, number, id, &mut tally).await;
        }
        tally
    }
}

/// Runs histories on all cores, and returns the first that failed.
fn histories(
    count: u64,
    seed: u64,
    store: fn() -> Arc<dyn Store>,
    planted: Planted,
) -> Result<Tally, u64> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    let worker = |first: usize| -> Result<Tally, u64> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let mut tally = Tally::default();
        for number in (first as u64..count).step_by(threads) {
            let rng = StdRng::seed_from_u64(seed.wrapping_add(number));
            let run = || runtime.block_on(History::new(rng, store(), planted).run());
            let one = catch_unwind(AssertUnwindSafe(run)).map_err(|_| number)?;
            tally.add(one);
        }
        Ok(tally)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || worker(first)))
            .collect();
        let mut tally = Tally::default();
        for it in workers {
            let one = it.join().unwrap()?;
            tally.add(one);
        }
        Ok(tally)
    })
}

#[test]
fn no_random_saga_ends_half_done_unseen() {
    let suite = buttress_testkit::tally::suite("SG7 X3");
    let seed = Seed::new();
    let count = short_or_long(100_000, 2_000_000);
    suite.operations(count);
    let tally = histories(
        count,
        seed.rng().next_u64(),
        || Arc::new(MemoryStore::new()),
        Planted::None,
    );
    let tally = tally.unwrap_or_else(|number| panic!("history {number} failed"));
    println!("{count} histories: {tally:?}");
    assert!(tally.completed > 0 && tally.undone > 0 && tally.parked > 0);
    assert!(tally.came > 0 && tally.missed > 0 && tally.forked > 0);
    assert!(tally.children > 0 && tally.called_back > 0);
    assert!(tally.cancelled > 0 && tally.resumed > 0);
}

#[test]
fn a_store_that_forgets_the_fence_is_found_out() {
    let tally = buttress_testkit::tally::suite("SG7");
    let unfenced = || Arc::new(Unfenced(MemoryStore::new())) as Arc<dyn Store>;
    assert!(histories(2_000, 7, unfenced, Planted::None).is_err());
    tally.caught(1);
}

#[test]
fn a_batch_that_does_not_say_who_was_left_out_is_found_out() {
    let tally = buttress_testkit::tally::suite("SG7");
    let memory = || Arc::new(MemoryStore::new()) as Arc<dyn Store>;
    assert!(histories(2_000, 7, memory, Planted::Boasts).is_err());
    tally.caught(1);
}

#[test]
fn a_child_whose_end_wakes_nobody_is_found_out() {
    let tally = buttress_testkit::tally::suite("SG7");
    let memory = || Arc::new(MemoryStore::new()) as Arc<dyn Store>;
    assert!(histories(2_000, 7, memory, Planted::Deaf).is_err());
    tally.caught(1);
}
