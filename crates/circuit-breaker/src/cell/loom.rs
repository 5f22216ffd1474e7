//! Loom looks at all orders in which threads can meet in the cell and in the windows.
//!
//! `RUSTFLAGS="--cfg buttress_loom" cargo test -p buttress-circuit-breaker --lib --release
//! --target-dir target/loom loom`

use std::sync::atomic::{AtomicU64 as Plain, Ordering::Relaxed};
use std::time::Duration;

use buttress_core::Moment;
use loom::{sync::Arc, thread};

use super::{Acquired, Cell, Opens, Settled, Ticket};
use crate::{
    Abandoned, OpenTime, Policy, Rate, State,
    lane::{self, LANES},
    machine::{Sample, Told},
    window::{Buckets, Ring, tag_of},
};

const END: Moment = Moment::from_nanos(1_000_000_000);

fn cell(policy: &Policy) -> Cell {
    Cell::new(
        &policy.limits(),
        Abandoned::FailureWhenMost,
        policy.rules(),
        |tag| policy.new_window(tag),
    )
}

fn small(calls: u32, minimum: u32) -> Policy {
    Policy::builder()
        .count_window(calls)
        .minimum_calls(minimum)
        .failure_rate(Rate::percent(100))
        .half_open_permits(1)
        .half_open_limit(None)
        .open_time(OpenTime::fixed(Duration::from_secs(1)))
        .build()
        .unwrap()
}

fn ticket(cell: &Cell, now: Moment) -> Option<Ticket> {
    match cell.acquire(|| now, || 0) {
        Acquired::Ticket(ticket, _) => Some(ticket),
        _ => None,
    }
}

/// Settles, and does the second step of an opening. Whether this one opened it.
fn settle(cell: &Cell, ticket: Ticket, sample: Sample, now: Moment) -> bool {
    match cell.settle(ticket, sample, || now, None).0 {
        Settled::MustOpen(opens) => open(cell, &opens),
        _ => false,
    }
}

fn open(cell: &Cell, opens: &Opens) -> bool {
    cell.open(opens, Moment::START, END).is_some()
}

/// Runs the model, and says in the output how many orders there were.
fn explore(name: &str, model: impl Fn() + Sync + Send + 'static) {
    let orders = std::sync::Arc::new(Plain::new(0));
    let count = std::sync::Arc::clone(&orders);
    loom::model(move || {
        count.fetch_add(1, Relaxed);
        model();
    });
    println!("loom: {name}: {} orders", orders.load(Relaxed));
}

#[test]
fn loom_two_failures_at_once_open_it_exactly_once() {
    explore("two failures open once", || {
        let cell = Arc::new(cell(&small(2, 2)));
        let tickets = [0, 1].map(|_| ticket(&cell, Moment::START).unwrap());
        let [one, two] = tickets;
        let other = Arc::clone(&cell);
        let there = thread::spawn(move || settle(&other, one, Sample::FAILURE, Moment::START));
        let here = settle(&cell, two, Sample::FAILURE, Moment::START);
        let there = there.join().unwrap();
        // The one that comes second sees both, so the trip is never lost.
        assert!(here ^ there, "{here} {there}");
        assert_eq!(cell.word().state(), State::Open);
        assert_eq!(cell.openings(), 1);
    });
}

#[test]
fn loom_a_streak_is_counted_exactly() {
    explore("streak", || {
        let cell = Arc::new(cell(&Policy::consecutive_failures(2).unwrap()));
        let tickets = [0, 1].map(|_| ticket(&cell, Moment::START).unwrap());
        let [one, two] = tickets;
        let other = Arc::clone(&cell);
        let there = thread::spawn(move || settle(&other, one, Sample::FAILURE, Moment::START));
        let here = settle(&cell, two, Sample::FAILURE, Moment::START);
        assert!(here ^ there.join().unwrap());
        assert_eq!(cell.word().state(), State::Open);
    });
}

#[test]
fn loom_one_probe_is_let_through_however_many_ask() {
    explore("one probe", || {
        let cell = Arc::new(cell(&small(2, 2)));
        cell.set(Told::Open { until: END });
        let other = Arc::clone(&cell);
        let there = thread::spawn(move || ticket(&other, END).is_some());
        let here = ticket(&cell, END).is_some();
        let there = there.join().unwrap();
        assert!(here ^ there, "{here} {there}");
        assert_eq!(cell.word().state(), State::HalfOpen);
    });
}

