//! A number of places that follows what becomes of the calls: it finds the knee, and backs off.

use std::{collections::VecDeque, time::Duration};

use buttress_core::{Clock, clock::ManualHand};
use buttress_rate_limiter::{AdaptiveLimit, Aimd, ConcurrencyLimiter, Gradient2, Vegas};
use buttress_testkit::tier::short_or_long;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A service that serves so many at once in ten milliseconds, and queues the rest: twice as many take twice as long. All
/// places are taken, all the time.
struct Simulated {
    limiter: ConcurrencyLimiter,
    hand: ManualHand,
}

impl Simulated {
    fn new(rule: impl Into<AdaptiveLimit>) -> Self {
        let (clock, hand) = Clock::manual();
        let limiter = ConcurrencyLimiter::builder("adaptive", 20)
            .adaptive(rule)
            .clock(clock)
            .build()
            .unwrap();
        Self { limiter, hand }
    }

    /// The limits that it had on the way.
    fn rounds(&self, capacity: u32, rounds: usize) -> Vec<usize> {
        let round = |_| {
            let places = std::iter::from_fn(|| self.limiter.try_acquire().ok());
            let running: Vec<_> = places.collect();
            let load = f64::from(u32::try_from(running.len()).unwrap()) / f64::from(capacity);
            self.hand.advance((10 * MILLISECOND).mul_f64(load.max(1.0)));
            for permit in running {
                permit.succeeded();
            }
            self.limiter.limit()
        };
        (0..rounds).map(round).collect()
    }
}

fn vegas() -> Vegas {
    Vegas::new().places(2, 1000).sample(MILLISECOND, 2)
}

/// So slow that a fifth more than it can serve at once is too slow.
fn aimd() -> Aimd {
    Aimd::new()
        .places(2, 1000)
        .sample(MILLISECOND, 2)
        .slow(12 * MILLISECOND)
}

fn mean(limits: &[usize]) -> f64 {
    let sum: usize = limits.iter().sum();
    let as_float = |number: usize| f64::from(u32::try_from(number).unwrap());
    as_float(sum) / as_float(limits.len())
}

#[test]
fn vegas_finds_the_knee_and_keeps_a_few_in_the_queue() {
    for capacity in [10, 50, 300] {
        let service = Simulated::new(vegas());
        let limits = service.rounds(capacity, short_or_long(2_500, 50_000));
        let settled = &limits[1_000..];
        // Beta times the logarithm in the queue at most, and as much again in one step.
        let log = f64::from(capacity).log10().floor();
        let most = settled.iter().max().copied().unwrap();
        let bound = f64::from(capacity) + 13.0 * log;
        assert!(
            f64::from(u32::try_from(most).unwrap()) <= bound,
            "{capacity}: {most}"
        );
        let mean = mean(settled);
        let knee = f64::from(capacity);
        assert!(mean >= knee * 0.9 && mean <= bound, "{capacity}: {mean}");
    }
}

#[test]
fn vegas_does_not_follow_its_own_queue_upwards() {
    let service = Simulated::new(vegas().look_after(10));
    // It looks hundreds of times what a call takes without load, and each time it queues.
    let limits = service.rounds(50, short_or_long(4_000, 100_000));
    let highest = limits[1_000..].iter().max().copied().unwrap();
    assert!(highest <= 70, "{highest}");
}

/// Of a service that serves one call after another, a sample sees few of those that are under way: what comes back in the
/// first ones of a look began long before it.
#[test]
fn vegas_does_not_follow_its_own_queue_upwards_where_calls_outlast_a_sample() {
    let service = Simulated::new(vegas().look_after(10));
    let mut running = VecDeque::new();
    let mut highest = 0;
    for round in 0..short_or_long(100_000, 2_000_000) {
        running.extend(
            std::iter::from_fn(|| service.limiter.try_acquire().ok()).map(|it| (round, it)),
        );
        // Fifty at once, ten milliseconds each: five a millisecond.
        service.hand.advance(MILLISECOND / 5);
        if running
            .front()
            .is_some_and(|(since, _)| round - since >= 50)
        {
            let (_, permit) = running.pop_front().unwrap();
            permit.succeeded();
        }
        if round > 20_000 {
            highest = highest.max(service.limiter.limit());
        }
    }
    assert!(highest <= 80, "{highest}");
}

#[test]
fn aimd_finds_the_bound_on_latency_and_saws_below_it() {
    for capacity in [10, 50, 300_u32] {
        let service = Simulated::new(aimd());
        let limits = service.rounds(capacity, short_or_long(1_500, 50_000));
        let settled = &limits[700..];
        let knee = f64::from(capacity) * 1.2;
        let (least, most) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
        let [least, most] = [least, most].map(|it| f64::from(u32::try_from(*it).unwrap()));
        assert!(most <= knee + 1.0, "{capacity}: {most}");
        assert!(least >= knee * 0.9 - 2.0, "{capacity}: {least}");
    }
}

#[test]
fn both_back_off_when_there_is_less_and_come_back_when_there_is_more() {
    let rules: [(AdaptiveLimit, &str); 2] = [(vegas().into(), "vegas"), (aimd().into(), "aimd")];
    for (rule, name) in rules {
        let service = Simulated::new(rule);
        let before = mean(&service.rounds(200, 1_500)[1_000..]);
        let less = mean(&service.rounds(40, 1_500)[1_000..]);
        let after = mean(&service.rounds(200, 1_500)[1_000..]);
        assert!((180.0..=250.0).contains(&before), "{name}: {before}");
        assert!(less <= 60.0, "{name}: {less}");
        assert!((180.0..=250.0).contains(&after), "{name}: {after}");
    }
}

#[test]
fn an_adaptive_limit_is_not_more_for_places_that_nobody_takes() {
    let rules: [(AdaptiveLimit, &str); 3] = [
        (vegas().into(), "vegas"),
        (aimd().into(), "aimd"),
        (Gradient2::new().places(2, 1000).into(), "gradient2"),
    ];
    for (rule, name) in rules {
        let service = Simulated::new(rule);
        for _ in 0..1_000 {
            let few: Vec<_> = (0..5)
                .map(|_| service.limiter.try_acquire().unwrap())
                .collect();
            service.hand.advance(10 * MILLISECOND);
            for permit in few {
                permit.succeeded();
            }
        }
        assert_eq!(service.limiter.limit(), 20, "{name}");
    }
}

#[test]
fn what_is_refused_or_given_up_late_makes_fewer_places_by_the_rules_that_heed_it() {
    let aimd = || -> AdaptiveLimit { aimd().sample(MILLISECOND, 1).into() };
    let vegas = || -> AdaptiveLimit { vegas().sample(MILLISECOND, 1).into() };
    let gradient = || -> AdaptiveLimit { Gradient2::new().sample(MILLISECOND, 1).into() };
    for (rule, refused, late, early) in [
        (aimd as fn() -> AdaptiveLimit, true, true, false),
        (vegas, true, false, false),
        (gradient, false, false, false),
    ] {
        for (took, is_refused, shrinks) in
            [(1, true, refused), (20, false, late), (11, false, early)]
        {
            let service = Simulated::new(rule());
            for _ in 0..3 {
                let permit = service.limiter.try_acquire().unwrap();
                service.hand.advance(took * MILLISECOND);
                match is_refused {
                    true => permit.overloaded(),
                    false => drop(permit),
                }
            }
            let limit = service.limiter.limit();
            assert_eq!(limit < 20, shrinks, "{:?} {took}: {limit}", rule());
            assert_eq!(service.limiter.running(), 0);
        }
    }
}
