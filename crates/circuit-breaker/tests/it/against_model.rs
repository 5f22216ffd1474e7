//! The breaker does at every step what the naive model does, whatever is done to it.

use std::{fmt::Write as _, time::Duration};

use buttress_circuit_breaker::{Abandoned, CircuitBreaker, Isolation, OwnedPermit};
use buttress_core::Clock;
use buttress_testkit::{seed::Seed, tier::short_or_long};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner},
};
use rand::rngs::StdRng;

use crate::{
    config::{Config, Over},
    model::{Bug, Model, Pass, Said, of},
};

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    /// The permit to settle, counted from the last one given.
    Settle(usize, Said),
    /// A call that takes no time.
    Call(Said),
    Wait(u64),
    OpenFor(u64),
    ForceOpen,
    Disable,
    MetricsOnly,
    Close,
    Isolate,
    Rejoin,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        5 => Just(Said::Success),
        5 => Just(Said::Failure),
        1 => Just(Said::Ignored),
        2 => Just(Said::Dropped),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => Just(Step::Acquire),
        20 => (0..6_usize, said()).prop_map(|(which, said)| Step::Settle(which, said)),
        30 => said().prop_map(Step::Call),
        14 => prop_oneof![Just(1), Just(10), Just(50), 0..400_u64].prop_map(Step::Wait),
        1 => (0..200_u64).prop_map(Step::OpenFor),
        1 => prop_oneof![Just(Step::ForceOpen), Just(Step::Disable), Just(Step::MetricsOnly)],
        3 => Just(Step::Close),
        1 => Just(Step::Isolate),
        2 => Just(Step::Rejoin),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let window = prop_oneof![
        1 => Just(None),
        4 => (1..40_u32).prop_map(|calls| Some(Over::Calls(calls))),
        4 => (100..2000_u64, 2..10_u32).prop_map(|(all, buckets)| Some(Over::Millis(all, buckets))),
    ];
    let share = || (1..8_u32, 1..8_u32).prop_map(|(part, whole)| (part.min(whole), whole));
    (
        (window, 1..10_u32, prop::option::weighted(0.8, share())),
        prop::option::weighted(0.5, (prop_oneof![Just(10), 1..200_u64], share())),
        prop::option::weighted(0.3, 1..6_u32),
        (
            1..6_u32,
            any::<bool>(),
            prop::option::weighted(0.7, 20..400_u64),
        ),
        (1..200_u64, 0..1000_u64),
        prop_oneof![
            Just(Abandoned::Neutral),
            Just(Abandoned::Failure),
            Just(Abandoned::FailureWhenMost)
        ],
    )
        .prop_map(
            |((window, minimum, failure), slow, consecutive, round, open, abandoned)| {
                let most = match window {
                    Some(Over::Calls(calls)) => calls,
                    _ => u32::MAX,
                };
                Config {
                    window,
                    minimum: minimum.min(most),
                    failure: failure.filter(|_| window.is_some()),
                    slow: slow.filter(|_| window.is_some()),
                    consecutive: consecutive.or(window.is_none().then_some(3)),
                    permits: round.0,
                    all_succeed: round.1,
                    limit_ms: round.2,
                    first_ms: open.0,
                    cap_ms: open.0 + open.1,
                    abandoned,
                }
            },
        )
}

/// Does the steps to both and compares after each; the error says where they differ.
fn compare(config: &Config, steps: &[Step], bug: Option<Bug>) -> Result<(), String> {
    let (clock, hand) = Clock::manual();
    let policy = config.policy().map_err(|error| error.to_string())?;
    let breaker = CircuitBreaker::builder("compared")
        .policy(policy)
        .clock(clock)
        .build();
    let mut model = Model::new(config.clone(), bug);
    let mut permits: Vec<(OwnedPermit, Pass)> = Vec::new();
    let mut isolations: Vec<Isolation> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let differ = |what: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
            let mut text = format!("step {at} {step:?}: {what}: {ours:?}, the model {theirs:?}");
            let _ = write!(text, " ({config:?})");
            Err(text)
        };
        match step {
            Step::Acquire | Step::Call(_) => match (breaker.try_acquire_owned(), model.acquire()) {
                (Ok(permit), Ok(pass)) => match step {
                    Step::Call(said) => settle(permit, pass, *said, &mut model),
                    _ => permits.push((permit, pass)),
                },
                (Err(rejection), Err(rest)) => {
                    if rejection.retry_after() != rest {
                        return differ("retry after", &rejection.retry_after(), &rest);
                    }
                }
                (ours, theirs) => return differ("admission", &ours, &theirs),
            },
            Step::Settle(which, said) => {
                if *which < permits.len() {
                    let (permit, pass) = permits.remove(permits.len() - 1 - which);
                    settle(permit, pass, *said, &mut model);
                }
            }
            Step::Wait(ms) => {
                hand.advance(Duration::from_millis(*ms));
                model.now += ms;
            }
            Step::OpenFor(ms) => {
                breaker.open_for(Duration::from_millis(*ms));
                model.open_for(*ms);
            }
            Step::ForceOpen => (breaker.force_open(), model.force_open()).0,
            Step::Disable => (breaker.disable(), model.disable()).0,
            Step::MetricsOnly => (breaker.metrics_only(), model.metrics_only()).0,
            Step::Close => (breaker.close(), model.close()).0,
            Step::Isolate => {
                isolations.push(breaker.isolate());
                model.isolate();
            }
            Step::Rejoin => {
                if isolations.pop().is_some() {
                    model.rejoin();
                }
            }
        }
        if breaker.state() != model.state() {
            return differ("state", &breaker.state(), &model.state());
        }
        if breaker.openings() != model.openings() {
            return differ("openings", &breaker.openings(), &model.openings());
        }
        if breaker.retry_after() != model.retry_after() {
            return differ("open for", &breaker.retry_after(), &model.retry_after());
        }
        if let Some(counts) = model.counts()
            && of(&breaker.counts()) != counts
        {
            return differ("counts", &breaker.counts(), &counts);
        }
    }
    Ok(())
}

