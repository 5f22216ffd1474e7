//! What happens to a fleet when its board fails, its instances die and clocks jump, on clocks that
//! the test moves.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use buttress_circuit_breaker::{
    BreakerFleet, Cause, CircuitBreaker, FleetEvent, FleetEventKind, FleetPolicy, OpenTime, Rate,
    State,
};
use buttress_core::{Clock, Registry, clock::ManualHand};
use buttress_store::{
    Deadline, Gate, Key, Phase, StoreError, StoreErrorKind,
    board::{Board, MemoryBoard, Page, Post},
};
use buttress_testkit::{
    fault::{Fault, Injected, Plan, fault_sweep},
    seed::Seed,
    short_or_long,
};
use rand::RngExt as _;

use crate::{
    fleet::{Ground, Instance, four_calls},
    stand::{HOUR, MS, SECOND},
};

#[tokio::test]
async fn what_a_dead_instance_said_fades() {
    let hour = four_calls().open_time(OpenTime::fixed(HOUR));
    let mut ground = Ground::with(3, &hour, FleetPolicy::default())
        .introduced()
        .await;
    for instance in &ground.instances[..2] {
        instance.calls("FFFF");
    }
    for instance in &ground.instances[..2] {
        instance.fleet.run_once().await.unwrap();
    }
    ground.instances.drain(..2);
    ground.passes(10 * SECOND);
    ground.round().await;
    assert_eq!(ground.states(), [State::Closed]);
    assert_eq!(ground.instances[0].fleet.views()[0].members, 1);
}

#[tokio::test]
async fn one_that_stops_takes_down_what_it_said() {
    let ground = Ground::new(3).introduced().await;
    ground.instances[0].fleet.run_until(async {}).await;
    ground.instances[1].fleet.run_once().await.unwrap();
    assert_eq!(ground.instances[1].fleet.views()[0].members, 2);
}

/// Forwards and back, by more and by less than anything lives.
#[tokio::test]
async fn a_boards_clock_that_jumps_opens_nothing_and_is_got_over() {
    let tally = buttress_testkit::tally::suite("X11");
    for (jump, back) in [
        (2 * SECOND, false),
        (HOUR, false),
        (2 * SECOND, true),
        (HOUR, true),
    ] {
        let ground = Ground::new(4).introduced().await;
        for instance in &ground.instances {
            instance.calls("SSS");
        }
        ground.instances[0].calls("FFF");
        ground.round().await;
        let jumped = if back {
            // Another server took over, whose clock is behind, with the same notices or none.
            let (clock, hand) = Clock::manual();
            hand.advance(1000 * HOUR - jump);
            let board = MemoryBoard::with_clock(clock);
            Ground {
                board,
                hand,
                instances: vec![],
            }
        } else {
            ground.hand.advance(jump);
            Ground {
                board: ground.board.clone(),
                hand: ManualHand::clone(&ground.hand),
                instances: vec![],
            }
        };
        let board = jumped.board.clone();
        let others: Vec<_> = (0..3)
            .map(|_| Instance::new(board.clone(), &four_calls(), FleetPolicy::default()))
            .collect();
        for _ in 0..3 {
            ground.round().await;
            for other in &others {
                other.fleet.run_once().await.unwrap();
            }
        }
        assert!(
            ground.instances[1..]
                .iter()
                .all(|it| it.state() == State::Closed)
        );
        for other in &others {
            assert_eq!(other.state(), State::Closed);
            other.calls("SSSFFF");
        }
        for _ in 0..2 {
            for other in &others {
                other.fleet.run_once().await.unwrap();
            }
            ground.round().await;
        }
        if !back {
            assert!(ground.all(State::Open), "{jump:?}: {:?}", ground.states());
        }
    }
    tally.faults(4);
}

/// A board that hangs, or says no.
#[derive(Debug, Default)]
struct Bad {
    hangs: AtomicBool,
}

#[async_trait::async_trait]
impl Board for Bad {
    async fn exchange(
        &self,
        _: &Key,
        _: Option<&Post>,
        deadline: Deadline,
    ) -> Result<Page, StoreError> {
        if self.hangs.load(Relaxed) {
            let never = std::future::pending::<Result<Page, StoreError>>();
            return deadline.run(Phase::Statement, never).await;
        }
        Err(StoreError::new(StoreErrorKind::Unreachable, Phase::Connect))
    }
}

