//! Which breakers are of a fleet, and under which name.

use buttress_circuit_breaker::{BreakerFleet, CircuitBreaker, State};
use buttress_store::board::MemoryBoard;

use crate::fleet::{Ground, four_calls};

#[test]
fn a_breaker_is_of_one_fleet_and_its_name_has_its_bounds() {
    let fleet = |name: &'static str| BreakerFleet::new(name, MemoryBoard::new());
    for name in ["", "ä"] {
        assert_eq!(fleet(name).unwrap_err().field(), "name");
    }
    let (one, other) = (fleet("one").unwrap(), fleet("other").unwrap());
    let breaker = CircuitBreaker::new("a");
    one.add(&breaker).unwrap();
    assert_eq!(one.add(&breaker).unwrap_err().field(), "breaker");
    assert_eq!(other.add(&breaker).unwrap_err().field(), "breaker");
    for name in [String::new(), "x".repeat(151)] {
        let breaker = CircuitBreaker::new(name);
        assert_eq!(one.add(&breaker).unwrap_err().field(), "breaker.name");
    }
    assert!(format!("{one:?}").contains("one"));
    let twin = CircuitBreaker::new("a");
    assert_eq!(one.add(&twin).unwrap_err().field(), "breaker.name");
}

#[tokio::test]
async fn one_that_is_made_anew_under_its_name_is_heard_at_once() {
    let ground = Ground::new(2).introduced().await;
    let (first, other) = (&ground.instances[0], &ground.instances[1]);
    for _ in 0..2 {
        let breaker = CircuitBreaker::builder("orders")
            .policy(four_calls().build().unwrap())
            .build();
        first.fleet.add(&breaker).unwrap();
        let twin = CircuitBreaker::builder("orders").build();
        other.fleet.add(&twin).unwrap();
        for _ in 0..4 {
            breaker.try_acquire().unwrap().failure();
        }
        for _ in 0..3 {
            first.fleet.run_once().await.unwrap();
            other.fleet.run_once().await.unwrap();
        }
        let views = other.fleet.views();
        let view = views.iter().find(|it| it.name == "orders").unwrap();
        assert_eq!((view.members, view.open), (2, 1), "{view:?}");
    }
}

#[tokio::test]
async fn breakers_of_a_family_share_with_those_of_their_key() {
    use buttress_circuit_breaker::CircuitBreakers;
    let board = MemoryBoard::new();
    let member = || {
        let template = CircuitBreaker::builder("hosts").policy(four_calls().build().unwrap());
        let hosts = CircuitBreakers::new(template, 100).unwrap();
        let fleet = BreakerFleet::new("shop", board.clone()).unwrap();
        for host in ["a", "b"] {
            fleet.add(&hosts.get(host).unwrap()).unwrap();
        }
        (hosts, fleet)
    };
    let members = [member(), member(), member()];
    for _ in 0..2 {
        for (hosts, fleet) in &members {
            for _ in 0..4 {
                if let Ok(permit) = hosts.get("a").unwrap().try_acquire() {
                    permit.failure();
                }
            }
            fleet.run_once().await.unwrap();
        }
    }
    let state = |host: &str| {
        let state = |(hosts, _): &(CircuitBreakers, _)| hosts.get(host).unwrap().state();
        members.iter().map(state).collect::<Vec<_>>()
    };
    assert_eq!(state("a"), [State::Open; 3]);
    assert_eq!(state("b"), [State::Closed; 3]);
    drop(members);
}