fn settle(permit: OwnedPermit, pass: Pass, said: Said, model: &mut Model) {
    match said {
        Said::Success => permit.success(),
        Said::Failure => permit.failure(),
        Said::Ignored => permit.ignore(),
        Said::Dropped => drop(permit),
    }
    model.settle(pass, said);
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..most)
}

#[test]
fn cb1_cb5_breaker_and_naive_model_agree_at_every_step() {
    let tally = buttress_testkit::tally::suite("CB1 CB5");
    each_breaker_and_naive_model_agree_at_every_step();
    tally.operations(short_or_long(2000, 100_000));
}

proptest! {
    #![proptest_config(Runs { cases: short_or_long(2000, 100_000), ..Runs::default() })]

    fn each_breaker_and_naive_model_agree_at_every_step(
        config in config(),
        steps in steps(short_or_long(200, 400)),
    ) {
        compare(&config, &steps, None).map_err(TestCaseError::fail)?;
    }
}

/// Many short ones, drawn without proptest, which takes longer to draw than a breaker to do: each
/// configuration is used for some hundred sequences.
#[test]
fn cb1_a_hundred_thousand_short_sequences_agree_as_well() {
    let tally = buttress_testkit::tally::suite("CB1");
    let seed = Seed::new();
    let mut rng = seed.rng();
    let drawn = rng.next_u64().to_le_bytes().repeat(4);
    let mut runner = TestRunner::new_with_rng(
        Runs::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, &drawn),
    );
    let sequences = short_or_long(100_000, 1_000_000);
    let mut config_now = None;
    for sequence in 0..sequences {
        if sequence % 200 == 0 {
            config_now = Some(config().new_tree(&mut runner).unwrap().current());
        }
        let config = config_now.as_ref().unwrap();
        let steps: Vec<_> = (0..rng.random_range(5..25))
            .map(|_| draw(&mut rng))
            .collect();
        if let Err(differs) = compare(config, &steps, None) {
            panic!("{differs}\n{steps:?}");
        }
    }
    tally.operations(sequences);
}

fn draw(rng: &mut StdRng) -> Step {
    let said = match rng.random_range(0..13_u32) {
        0..5 => Said::Success,
        5..10 => Said::Failure,
        10 => Said::Ignored,
        _ => Said::Dropped,
    };
    match rng.random_range(0..100_u32) {
        0..20 => Step::Acquire,
        20..40 => Step::Settle(rng.random_range(0..6), said),
        40..74 => Step::Call(said),
        74..90 => Step::Wait([1, 10, 50, 399][rng.random_range(0..4)]),
        90 => Step::OpenFor(rng.random_range(0..200)),
        91 => Step::ForceOpen,
        92 => Step::Disable,
        93 => Step::MetricsOnly,
        94..97 => Step::Close,
        97 => Step::Isolate,
        _ => Step::Rejoin,
    }
}

/// How many of these runs a bug may survive before the comparison is no good.
const RUNS: u32 = 3000;

#[test]
fn cb1_every_planted_bug_is_noticed() {
    let tally = buttress_testkit::tally::suite("CB1");
    for bug in Bug::ALL {
        let mut runner = TestRunner::deterministic();
        let noticed = (0..RUNS).any(|_| {
            let config = config().new_tree(&mut runner).unwrap().current();
            let steps = steps(200).new_tree(&mut runner).unwrap().current();
            compare(&config, &steps, Some(bug)).is_err()
        });
        assert!(noticed, "{bug:?} passed for a correct breaker");
    }
    tally.caught(Bug::ALL.len());
}
