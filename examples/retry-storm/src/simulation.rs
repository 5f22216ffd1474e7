//! A thousand clients, in time that does not pass by itself: they call, fail, and try again, by the
//! real handles of the crates.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use buttress_circuit_breaker::{CircuitBreaker, OpenTime, Policy};
use buttress_core::Clock;
use buttress_retry_backoff::{
    Backoff, Budget, BudgetRule, Dice, Jitter, PolicyError, Retry, RetryPolicy,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::service::{OUTAGE, Refused, STEP, Service};

/// Processes, each with one retry, one budget and one breaker; and the clients in each.
const PROCESSES: u64 = 50;
const CLIENTS_EACH: u64 = 20;
/// A client calls, and after so long calls again.
const PERIOD: Duration = Duration::from_secs(2);
/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_millis(600);
/// How long the clients are watched.
pub(crate) const LENGTH: Duration = Duration::from_secs(60);
/// In a second in which so many calls in a hundred succeed, all is well.
const WELL: usize = 99;

/// What the clients have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Means {
    pub(crate) name: &'static str,
    pub(crate) jitter: bool,
    pub(crate) budget: bool,
    pub(crate) breaker: bool,
}

impl Means {
    /// The runs that are compared.
    pub(crate) const ALL: [Self; 5] = [
        Self::of("no jitter", false, false, false),
        Self::of("jitter", true, false, false),
        Self::of("jitter and budget", true, true, false),
        Self::of("jitter and breaker", true, false, true),
        Self::of("all together", true, true, true),
    ];

    const fn of(name: &'static str, jitter: bool, budget: bool, breaker: bool) -> Self {
        Self {
            name,
            jitter,
            budget,
            breaker,
        }
    }
}

/// What happened in one run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) means: Means,
    /// How many requests the service answers a second.
    pub(crate) capacity: u32,
    /// Requests in each step.
    pub(crate) load: Vec<u32>,
    /// For each second in which calls began: how many, and how many of them succeeded.
    pub(crate) calls: Vec<(usize, usize)>,
}

impl Run {
    /// Plays the clients with these means. The same seed is the same run.
    pub(crate) fn play(means: Means, capacity: u32, seed: u64) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        runtime.block_on(play(means, capacity, seed))
    }

    /// How long after the end of the outage all is well, and stays so.
    pub(crate) fn recovered_after(&self) -> Option<Duration> {
        let end = seconds(OUTAGE.0 + OUTAGE.1);
        let is_well = |(calls, good): &(usize, usize)| good * 100 >= calls * WELL;
        let last_bad = self.calls.iter().rposition(|second| !is_well(second));
        let first = last_bad.map_or(end, |second| second + 1).max(end);
        (first < self.calls.len()).then(|| Duration::from_secs((first - end) as u64))
    }

    /// Requests a call, from the beginning of the outage on.
    pub(crate) fn amplification(&self) -> f64 {
        let from = seconds(OUTAGE.0);
        let calls: usize = self.calls.iter().skip(from).map(|(calls, _)| calls).sum();
        let steps = self.load.iter().skip(from * steps_a_second());
        let requests: f64 = steps.map(|load| f64::from(*load)).sum();
        #[expect(clippy::cast_precision_loss, reason = "some ten thousand calls")]
        let calls = calls as f64;
        requests / calls
    }

    /// Most requests a second, counted over one step, once the service is back.
    pub(crate) fn peak(&self) -> u32 {
        let from = seconds(OUTAGE.0 + OUTAGE.1) * steps_a_second();
        let most = self.load.iter().skip(from).max();
        most.map_or(0, |most| most * 10)
    }

    /// Calls that failed once the service was back.
    pub(crate) fn failed_after(&self) -> usize {
        let from = seconds(OUTAGE.0 + OUTAGE.1);
        let after = self.calls.iter().skip(from);
        after.map(|(calls, good)| calls - good).sum()
    }
}

fn seconds(duration: Duration) -> usize {
    usize::try_from(duration.as_secs()).unwrap_or(usize::MAX)
}

fn steps_a_second() -> usize {
    usize::try_from(Duration::from_secs(1).as_millis() / STEP.as_millis()).unwrap_or(1)
}

/// What the clients of one process share.
#[derive(Clone)]
struct Process {
    retry: Retry,
    breaker: CircuitBreaker,
}

impl Process {
    fn new(means: Means, clock: &Clock, rng: &mut StdRng) -> anyhow::Result<Self> {
        let jitter = if means.jitter {
            Jitter::Full
        } else {
            Jitter::None
        };
        let backoff = Backoff::exponential(Duration::from_millis(200)).with_jitter(jitter);
        let policy = RetryPolicy::builder()
            .attempts(4)
            .backoff(backoff)
            .attempt_timeout(PATIENCE)
            // What a breaker rejects for longer is not waited for: the client hears of it at once.
            .longest_wait(Duration::from_millis(100))
            .build()?;
        let mut retry = Retry::new("client", policy)
            .with_clock(clock.clone())
            .with_dice(Dice::seeded(rng.random()));
        if means.budget {
            retry = retry.with_budget(budget(clock)?);
        }
        let policy = Policy::builder()
            .no_window()
            .consecutive_failures(10)
            .half_open_permits(1)
            .open_time(OpenTime::growing(
                Duration::from_secs(1),
                Duration::from_secs(4),
            ));
        let chance = Mutex::new(StdRng::seed_from_u64(rng.random()));
        let breaker = CircuitBreaker::builder("service")
            .policy(policy.build()?)
            .clock(clock.clone())
            .random(move || {
                chance
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .random()
            })
            .build();
        if !means.breaker {
            breaker.disable();
        }
        Ok(Self { retry, breaker })
    }

