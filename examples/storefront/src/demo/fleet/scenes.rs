//! What is broken, one after the other and at last all at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use buttress_core::{Clock, Moment};
use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::json;
use tokio::time::sleep;

use super::{
    ORDER_RATE,
    crowd::Crowd,
    instances::Instances,
    stores::{Harm, Stores},
};

/// For how much longer a machine may try that cannot send more than the rate at once.
const TOO_SLOW: Duration = Duration::from_secs(20);

/// What goes on for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    Well,
    TooFast,
    Killed,
    Rolling,
    Database,
    Redis,
    Services,
    Everything,
}

/// What one customer who was too fast got of all instances together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rated {
    pub(super) taken: usize,
    pub(super) refused: usize,
    pub(super) most: usize,
}

/// Who breaks things.
pub(super) struct Breaker<'a> {
    pub(super) instances: &'a Instances,
    pub(super) stores: &'a Stores,
    pub(super) crowd: &'a Arc<Crowd>,
    pub(super) rng: StdRng,
    pub(super) clock: Clock,
    pub(super) rated: Rated,
}

impl Scene {
    /// Those that can be played with these stores.
    pub(super) fn all(stores: &Stores) -> Vec<Self> {
        let all = [
            Self::Well,
            Self::TooFast,
            Self::Killed,
            Self::Rolling,
            Self::Database,
            Self::Redis,
            Self::Services,
            Self::Everything,
        ];
        let can = |scene: &Self| match scene {
            Self::Database => stores.has_network(),
            Self::Redis => stores.has_redis(),
            _ => true,
        };
        all.into_iter().filter(can).collect()
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Well => "all is well",
            Self::TooFast => "one customer orders far too fast, everywhere",
            Self::Killed => "instances are killed with -9",
            Self::Rolling => "instances are stopped and started, one after the other",
            Self::Database => "the database is cut off, and silent",
            Self::Redis => "Redis is cut off, silent, and killed",
            Self::Services => "the services behind fail in every way",
            Self::Everything => "all of that at once",
        }
    }
}