#[tokio::test(start_paused = true)]
async fn without_its_board_it_goes_on_alone_and_pays_one_deadline() {
    for hangs in [false, true] {
        let bad = Bad {
            hangs: hangs.into(),
        };
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let registry = Registry::new();
        let fleet = BreakerFleet::builder("shop", bad)
            .observer(move |event: &FleetEvent| hears.lock().unwrap().push(event.kind.clone()))
            .registry(&registry)
            .build()
            .unwrap();
        let policy = four_calls().build().unwrap();
        let breakers: Vec<_> = (0..100)
            .map(|number| {
                let breaker = CircuitBreaker::builder(format!("b{number}"));
                breaker.policy(policy.clone()).build()
            })
            .collect();
        for breaker in &breakers {
            fleet.add(breaker).unwrap();
        }
        let clock = Clock::tokio();
        let begun = clock.now();
        assert!(fleet.run_once().await.is_err());
        let took = clock.now().saturating_since(begun);
        assert!(took <= 501 * MS, "{took:?}");
        assert!(fleet.is_alone());
        let kinds = std::mem::take(&mut *heard.lock().unwrap());
        assert!(
            matches!(kinds[..], [FleetEventKind::Failed { .. }]),
            "{kinds:?}"
        );
        assert_eq!(registry.entries()[0].state(), "alone");
        for breaker in &breakers {
            for _ in 0..4 {
                breaker.try_acquire().unwrap().failure();
            }
            assert_eq!(breaker.state(), State::Open, "by what it sees itself");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_the_background_a_quorum_opens_it_for_all_within_two_intervals() {
    let board = MemoryBoard::new();
    let (stop, _) = tokio::sync::broadcast::channel::<()>(1);
    let instances: Vec<_> = (0..5)
        .map(|_| {
            let breaker = CircuitBreaker::builder("payments")
                .policy(four_calls().build().unwrap())
                .build();
            let fleet = BreakerFleet::new("shop", board.clone()).unwrap();
            fleet.add(&breaker).unwrap();
            let mut stopped = stop.subscribe();
            let runs = fleet.clone();
            let task = tokio::spawn(async move {
                runs.run_until(async { drop(stopped.recv().await) }).await;
            });
            (breaker, fleet, task)
        })
        .collect();
    tokio::time::sleep(5 * SECOND).await;
    for (breaker, ..) in &instances[..3] {
        for _ in 0..4 {
            breaker.try_acquire().unwrap().failure();
        }
    }
    for (breaker, ..) in &instances[3..] {
        breaker.try_acquire().unwrap().success();
    }
    let clock = Clock::tokio();
    let begun = clock.now();
    while instances.iter().any(|(it, ..)| it.state() != State::Open) {
        tokio::time::sleep(MS).await;
        let took = clock.now().saturating_since(begun);
        // A change of state is told after at most a tenth, and heard with the next exchange.
        assert!(took <= 1400 * MS, "{took:?}");
    }
    stop.send(()).unwrap();
    for (_, _, task) in instances {
        task.await.unwrap();
    }
}

/// A board in which anything can go wrong at any exchange.
struct FaultBoard {
    board: MemoryBoard,
    plan: Plan<StoreError>,
}

impl std::fmt::Debug for FaultBoard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultBoard")
    }
}

#[async_trait::async_trait]
impl Board for FaultBoard {
    async fn exchange(
        &self,
        page: &Key,
        post: Option<&Post>,
        deadline: Deadline,
    ) -> Result<Page, StoreError> {
        let exchange = self.board.exchange(page, post, deadline);
        let step = self.plan.around("exchange", exchange);
        deadline.run(Phase::Statement, step).await
    }
}

/// Two bad ones of three and one good one: whatever strikes one of the bad ones' exchanges, the
/// good one opens in the end, by the others; and one bad one alone opens nothing.
#[tokio::test(start_paused = true)]
async fn any_fault_at_any_exchange_costs_a_round_and_opens_nothing_wrongly() {
    let _tally = buttress_testkit::tally::suite("X2");
    let error = |injected: Injected| {
        let phase = match injected.may_have_been_done() {
            true => Phase::Statement,
            false => Phase::Connect,
        };
        StoreError::new(StoreErrorKind::Lost, phase)
    };
    for bad in [1, 2] {
        let runs = fault_sweep(&Fault::ALL, error, async |plan| {
            let board = MemoryBoard::new();
            let gate = || Gate::redis().with_longest_pause(SECOND).unwrap();
            let member = |board: Arc<dyn Board>| {
                let breaker = CircuitBreaker::builder("payments")
                    .policy(
                        four_calls()
                            .open_time(OpenTime::fixed(HOUR))
                            .build()
                            .unwrap(),
                    )
                    .build();
                let fleet = BreakerFleet::builder("shop", board).gate(gate());
                let fleet = fleet.build().unwrap();
                fleet.add(&breaker).unwrap();
                (breaker, fleet)
            };
            let faulty = Arc::new(FaultBoard {
                board: board.clone(),
                plan,
            });
            let members = [
                member(faulty),
                member(Arc::new(board.clone())),
                member(Arc::new(board.clone())),
            ];
            for (number, (breaker, _)) in members.iter().enumerate() {
                for _ in 0..4 {
                    match number < bad {
                        true => breaker.try_acquire().unwrap().failure(),
                        false => breaker.try_acquire().unwrap().success(),
                    }
                }
            }
            for _ in 0..6 {
                for (_, fleet) in &members {
                    let _ended = fleet.run_once().await;
                }
                tokio::time::advance(SECOND).await;
            }
            let good = members[2].0.state();
            match bad {
                1 => assert_eq!(good, State::Closed),
                _ => assert_eq!(good, State::Open),
            }
        })
        .await;
        assert_eq!(runs, 36, "six exchanges, six faults");
    }
}

/// A target that is down and up again at random, fleets of random size, exchanges and calls in any
/// order, some exchanges left out: with one instance that sees a target of its own.
#[tokio::test]
async fn a_simulated_fleet_opens_together_closes_together_and_never_for_one() {
    let tally = buttress_testkit::tally::suite("CB6");
    let seed = Seed::new();
    let mut rng = seed.rng();
    let mut opened_by_fleet = 0_usize;
    for run in 0..short_or_long(60, 3_000) {
        let count = rng.random_range(3..9);
        let sharing = FleetPolicy::default().share(Rate::percent(50)).unwrap();
        let policy = four_calls().open_time(OpenTime::growing(4 * SECOND, 20 * SECOND));
        let ground = Ground::with(count, &policy, sharing).introduced().await;
        let mut down = false;
        // As long as nobody but the one bad instance sees failures, no other opens.
        let mut healthy_so_far = true;
        for _ in 0..rng.random_range(40..160) {
            if rng.random_ratio(1, 25) {
                down = !down;
            }
            healthy_so_far &= !down;
            for (number, instance) in ground.instances.iter().enumerate() {
                if rng.random_ratio(2, 3)
                    && let Ok(permit) = instance.breaker.try_acquire()
                {
                    match down || number == 0 {
                        true => permit.failure(),
                        false => permit.success(),
                    }
                }
                if rng.random_ratio(9, 10) {
                    instance.fleet.run_once().await.unwrap();
                }
            }
            ground.passes(rng.random_range(100..1500) * MS);
            if healthy_so_far {
                let others = &ground.instances[1..];
                assert!(
                    others.iter().all(|it| it.state() == State::Closed),
                    "run {run}"
                );
            }
        }
        let fleet = |it: &Instance| it.causes().iter().filter(|it| **it == Cause::Fleet).count();
        opened_by_fleet += ground.instances.iter().map(fleet).sum::<usize>();
        // Well again: what is called and exchanges is closed within the longest open time and a
        // life, and stays so.
        for step in 0..60 {
            for instance in &ground.instances {
                if let Ok(permit) = instance.breaker.try_acquire() {
                    permit.success();
                }
                instance.fleet.run_once().await.unwrap();
            }
            ground.passes(SECOND);
            if step > 40 {
                assert!(
                    ground.all(State::Closed),
                    "run {run}: {:?}",
                    ground.states()
                );
            }
        }
    }
    assert!(opened_by_fleet > 20, "{opened_by_fleet}: nothing was tried");
    tally.operations(short_or_long(60, 3_000));
}
