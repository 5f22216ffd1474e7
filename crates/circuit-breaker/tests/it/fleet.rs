//! Instances that share opinions, on clocks that the test moves.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_circuit_breaker::{
    BreakerFleet, Cause, CircuitBreaker, Event, EventKind, FleetPolicy, OpenTime, PolicyBuilder,
    State,
};
use buttress_core::{Clock, clock::ManualHand};
use buttress_store::{
    Deadline, Key,
    board::{Board, MemoryBoard},
};

use crate::stand::{HOUR, MS, SECOND, ten_seconds};

/// One instance: its breaker, its place in the fleet, its clock, and what it was told.
pub(crate) struct Instance {
    pub(crate) breaker: CircuitBreaker,
    pub(crate) fleet: BreakerFleet,
    pub(crate) hand: ManualHand,
    causes: Arc<Mutex<Vec<Cause>>>,
}

/// Several, and the board between them. No two clocks say the same.
pub(crate) struct Ground {
    pub(crate) board: MemoryBoard,
    pub(crate) hand: ManualHand,
    pub(crate) instances: Vec<Instance>,
}

pub(crate) fn four_calls() -> PolicyBuilder {
    ten_seconds()
        .count_window(10)
        .minimum_calls(4)
        .half_open_permits(1)
}

impl Instance {
    pub(crate) fn new(
        board: impl Board + 'static,
        policy: &PolicyBuilder,
        sharing: FleetPolicy,
    ) -> Self {
        let (clock, hand) = Clock::manual();
        let causes = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&causes);
        let breaker = CircuitBreaker::builder("payments")
            .policy(policy.clone().build().unwrap())
            .clock(clock)
            .observer(move |event: &Event| {
                if let EventKind::Moved { cause, .. } = event.kind {
                    hears.lock().unwrap().push(cause);
                }
            })
            .build();
        let fleet = BreakerFleet::builder("shop", board).policy(sharing);
        let fleet = fleet.build().unwrap();
        fleet.add(&breaker).unwrap();
        Self {
            breaker,
            fleet,
            hand,
            causes,
        }
    }

    pub(crate) fn calls(&self, results: &str) {
        for result in results.chars() {
            let permit = self.breaker.try_acquire().unwrap();
            match result {
                'S' => permit.success(),
                _ => permit.failure(),
            }
        }
    }

    pub(crate) fn state(&self) -> State {
        self.breaker.state()
    }

    pub(crate) fn causes(&self) -> Vec<Cause> {
        std::mem::take(&mut *self.causes.lock().unwrap())
    }
}

impl Ground {
    pub(crate) fn new(instances: usize) -> Self {
        Self::with(instances, &four_calls(), FleetPolicy::default())
    }

    pub(crate) fn with(instances: usize, policy: &PolicyBuilder, sharing: FleetPolicy) -> Self {
        let (clock, hand) = Clock::manual();
        let board = MemoryBoard::with_clock(clock);
        hand.advance(1000 * HOUR);
        let instances: Vec<_> = (0..instances)
            .map(|_| Instance::new(board.clone(), policy, sharing))
            .collect();
        for (number, instance) in (1..).zip(&instances) {
            instance.hand.advance(number * HOUR);
        }
        Self {
            board,
            hand,
            instances,
        }
    }

    pub(crate) fn passes(&self, time: Duration) {
        self.hand.advance(time);
        for instance in &self.instances {
            instance.hand.advance(time);
        }
    }

    /// All exchange once.
    pub(crate) async fn round(&self) {
        for instance in &self.instances {
            instance.fleet.run_once().await.unwrap();
        }
    }

    /// One that only reads, and one after which all are heard by all.
    pub(crate) async fn introduced(self) -> Self {
        for _ in 0..3 {
            self.round().await;
        }
        self
    }

    pub(crate) fn states(&self) -> Vec<State> {
        self.instances.iter().map(Instance::state).collect()
    }

    pub(crate) fn all(&self, state: State) -> bool {
        self.instances.iter().all(|it| it.state() == state)
    }
}

