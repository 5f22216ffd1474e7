//! Random sagas on a store that suffers, driven by runners that die, stall and overlap: none ends
//! half-done unseen.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use buttress_retry_backoff::Backoff;
use buttress_saga::{
    Effect, Entry, RunnerPolicy, Saga, SagaId, Sagas, StartOptions, State, StepPolicy,
    store::{
        Ask, Census, Claimed, Filter, Hand, MemoryStore, NewSaga, Record, Started, Store, Write,
    },
};
use buttress_store::{Fence, LeaseTerms, Lent, StoreError};
use buttress_testkit::{seed::Seed, short_or_long};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    shaky::{Fate, Shaky},
    world::{Act, Deed, Scripted, Stopwatch, World},
};

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
    world: World,
    store: Arc<dyn Store>,
    /// The planted bug: whoever was in a batch is told that he was written.
    boasts: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    completed: u32,
    undone: u32,
    parked: u32,
}

impl History {
    fn new(mut rng: StdRng, store: Arc<dyn Store>, boasts: bool) -> Self {
        let steps = rng.random_range(1..=NAMES.len());
        let pivot = rng.random_bool(0.5).then(|| rng.random_range(0..steps));
        let sleep = rng.random_bool(0.3).then(|| {
            let length = Duration::from_millis(rng.random_range(0..3000));
            (rng.random_range(0..steps), length)
        });
        Self {
            rng,
            steps,
            pivot,
            sleep,
            world: World::default(),
            store,
            boasts,
        }
    }

    fn saga(&self) -> Saga<u64> {
        let backoff =
            Backoff::exponential(Duration::from_millis(20)).with_cap(Duration::from_millis(200));
        let policy = StepPolicy::default()
            .attempts(3)
            .backoff(backoff.clone())
            .undo_backoff(backoff)
            .timeout(Duration::from_millis(300))
            .undo_timeout(Duration::from_millis(300));
        let mut saga = Saga::define("random", 1);
        for (place, name) in NAMES.into_iter().take(self.steps).enumerate() {
            let world = self.world.clone();
            if let Some((before, length)) = self.sleep
                && before == place
            {
                saga.sleep("sleep", length);
            }
            saga.step_with(name, Scripted { name, world }, policy.clone());
            if self.pivot == Some(place) {
                saga.pivot();
            }
        }
        saga.build().unwrap()
    }

    fn acts(&mut self, refusals: f64) -> Vec<Act> {
        let count = self.rng.random_range(0..4);
        let rng = &mut self.rng;
        let act = |_| {
            if rng.random_bool(refusals) {
                return Act::Refused;
            }
            let late = Duration::from_millis(rng.random_range(0..1500));
            [
                Act::Well,
                Act::Well,
                Act::NotDone,
                Act::Kept(late / 4),
                Act::AnswerLost,
                Act::RequestLost,
                Act::Panic,
                Act::Hang,
                Act::Late(late),
            ][rng.random_range(0..9)]
        };
        (0..count).map(act).collect()
    }

