//! What goes wrong in a random history: the world's answers, the store's, processes that die, and
//! people who change their mind.

use std::{sync::Arc, time::Duration};

use buttress_saga::{By, RunnerBuilder, RunnerPolicy, Saga, SagaId, Sagas, store::Store};
use buttress_store::LeaseTerms;
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::{CALM, END, History, LEASE, Planted};
use crate::{
    shaky::{Fate, Shaky},
    world::{Act, Stopwatch},
};

impl History {
    pub(super) fn acts(&mut self, refusals: f64) -> Vec<Act> {
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
    pub(super) fn shaky(&mut self) -> Arc<dyn Store> {
        let start = Stopwatch::start();
        let seed = self.rng.next_u64();
        let trouble = self.rng.random_range(0.0..0.4);
        let fate = move |number: u64| {
            // One for each operation, so it must be made quickly: a third of the test otherwise.
            let mut rng = SmallRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9));
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
        shaky.boasts = self.planted == Planted::Boasts;
        shaky.deaf = self.planted == Planted::Deaf;
        Arc::new(shaky)
    }

    /// A process: it drives, dies in the middle of whatever it does, and comes again.
    pub(super) fn process(
        &mut self,
        kinds: Vec<Saga<u64>>,
    ) -> impl Future<Output = ()> + Send + use<> {
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
                let runner = sagas.runner().policy(policy.clone());
                let runner = kinds.iter().fold(runner, RunnerBuilder::saga);
                runner.build().unwrap().run_until(tokio::time::sleep(left))
            };
            for life in lives {
                // The runner stops in the middle of everything: its future is dropped.
                let _ = tokio::time::timeout(life, run(END)).await;
            }
            run(END.saturating_sub(start.elapsed())).await;
        }
    }
}

/// Somebody cancels a saga after a while, or its child. It may be too late, or the store be away.
pub(super) async fn cancelled(
    sagas: Sagas,
    about: Duration,
    (saga, id): (Saga<u64>, SagaId),
    child: Option<Saga<u64>>,
) {
    tokio::time::sleep(about).await;
    let by = || By::new("bob", "it is too much");
    let Some(child) = child else {
        let _ = sagas.cancel(&saga, id, by()).await;
        return;
    };
    for called in sagas.children(id).await.unwrap() {
        let _ = sagas.cancel(&child, called.id, by()).await;
    }
}