#[tokio::test]
async fn one_bad_instance_does_not_open_it_for_the_others() {
    for instances in 2..6 {
        let ground = Ground::new(instances).introduced().await;
        for instance in &ground.instances[1..] {
            instance.calls("SSSSS");
        }
        ground.instances[0].calls("FFFF");
        for _ in 0..50 {
            ground.round().await;
            ground.passes(SECOND);
            if ground.instances[0].breaker.retry_after() == Some(Duration::ZERO) {
                ground.instances[0].calls("F"); // its probe
            }
            assert!(
                ground.instances[1..]
                    .iter()
                    .all(|it| it.state() == State::Closed)
            );
        }
    }
}

#[tokio::test]
async fn a_quorum_opens_it_for_all_in_one_round_more_and_for_as_long_as_it_lasts() {
    let ground = Ground::new(4).introduced().await;
    for instance in &ground.instances {
        instance.calls("SSS");
    }
    ground.instances[0].calls("FFF");
    ground.passes(2 * SECOND);
    ground.instances[1].calls("FFF");
    ground.round().await;
    assert_eq!(
        ground.instances[3].state(),
        State::Open,
        "it was the last to exchange"
    );
    ground.round().await;
    assert!(ground.all(State::Open), "{:?}", ground.states());
    // The first tries again in eight seconds; then one is open, which is not enough.
    for instance in &ground.instances[2..] {
        assert_eq!(instance.breaker.retry_after(), Some(8 * SECOND));
        assert_eq!(instance.causes(), [Cause::Fleet]);
    }
    let view = ground.instances[3].fleet.views().remove(0);
    // Those who are open because others are have nothing to say.
    assert_eq!(
        (view.members, view.voters, view.open),
        (4, 2, 2),
        "{view:?}"
    );
}

#[tokio::test]
async fn those_who_are_open_because_others_are_do_not_keep_it_open() {
    let ground = Ground::new(6).introduced().await;
    for instance in &ground.instances {
        instance.calls("SSS");
    }
    for instance in &ground.instances[..3] {
        instance.calls("FFF");
    }
    ground.round().await;
    ground.round().await;
    assert!(ground.all(State::Open));
    let before = ground.instances[5].fleet.views().remove(0);
    assert_eq!((before.voters, before.open), (3, 3), "{before:?}");
    // Nobody calls, nobody opens anew: with the three, the fleet's opinion ends.
    ground.passes(10 * SECOND);
    ground.round().await;
    for instance in &ground.instances {
        assert_eq!(instance.breaker.retry_after(), Some(Duration::ZERO));
        instance.calls("S");
        assert_eq!(instance.state(), State::Closed);
    }
    for _ in 0..20 {
        ground.round().await;
        ground.passes(SECOND);
        assert!(ground.all(State::Closed));
    }
}

#[tokio::test]
async fn when_the_others_are_well_again_it_may_try_at_once() {
    let ground = Ground::new(4).introduced().await;
    for instance in &ground.instances {
        instance.calls("SSS");
    }
    for instance in &ground.instances[..2] {
        instance.calls("FFF");
    }
    ground.round().await;
    ground.round().await;
    assert!(ground.all(State::Open));
    for instance in &ground.instances[..2] {
        instance.breaker.close();
        instance.calls("SSSS");
    }
    ground.round().await;
    ground.round().await;
    for instance in &ground.instances[2..] {
        assert_eq!(instance.breaker.retry_after(), Some(Duration::ZERO));
        instance.calls("S");
    }
    assert!(ground.all(State::Closed), "each by its own probe");
}

/// Two of five are open for an hour; the rest has found out that the target is well.
#[tokio::test]
async fn an_instance_that_has_recovered_is_not_opened_by_what_others_saw_before() {
    let hour = four_calls().open_time(OpenTime::fixed(HOUR));
    let sharing = FleetPolicy::default().longest(5 * SECOND).unwrap();
    let ground = Ground::with(4, &hour, sharing).introduced().await;
    for instance in &ground.instances {
        instance.calls("SSS");
    }
    for instance in &ground.instances[..2] {
        instance.calls("FFF");
    }
    ground.round().await;
    ground.round().await;
    assert!(ground.all(State::Open));
    ground.passes(5 * SECOND);
    for instance in &ground.instances[2..] {
        instance.calls("S");
        assert_eq!(instance.state(), State::Closed);
    }
    for _ in 0..60 {
        ground.round().await;
        ground.passes(SECOND);
        let well = ground.instances[2..].iter();
        assert!(well.into_iter().all(|it| it.state() == State::Closed));
    }
    // What they see from now on is news: they fail their probes, and open anew.
    ground.passes(HOUR);
    for instance in &ground.instances[..2] {
        instance.calls("F");
    }
    ground.round().await;
    ground.round().await;
    assert!(ground.all(State::Open));
}

