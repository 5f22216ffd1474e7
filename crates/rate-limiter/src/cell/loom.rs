//! Loom looks at all orders in which threads can meet at the word.
//!
//! `RUSTFLAGS="--cfg buttress_loom" cargo test -p buttress-rate-limiter --lib --release
//! --target-dir target/loom loom`

use std::sync::atomic::{AtomicU64 as Plain, Ordering::Relaxed};

use loom::{sync::Arc, thread};

use super::Gcra;
use crate::{Bandwidth, Carry, Quota, machine::Plan};

fn plan(permits: u64, burst: u64) -> Plan {
    let quota = Quota::new(Bandwidth::per_second(permits).burst(burst));
    Plan::in_process(&quota.unwrap()).unwrap()
}

/// Runs the model, and says in the output how many orders there were.
pub(crate) fn explore(name: &str, model: impl Fn() + Sync + Send + 'static) {
    let orders = std::sync::Arc::new(Plain::new(0));
    let count = std::sync::Arc::clone(&orders);
    loom::model(move || {
        count.fetch_add(1, Relaxed);
        model();
    });
    println!("loom: {name}: {} orders", orders.load(Relaxed));
}

fn took(gcra: &Gcra, times: u64) -> u64 {
    (0..times)
        .map(|_| u64::from(gcra.take(|| 1000, || 1000, 1, 0).allowed))
        .sum()
}

#[test]
fn loom_exactly_the_burst_is_given_out_while_time_stands_still() {
    explore("the burst", || {
        let gcra = Arc::new(Gcra::new(plan(10, 3)));
        let other = Arc::clone(&gcra);
        let there = thread::spawn(move || took(&other, 2));
        let here = took(&gcra, 2);
        assert_eq!(here + there.join().unwrap(), 3);
    });
}

#[test]
fn loom_what_is_given_back_can_be_had_once() {
    explore("given back", || {
        let gcra = Arc::new(Gcra::new(plan(10, 1)));
        assert_eq!(took(&gcra, 1), 1);
        let other = Arc::clone(&gcra);
        let there = thread::spawn(move || took(&other, 1));
        gcra.give_back(|| 1000, 1);
        let here = took(&gcra, 1);
        assert_eq!(here + there.join().unwrap(), 1);
    });
}

#[test]
fn loom_a_change_of_quota_loses_no_debt() {
    explore("change of quota", || {
        let gcra = Arc::new(Gcra::new(plan(10, 2)));
        let other = Arc::clone(&gcra);
        let there = thread::spawn(move || took(&other, 1));
        gcra.set_plan(|| 1000, plan(10, 3), Carry::AsItIs);
        there.join().unwrap();
        // One was taken of two or of three: as it is carried, one or two are left.
        let left = took(&gcra, 3);
        assert!((1..=2).contains(&left), "{left}");
    });
}

#[test]
fn loom_a_change_to_another_kind_leaves_no_call_on_the_old_word() {
    explore("change of kind", || {
        let gcra = Arc::new(Gcra::new(plan(10, 2)));
        let window = Quota::new(Bandwidth::per_second(2).fixed_window()).unwrap();
        let window = Plan::in_process(&window).unwrap();
        let other = Arc::clone(&gcra);
        let there = thread::spawn(move || took(&other, 2));
        gcra.set_plan(|| 1000, window, Carry::AsItIs);
        let here = took(&gcra, 2);
        let there = there.join().unwrap();
        assert!(here + there <= 2, "{here} {there}");
        assert!(here + there >= 1, "{here} {there}");
    });
}

/// The time is an atomic as well, which one moves on while both take: whoever comes last has seen no less of
/// it than the word has.
#[test]
fn loom_a_burst_that_two_ask_for_while_time_goes_on_is_given_whole() {
    use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
    explore("time goes on", || {
        let gcra = Arc::new(Gcra::new(plan(1, 2)));
        let time = Arc::new(AtomicU64::new(1000));
        let (other, hand) = (Arc::clone(&gcra), Arc::clone(&time));
        let take = |gcra: &Gcra, time: &AtomicU64| {
            let now = || time.load(Relaxed);
            gcra.take(now, now, 1, 0).allowed
        };
        let there = thread::spawn(move || {
            hand.store(1_000_000, Relaxed);
            take(&other, &hand)
        });
        assert!(take(&gcra, &time));
        assert!(there.join().unwrap());
        assert!(!take(&gcra, &time));
    });
}