impl Breaker<'_> {
    /// Plays `scene` for some `time`.
    pub(super) async fn play(&mut self, scene: Scene, time: Duration) -> anyhow::Result<()> {
        let end = self.clock.now().saturating_add(time);
        match scene {
            Scene::Well => sleep(time).await,
            Scene::TooFast => self.too_fast(end).await?,
            Scene::Everything => {
                while self.goes_on(end) {
                    self.anything(end).await?;
                }
            }
            Scene::Rolling => {
                for number in 0..self.instances.count() {
                    self.instances.stop(number).await;
                    self.instances.start(number, true).await?;
                }
            }
            scene => loop {
                self.once(scene, true).await?;
                self.breathe(10..200).await;
                if !self.goes_on(end) {
                    break;
                }
            },
        }
        Ok(())
    }

    /// Lets everything work again, and has every instance up.
    pub(super) async fn heal(&mut self) -> anyhow::Result<()> {
        let up = self.crowd.customers.shop().up();
        for number in 0..self.instances.count() {
            if up.iter().all(|(it, _)| *it != number) {
                self.instances.start(number, false).await?;
            }
        }
        self.crowd.customers.heal().await
    }

    fn goes_on(&self, end: Moment) -> bool {
        self.clock.now() < end
    }

    async fn breathe(&mut self, millis: std::ops::Range<u64>) {
        let millis = self.rng.random_range(millis);
        sleep(Duration::from_millis(millis)).await;
    }

    fn any_instance(&mut self) -> usize {
        self.rng.random_range(0..self.instances.count())
    }

    fn any_harm(&mut self) -> (Harm, Duration) {
        let harms = [Harm::Reset, Harm::Silence, Harm::Refusal, Harm::LostCommit];
        let harm = harms.choose(&mut self.rng).copied().unwrap_or(Harm::Reset);
        (
            harm,
            Duration::from_millis(self.rng.random_range(100..1500)),
        )
    }

    /// One stroke of what `scene` is about.
    async fn once(&mut self, scene: Scene, undisturbed: bool) -> anyhow::Result<()> {
        let number = self.any_instance();
        match scene {
            Scene::Killed => {
                self.instances.kill(number).await;
                self.instances.start(number, undisturbed).await?;
            }
            Scene::Rolling => {
                self.instances.stop(number).await;
                self.instances.start(number, undisturbed).await?;
            }
            Scene::Database => {
                let (harm, time) = self.any_harm();
                self.stores.harm_database(number, harm, time).await?;
            }
            Scene::Redis => {
                let (harm, time) = self.any_harm();
                let restarts = self.rng.random_range(0..3) == 0;
                if !(restarts && self.stores.restart_redis(time).await?) {
                    self.stores.harm_redis(number, harm, time).await?;
                }
            }
            Scene::Services => self.break_a_service().await,
            Scene::Well | Scene::TooFast | Scene::Everything => {}
        }
        Ok(())
    }

    async fn break_a_service(&mut self) {
        let targets = ["payments", "carrier", "shipments", "subscriber"];
        let modes = ["ok", "error", "slow", "hang", "lost"];
        let target = targets.choose(&mut self.rng).copied();
        let mode = modes.choose(&mut self.rng).copied();
        let rate = f64::from(self.rng.random_range(2..=10_u32)) / 10.0;
        let fault = json!({ "target": target, "mode": mode, "rate": rate, "latency_ms": 1200 });
        // An instance that is gone in that moment works all the better when it comes back.
        let _ = self.crowd.customers.break_service(&fault).await;
    }

    /// A stroke against the process of one instance, one against the line of another to a store,
    /// and one against a service, all at the same time.
    async fn anything(&mut self, end: Moment) -> anyhow::Result<()> {
        self.break_a_service().await;
        let (process, line) = (self.any_instance(), self.any_instance());
        let (harm, time) = self.any_harm();
        let (kills, database) = (self.rng.random(), self.rng.random::<bool>());
        let (instances, stores) = (self.instances, self.stores);
        let strikes = async {
            if kills {
                instances.kill(process).await;
            } else {
                instances.stop(process).await;
            }
            instances.start(process, false).await
        };
        let harms = async {
            if database {
                stores.harm_database(line, harm, time).await
            } else {
                stores.harm_redis(line, harm, time).await
            }
        };
        tokio::try_join!(strikes, harms)?;
        if self.goes_on(end) && self.rng.random_range(0..3) == 0 {
            self.once(Scene::Redis, false).await?;
        }
        Ok(())
    }

    /// One customer, as fast as he can, through all instances. Where they share Redis, one of them
    /// dies meanwhile and comes back.
    async fn too_fast(&mut self, end: Moment) -> anyhow::Result<()> {
        let begun = self.clock.now();
        let (crowd, clock) = (self.crowd, &self.clock);
        let order = json!({
            "customer": "pays too fast",
            "items": [{ "product_id": "p1", "quantity": 1 }],
            "payment_method": "pm_ok",
        });
        let order = &order;
        // A slow machine needs longer to be too fast.
        let (too_fast, given_up) = (AtomicBool::new(false), end.saturating_add(TOO_SLOW));
        let too_fast = &too_fast;
        let pusher = |pusher: usize| async move {
            let (mut taken, mut refused) = (0, 0);
            for number in 0.. {
                let key = format!("too-fast-{pusher}-{number}");
                let mut in_doubt = false;
                loop {
                    match crowd.order("too-fast", &key, order).await {
                        Some(202) => {
                            taken += 1;
                            break;
                        }
                        Some(429) => {
                            refused += 1;
                            too_fast.store(true, Ordering::Relaxed);
                            // It may be an order all the same, if an answer was lost before.
                            if !in_doubt {
                                break;
                            }
                        }
                        _ => in_doubt = true,
                    }
                    sleep(Duration::from_millis(50)).await;
                }
                let now = clock.now();
                if now >= given_up || (now >= end && too_fast.load(Ordering::Relaxed)) {
                    break;
                }
            }
            (taken, refused)
        };
        let number = self.rng.random_range(0..self.instances.count());
        let (instances, shared) = (self.instances, self.stores.has_redis());
        let dies = async {
            if shared {
                instances.kill(number).await;
                instances.start(number, true).await?;
            }
            anyhow::Ok(())
        };
        let (pushed, died) = tokio::join!(futures_util::future::join_all((0..4).map(pusher)), dies);
        died?;
        let rate = f64::from(ORDER_RATE);
        let time = self.clock.now().saturating_since(begun).as_secs_f64();
        // Without Redis each instance has a bucket of its own.
        let buckets = if shared { 1 } else { self.instances.count() };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few thousand"
        )]
        let most = (rate * (2.0 + time)).ceil() as usize;
        self.rated = Rated {
            taken: pushed.iter().map(|(taken, _)| taken).sum(),
            refused: pushed.iter().map(|(_, refused)| refused).sum(),
            most: most * buckets,
        };
        Ok(())
    }
}