#[test]
fn loom_of_three_that_ask_for_two_probes_two_get_one() {
    explore("two probes for three", || {
        let policy = Policy::builder().count_window(2).half_open_permits(2);
        let cell = Arc::new(cell(&policy.build().unwrap()));
        cell.set(Told::Open { until: END });
        let threads = [(); 2].map(|()| {
            let other = Arc::clone(&cell);
            thread::spawn(move || ticket(&other, END).is_some())
        });
        let here = ticket(&cell, END).is_some();
        let there = threads.map(|thread| u8::from(thread.join().unwrap()));
        assert_eq!(u8::from(here) + there[0] + there[1], 2);
    });
}

#[test]
fn loom_a_ramp_that_ends_while_the_policy_changes_leaves_what_the_policy_says() {
    explore("ramp and policy", || {
        let ramping = || {
            Policy::builder()
                .no_window()
                .consecutive_failures(2)
                .half_open_permits(1)
                .ramp(Duration::from_secs(1), Rate::percent(50))
        };
        let cell = Arc::new(cell(&ramping().build().unwrap()));
        cell.set(Told::Open { until: END });
        let probe = ticket(&cell, END).unwrap();
        settle(&cell, probe, Sample::SUCCESS, END);
        assert!(cell.word().is_ramping());
        let other = Arc::clone(&cell);
        let later = END.saturating_add(Duration::from_secs(1));
        // The ramp is over, and this call is the one that ends it.
        let there = thread::spawn(move || ticket(&other, later).is_some());
        let policy = Policy::builder()
            .count_window(2)
            .slow_calls(Duration::from_secs(1), Rate::percent(50))
            .build()
            .unwrap();
        cell.set_policy(&policy.limits(), Abandoned::FailureWhenMost, policy.rules());
        assert!(there.join().unwrap());
        let word = cell.word();
        assert!(!word.is_ramping() && !word.is_plain(), "calls are measured");
    });
}

#[test]
fn loom_a_slot_that_is_given_back_is_given_out_once() {
    explore("slot given back", || {
        let cell = Arc::new(cell(&small(2, 2)));
        cell.set(Told::Open { until: END });
        let probe = ticket(&cell, END).unwrap();
        let other = Arc::clone(&cell);
        let there = thread::spawn(move || {
            cell_gives_back(&other, probe);
            ticket(&other, END).is_some()
        });
        let here = ticket(&cell, END).is_some();
        let there = there.join().unwrap();
        assert!(here ^ there, "exactly one has the slot: {here} {there}");
    });
}

fn cell_gives_back(cell: &Cell, probe: Ticket) {
    assert_eq!(cell.give_back(probe), Settled::Freed);
}

#[test]
fn loom_a_late_result_changes_nothing_in_the_new_window() {
    explore("late result", || {
        let cell = Arc::new(cell(&small(3, 3)));
        let late = ticket(&cell, Moment::START).unwrap();
        let other = Arc::clone(&cell);
        let there = thread::spawn(move || settle(&other, late, Sample::FAILURE, Moment::START));
        // Another life begins, with a call of its own.
        cell.set(Told::Closed);
        let new = ticket(&cell, Moment::START).unwrap();
        settle(&cell, new, Sample::SUCCESS, Moment::START);
        there.join().unwrap();
        let counts = cell.counts(Moment::START);
        assert_eq!((counts.calls, counts.failed), (1, 0), "{counts:?}");
        assert_eq!(cell.word().state(), State::Closed);
    });
}

#[test]
fn loom_a_refusal_never_shows_the_end_of_an_earlier_opening() {
    explore("deadline", || {
        let cell = Arc::new(cell(&small(2, 2)));
        let early = Moment::from_nanos(10);
        cell.set(Told::Open { until: early });
        let other = Arc::clone(&cell);
        let there = thread::spawn(move || {
            other.set(Told::Open { until: END });
        });
        // At this moment the first opening is over and the second is not.
        if let Acquired::Ticket(probe, _) = cell.acquire(|| early, || 0) {
            // Then it was the first that let it through.
            settle(&cell, probe, Sample::SUCCESS, early);
        }
        there.join().unwrap();
        assert!(ticket(&cell, early).is_none());
        assert_eq!(cell.word().state(), State::Open);
    });
}

#[test]
fn loom_the_sums_are_those_of_the_slots_whatever_meets() {
    explore("ring", || {
        let ring = Arc::new(Ring::new(2, tag_of(1)));
        let other = Arc::clone(&ring);
        let there = thread::spawn(move || {
            other.record(tag_of(1), Sample::FAILURE);
            other.record(tag_of(1), Sample::SUCCESS);
        });
        ring.record(tag_of(1), Sample::FAILURE.slow());
        there.join().unwrap();
        let counts = ring.counts(tag_of(1));
        assert_eq!(
            ring.counted_in_slots(),
            (counts.calls, counts.failed, counts.slow)
        );
        assert_eq!(counts.calls, 2);
    });
}