    /// A store that suffers until it is calm.
    fn shaky(&mut self) -> Arc<dyn Store> {
        let start = Stopwatch::start();
        let seed = self.rng.next_u64();
        let trouble = self.rng.random_range(0.0..0.4);
        let fate = move |number: u64| {
            let mut rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9));
            if start.elapsed() > CALM || !rng.random_bool(trouble) {
                return Fate::Well;
            }
            let late = Duration::from_millis(rng.random_range(0..2000));
            [
                Fate::Fails,
                Fate::AnswerLost,
                Fate::LateBefore(late),
                Fate::LateAfter(late),
            ][rng.random_range(0..4)]
        };
        let at_once = self.rng.random_range(0..3);
        let mut shaky = Shaky::new(Arc::clone(&self.store), fate).gathering(at_once);
        shaky.boasts = self.boasts;
        Arc::new(shaky)
    }

    /// A process: it drives, dies in the middle of whatever it does, and comes again.
    fn process(&mut self, saga: Saga<u64>) -> impl Future<Output = ()> + Send + use<> {
        let store = self.shaky();
        let mut lives = Vec::new();
        for _ in 0..self.rng.random_range(0..5) {
            lives.push(Duration::from_millis(self.rng.random_range(0..2000)));
        }
        let lease = LeaseTerms::new(LEASE).unwrap().with_ceiling(50).unwrap();
        let policy = RunnerPolicy::default()
            .lease(lease)
            .poll(Duration::from_millis(300))
            .hold(Duration::from_millis(100))
            .lone_lapses(50);
        async move {
            let start = Stopwatch::start();
            let run = |left: Duration| {
                let sagas = Sagas::shared(Arc::clone(&store));
                let runner = sagas.runner().saga(&saga).policy(policy.clone());
                runner.build().unwrap().run_until(tokio::time::sleep(left))
            };
            for life in lives {
                // The runner stops in the middle of everything: its future is dropped.
                let _ = tokio::time::timeout(life, run(END)).await;
            }
            run(END.saturating_sub(start.elapsed())).await;
        }
    }

    async fn run(mut self) -> Tally {
        let saga = self.saga();
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
            let started = sagas.start(&saga, &number, StartOptions::new()).await;
            ids.push(started.unwrap().id());
        }
        let runners = self.rng.random_range(1..4);
        let mut processes = Vec::new();
        for _ in 0..runners {
            processes.push(self.process(saga.clone()));
        }
        // Once all of them rest nothing can happen any more, but for what comes late.
        let rest = async {
            for id in &ids {
                while sagas.get(*id).await.unwrap().state.is_active() {
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

    async fn judge(
        &self,
        sagas: &Sagas,
        saga: &Saga<u64>,
        number: u64,
        id: SagaId,
        tally: &mut Tally,
    ) {
        let history = sagas.history(saga, id).await.unwrap();
        let there = |step: &&&str| self.world.has(id, step);
        let effects = NAMES.iter().filter(there).count();
        let deeds = self.world.log(number);
        let said = || {
            format!(
                "{number}: {:?}\n{deeds:?}\n{history:#?}",
                history.saga.state
            )
        };
        match history.saga.state {
            State::Completed => {
                tally.completed += 1;
                assert_eq!(
                    effects,
                    self.steps,
                    "completed and not all done: {}",
                    said()
                );
            }
            State::Undone => {
                tally.undone += 1;
                assert_eq!(effects, 0, "undone and something is left: {}", said());
            }
            State::NeedsAttention => {
                tally.parked += 1;
                let refused = history.steps.iter().any(|it| it.code.is_some());
                assert!(refused, "parked for no reason: {}", said());
            }
            _ => panic!("it does not rest: {}", said()),
        }
        self.judge_sleep(&history);
        // Whoever was refused behind the pivot, or at an undo, and nothing else, is parked; and
        // before the first undo is asked for, no later step may run.
        if let Some(first) = deeds.iter().position(|it| matches!(it, Deed::Undo(..))) {
            let late = deeds[first..].iter().any(|it| matches!(it, Deed::Run(_)));
            assert!(!late, "a step ran after an undo: {}", said());
        }
        let undone = deeds.iter().filter_map(|it| match it {
            Deed::Undo(step, effect) => Some((*step, effect)),
            Deed::Run(_) => None,
        });
        let undone: Vec<_> = undone.collect();
        assert!(
            undone.is_sorted_by(|one, other| one.0 >= other.0),
            "undone out of order: {}",
            said()
        );
        for (step, effect) in undone {
            assert_ne!(
                *effect,
                Effect::None,
                "{step} was known not done: {}",
                said()
            );
        }
    }
}

impl History {
    /// Who went on from a sleep had slept for as long as it was to be.
    fn judge_sleep(&self, history: &buttress_saga::History) {
        let Some((place, length)) = self.sleep else {
            return;
        };
        let at = |wanted: fn(&Entry, usize) -> bool| {
            let mut lines = history.lines.iter();
            lines.find(|(_, entry)| wanted(entry, place)).map(|it| it.0)
        };
        let fell =
            at(|entry, place| matches!(entry, Entry::Sleeping { step, .. } if *step == place));
        let woke =
            at(|entry, place| matches!(entry, Entry::Succeeded { step, .. } if *step == place));
        if let Some(woke) = woke {
            let fell = fell.expect("it fell asleep before");
            let slept = woke.duration_since(fell).unwrap();
            // It sleeps from when it was decided, which is a write earlier.
            let late = Duration::from_secs(2);
            assert!(
                slept + late >= length,
                "{slept:?} of {length:?}: {history:#?}"
            );
        }
    }
}

/// Runs histories on all cores, and returns the first that failed.
fn histories(
    count: u64,
    seed: u64,
    store: fn() -> Arc<dyn Store>,
    boasts: bool,
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
            let run = || runtime.block_on(History::new(rng, store(), boasts).run());
            let one = catch_unwind(AssertUnwindSafe(run)).map_err(|_| number)?;
            tally.completed += one.completed;
            tally.undone += one.undone;
            tally.parked += one.parked;
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
            tally.completed += one.completed;
            tally.undone += one.undone;
            tally.parked += one.parked;
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
        false,
    );
    let tally = tally.unwrap_or_else(|number| panic!("history {number} failed"));
    println!("{count} histories: {tally:?}");
    assert!(tally.completed > 0 && tally.undone > 0 && tally.parked > 0);
}

/// A store that forgets to look at the claim.
struct Unfenced(MemoryStore);

#[async_trait]
impl Store for Unfenced {
    async fn append(&self, id: SagaId, by: Hand, write: &Write) -> Result<bool, StoreError> {
        let Some(record) = self.0.read(id).await? else {
            return Ok(false);
        };
        if record.entries != write.expected {
            return Ok(false);
        }
        let _ = by;
        self.0.append(id, Hand::Operator, write).await
    }

    async fn extend(&self, _: SagaId, _: Fence, _: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn start(&self, new: &NewSaga) -> Result<Started, StoreError> {
        self.0.start(new).await
    }

    async fn start_in(&self, connection: Lent<'_>, new: &NewSaga) -> Result<Started, StoreError> {
        self.0.start_in(connection, new).await
    }

    async fn claim(&self, ask: &Ask) -> Result<Vec<Claimed>, StoreError> {
        self.0.claim(ask).await
    }

    async fn append_in(
        &self,
        connection: Lent<'_>,
        id: SagaId,
        by: Hand,
        write: &Write,
    ) -> Result<bool, StoreError> {
        self.0.append_in(connection, id, by, write).await
    }

    async fn read(&self, id: SagaId) -> Result<Option<Record>, StoreError> {
        self.0.read(id).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Record>, StoreError> {
        self.0.list(filter).await
    }

    async fn census(&self) -> Result<Vec<Census>, StoreError> {
        self.0.census().await
    }

    async fn prune(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        self.0.prune(age, limit).await
    }
}

#[test]
fn a_store_that_forgets_the_fence_is_found_out() {
    let tally = buttress_testkit::tally::suite("SG7");
    let unfenced = || Arc::new(Unfenced(MemoryStore::new())) as Arc<dyn Store>;
    assert!(histories(2_000, 7, unfenced, false).is_err());
    tally.caught(1);
}

#[test]
fn a_batch_that_does_not_say_who_was_left_out_is_found_out() {
    let tally = buttress_testkit::tally::suite("SG7");
    let memory = || Arc::new(MemoryStore::new()) as Arc<dyn Store>;
    assert!(histories(2_000, 7, memory, true).is_err());
    tally.caught(1);
}