#[tokio::test]
async fn what_is_closed_by_hand_is_not_opened_by_what_others_saw_before() {
    let ground = Ground::new(3).introduced().await;
    for instance in &ground.instances[..2] {
        instance.calls("FFFF");
    }
    ground.round().await;
    ground.round().await;
    assert!(ground.all(State::Open));
    ground.passes(2 * SECOND);
    ground.instances[2].breaker.close();
    for _ in 0..5 {
        ground.round().await;
        assert_eq!(ground.instances[2].state(), State::Closed);
        ground.passes(SECOND);
    }
}

#[tokio::test]
async fn calls_of_those_who_fail_are_added_up_where_each_has_too_few() {
    let ground = Ground::new(5).introduced().await;
    for instance in &ground.instances {
        instance.calls("F");
    }
    assert!(ground.all(State::Closed), "none has seen four");
    for _ in 0..3 {
        ground.round().await;
        ground.passes(200 * MS);
    }
    assert!(ground.all(State::Open), "{:?}", ground.states());
    for instance in &ground.instances {
        assert_eq!(instance.causes(), [Cause::Fleet]);
    }
    // And with what one of them saw it is not done.
    let ground = Ground::new(5).introduced().await;
    ground.instances[0].calls("FFF");
    for _ in 0..20 {
        ground.round().await;
        ground.passes(SECOND);
    }
    assert!(ground.all(State::Closed));
}

#[tokio::test]
async fn states_that_somebody_chose_are_left_alone() {
    let ground = Ground::new(9).introduced().await;
    let [
        first,
        second,
        forced,
        disabled,
        metrics,
        open,
        isolated,
        half,
        _,
    ] = &ground.instances[..]
    else {
        unreachable!("there are nine");
    };
    forced.breaker.force_open();
    disabled.breaker.disable();
    metrics.breaker.metrics_only();
    open.breaker.open_for(3 * SECOND);
    let _isolation = isolated.breaker.isolate();
    half.breaker.open_for(Duration::ZERO);
    let probe = half.breaker.try_acquire().unwrap();
    first.calls("FFFF");
    second.calls("FFFF");
    ground.round().await;
    ground.round().await;
    use State::{Disabled, ForcedOpen, HalfOpen, Isolated, MetricsOnly, Open};
    assert_eq!(
        ground.states(),
        [
            Open,
            Open,
            ForcedOpen,
            Disabled,
            MetricsOnly,
            Open,
            Isolated,
            HalfOpen,
            Open
        ]
    );
    assert_eq!(open.breaker.retry_after(), Some(3 * SECOND));
    probe.success();
}

#[tokio::test]
async fn neither_making_a_fleet_nor_its_first_round_writes_anything() {
    let ground = Ground::new(2);
    let page = Key::new("shop:payments").unwrap();
    let read = async || {
        let deadline = Deadline::after(SECOND);
        ground
            .board
            .exchange(&page, None, deadline)
            .await
            .unwrap()
            .notices
            .len()
    };
    ground.round().await;
    assert_eq!(read().await, 0);
    ground.round().await;
    assert_eq!(read().await, 2, "the page is the right one");
}

#[tokio::test]
async fn one_that_starts_while_the_others_are_open_opens_in_its_first_round() {
    let ground = Ground::new(3).introduced().await;
    for instance in &ground.instances[..2] {
        instance.calls("FFFF");
    }
    ground.round().await;
    let new = Instance::new(ground.board.clone(), &four_calls(), FleetPolicy::default());
    new.fleet.run_once().await.unwrap();
    assert_eq!(new.causes(), [Cause::Fleet]);
}