#[test]
fn loom_the_sums_are_those_of_the_slots_after_a_reset_as_well() {
    explore("ring and reset", || {
        let ring = Arc::new(Ring::new(2, tag_of(1)));
        ring.record(tag_of(1), Sample::FAILURE);
        let other = Arc::clone(&ring);
        let there = thread::spawn(move || {
            other.record(tag_of(1), Sample::FAILURE);
        });
        ring.reset(tag_of(2));
        ring.record(tag_of(2), Sample::SUCCESS);
        there.join().unwrap();
        let counts = ring.counts(tag_of(2));
        assert_eq!(
            ring.counted_in_slots(),
            (counts.calls, counts.failed, counts.slow)
        );
        assert_eq!((counts.calls, counts.failed), (1, 0));
    });
}

#[test]
fn loom_two_failures_on_both_sides_of_a_buckets_end_are_both_seen_by_one() {
    explore("buckets", || {
        let policy = Policy::builder()
            .time_window_in(Duration::from_millis(200), 2)
            .minimum_calls(2)
            .failure_rate(Rate::percent(100));
        let cell = Arc::new(cell(&policy.build().unwrap()));
        let tickets = [0, 1].map(|_| ticket(&cell, Moment::START).unwrap());
        let [one, two] = tickets;
        let (before, after) = (
            Moment::from_nanos(99_999_999),
            Moment::from_nanos(100_000_000),
        );
        let other = Arc::clone(&cell);
        let there = thread::spawn(move || {
            lane::told::be(1);
            settle(&other, one, Sample::FAILURE, before)
        });
        let here = settle(&cell, two, Sample::FAILURE, after);
        let there = there.join().unwrap();
        // Each counts in a stripe of its own; the one that adds up second sees both.
        assert!(here || there, "the trip is lost");
        assert!(!(here && there), "it opens once");
        assert_eq!(cell.word().state(), State::Open);
    });
}

#[test]
fn loom_a_late_result_in_a_stripe_of_its_own_changes_nothing_in_the_new_window() {
    explore("late result, stripes", || {
        let window = Arc::new(Buckets::new(Duration::from_secs(1), 1));
        let (old, new) = (tag_of(1), tag_of(2));
        let other = Arc::clone(&window);
        let there = thread::spawn(move || {
            lane::told::be(1);
            other.count(old, Sample::FAILURE, Moment::START);
        });
        // Another life begins, with a call of its own.
        window.reset(new);
        window.count(new, Sample::SUCCESS, Moment::START);
        there.join().unwrap();
        let counts = window.counts(new, Moment::START);
        assert_eq!((counts.calls, counts.failed), (1, 0), "{counts:?}");
    });
}

#[test]
fn loom_who_adds_up_sees_no_failure_without_its_call() {
    explore("stripes, read while written", || {
        let window = Arc::new(Buckets::new(Duration::from_secs(1), 2));
        let other = Arc::clone(&window);
        let there = thread::spawn(move || {
            lane::told::be(1);
            other.count(tag_of(1), Sample::FAILURE, Moment::START);
            other.count(tag_of(1), Sample::FAILURE.slow(), Moment::START);
        });
        let seen = window.counts(tag_of(1), Moment::START);
        assert!(
            seen.failed <= seen.calls && seen.slow <= seen.calls,
            "{seen:?}"
        );
        there.join().unwrap();
        let counts = window.counts(tag_of(1), Moment::START);
        assert_eq!((counts.calls, counts.failed, counts.slow), (2, 2, 1));
    });
}

#[test]
fn loom_threads_that_share_a_stripe_lose_nothing() {
    explore("one stripe for many", || {
        let window = Arc::new(Buckets::new(Duration::from_secs(1), 2));
        window.stripe(LANES, tag_of(1));
        let other = Arc::clone(&window);
        let count = |window: &Buckets| {
            lane::told::be(LANES);
            window.count(tag_of(1), Sample::FAILURE, Moment::START);
        };
        let there = thread::spawn(move || count(&other));
        count(&window);
        there.join().unwrap();
        let counts = window.counts(tag_of(1), Moment::START);
        assert_eq!((counts.calls, counts.failed), (2, 2));
    });
}