    /// One call, with all its attempts.
    async fn call(&self, service: &Service) -> bool {
        let attempt = || async {
            let asked = tokio::time::timeout(PATIENCE, service.ask());
            let asked = async { asked.await.map_err(|_| Refused)? };
            self.breaker.call(asked).await
        };
        self.retry.call_wrapped(attempt).await.is_ok()
    }
}

/// A fifth of the calls, and one a second.
fn budget(clock: &Clock) -> Result<Budget, PolicyError> {
    let rule = BudgetRule::Tokens {
        ttl: Duration::from_secs(10),
        per_second: 1,
        ratio: 0.2,
    };
    Budget::with_clock(rule, clock.clone())
}

async fn play(means: Means, capacity: u32, seed: u64) -> anyhow::Result<Run> {
    let clock = Clock::tokio();
    let mut rng = StdRng::seed_from_u64(seed);
    let service = Arc::new(Service::new(clock.clone(), capacity));
    let calls = Arc::new(Mutex::new(vec![(0, 0); seconds(LENGTH)]));
    let mut clients = Vec::new();
    for _ in 0..PROCESSES {
        let process = Process::new(means, &clock, &mut rng)?;
        for _ in 0..CLIENTS_EACH {
            let begin = PERIOD.mul_f64(rng.random());
            let (process, service) = (process.clone(), Arc::clone(&service));
            clients.push(tokio::spawn(client(
                process,
                service,
                begin,
                Arc::clone(&calls),
            )));
        }
    }
    for client in clients {
        client.await?;
    }
    let calls = calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut load = service.load();
    load.resize(seconds(LENGTH) * steps_a_second(), 0);
    Ok(Run {
        means,
        capacity,
        load,
        calls,
    })
}

/// One client: calls, and calls again.
async fn client(
    process: Process,
    service: Arc<Service>,
    begin: Duration,
    calls: Arc<Mutex<Vec<(usize, usize)>>>,
) {
    tokio::time::sleep(begin).await;
    loop {
        let now = service.now();
        if now >= LENGTH {
            return;
        }
        let good = process.call(&service).await;
        count(&calls, seconds(now), good);
        tokio::time::sleep(PERIOD.saturating_sub(service.now() - now)).await;
    }
}

fn count(calls: &Mutex<Vec<(usize, usize)>>, second: usize, good: bool) {
    let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((all, succeeded)) = calls.get_mut(second) {
        *all += 1;
        *succeeded += usize::from(good);
    }
}

#[cfg(test)]
mod tests {
    use buttress_testkit::tier::short_or_long;

    use super::*;

    const SEVERAL: Duration = Duration::from_secs(8);

    #[test]
    fn the_same_seed_is_the_same_run_to_the_last_request() {
        let [.., all] = Means::ALL;
        let play = |seed| Run::play(all, 600, seed).unwrap();
        assert_eq!(play(7), play(7));
        assert_ne!(play(7), play(8));
    }

    #[test]
    fn each_means_sends_less_than_the_one_before_and_recovers_where_that_does() {
        for seed in 1..=short_or_long(2, 20) {
            let runs = Means::ALL.map(|means| Run::play(means, 600, seed).unwrap());
            let [naive, jitter, budget, breaker, all] = &runs;
            assert_eq!(
                naive.recovered_after(),
                None,
                "{seed}: the storm feeds itself"
            );
            assert!(naive.amplification() > 3.0);
            for run in [jitter, budget, breaker, all] {
                let after = run.recovered_after();
                assert!(
                    after.is_some_and(|after| after <= SEVERAL),
                    "{seed}: {after:?}"
                );
                assert!(run.failed_after() < naive.failed_after() / 10);
            }
            let sent = runs.each_ref().map(Run::amplification);
            assert!(sent[0] >= 2.0 * sent[1], "{seed}: {sent:?}");
            assert!(
                sent[1] >= 1.3 * sent[2] && sent[1] >= 1.3 * sent[3],
                "{seed}: {sent:?}"
            );
            assert!(sent[2] < 1.2 && sent[4] < 1.2, "{seed}: {sent:?}");
            assert!(naive.peak() > jitter.peak() && jitter.peak() > budget.peak());
        }
    }

    #[test]
    fn with_little_room_jitter_is_not_enough_and_budget_or_breaker_are() {
        let seeds = 1..=short_or_long(2, 20);
        let [naive, jitter, budget, breaker, _] = Means::ALL;
        let recovered = |means: Means| {
            let runs = seeds
                .clone()
                .map(|seed| Run::play(means, 540, seed).unwrap());
            runs.filter(|run| run.recovered_after().is_some()).count()
        };
        let all = seeds.clone().count();
        assert_eq!(recovered(naive), 0);
        assert!(recovered(jitter) < all);
        assert_eq!((recovered(budget), recovered(breaker)), (all, all));
    }
}
