//! What other systems' tests and specifications expect, each row by its id.

use std::time::Duration;

use buttress_rate_limiter::{Bandwidth, Carry, Quota};

use crate::stand::{Stand, nanos, wait};

const SECOND: Duration = Duration::from_secs(1);

fn per_nanos(permits: u64, period: u64) -> Bandwidth {
    Bandwidth::per(permits, nanos(period))
}

/// Takes one after another, each whenever its time will be; the wait of the last.
fn reserved(stand: &Stand, permits: u64) -> Duration {
    let mut last = Duration::ZERO;
    for _ in 0..permits {
        let reservation = stand.limiter.reserve(1, Duration::MAX).unwrap();
        last = reservation.wait();
        reservation.keep();
    }
    last
}

#[test]
fn i1_a_smooth_limiter_spaces_permits_by_whole_intervals() {
    let stand = Stand::new(Bandwidth::per(1, Duration::from_millis(500)).by_interval());
    for (id, at, permits, expected) in [
        ("I1.1", 0, 7, 3000),
        ("I1.2", 800, 3, 3700),
        ("I1.3", 2300, 1, 2700),
        ("I1.4", 3500, 3, 3000),
        ("I1.5", 9100, 3, 900),
        ("I1.6", 11_000, 1, 0),
    ] {
        stand.to(Duration::from_millis(at));
        let waited = reserved(&stand, permits);
        assert_eq!(waited, Duration::from_millis(expected), "{id}");
    }
    let stand = Stand::new(Bandwidth::per(1, Duration::from_millis(200)).by_interval());
    for (id, at, permits, expected) in [
        ("I1.7", 0, 3, 400),
        ("I1.8", 550, 2, 250),
        ("I1.9", 2210, 2, 190),
    ] {
        stand.to(Duration::from_millis(at));
        let waited = reserved(&stand, permits);
        assert_eq!(waited, Duration::from_millis(expected), "{id}");
    }
    let stand = Stand::new(per_nanos(1, 100).by_interval());
    assert_eq!(reserved(&stand, 1), nanos(0), "I1.10");
    assert_eq!(reserved(&stand, 1), nanos(100), "I1.10");
    stand.ns(100);
    assert_eq!(reserved(&stand, 1), nanos(100), "I1.10");
    assert_eq!(reserved(&stand, 1), nanos(200), "I1.10");
    let stand = Stand::new(per_nanos(1, 100).by_interval());
    for (at, permits, expected) in [(0, 1, 0), (150, 1, 0), (250, 2, 50)] {
        stand.to(nanos(at));
        assert_eq!(reserved(&stand, permits), nanos(expected), "I1.11 {at}");
    }
    let stand = Stand::new(per_nanos(1, 100).burst(7).by_interval());
    let all = Stand::new(per_nanos(1, 100).burst(7).by_interval());
    for stand in [&stand, &all] {
        assert!(stand.limiter.check_n(7).is_allowed());
    }
    let at_once = all.limiter.reserve(7, Duration::MAX).unwrap();
    assert_eq!(at_once.wait(), reserved(&stand, 7), "I1.12");
}

#[test]
fn i3_cycles_give_their_permits_at_their_beginning() {
    let cycle = Duration::from_millis(250);
    let stand = Stand::new(Bandwidth::per(1, cycle).by_interval());
    stand.to(cycle);
    assert!(stand.limiter.check().is_allowed(), "I3.1");
    assert_eq!((stand.left(), stand.wait(1)), (0, cycle), "I3.1");
    assert!(!stand.limiter.check().is_allowed(), "I3.1");
    stand.to(cycle * 2);
    assert!(stand.limiter.check().is_allowed(), "I3.1");

    let stand = Stand::new(Bandwidth::per(1, cycle).by_interval());
    let first = stand.limiter.reserve(1, cycle).unwrap();
    assert_eq!(first.wait(), Duration::ZERO, "I3.2");
    first.keep();
    let second = stand.limiter.reserve(1, cycle).unwrap();
    assert_eq!(second.wait(), cycle, "I3.2");
    second.keep();
    assert_eq!(stand.wait(1), cycle * 2, "I3.2");
    assert!(stand.limiter.reserve(1, cycle).is_err(), "I3.2");
    stand.to(cycle * 6 + nanos(10));
    assert_eq!((stand.left(), stand.wait(1)), (1, Duration::ZERO), "I3.3");

    let stand = Stand::new(Bandwidth::per(1, cycle).by_interval());
    stand.to(cycle);
    assert!(stand.limiter.check().is_allowed());
    stand.to(cycle * 2 - nanos(1));
    assert_eq!(stand.wait(1), nanos(1), "I3.4");
    assert!(!stand.limiter.check().is_allowed(), "I3.4");

    let stand = Stand::new(Bandwidth::per(1, cycle).by_interval());
    reserved(&stand, 2);
    let two = Quota::new(Bandwidth::per(2, cycle).by_interval()).unwrap();
    stand.limiter.set_quota(two, Carry::AsItIs).unwrap();
    assert_eq!(stand.wait(1), cycle, "I3.5");
    stand.to(cycle + nanos(10));
    assert_eq!(stand.left(), 1, "I3.5");

    let cycle = Duration::from_millis(10);
    let stand = Stand::new(Bandwidth::per(3, cycle).by_interval());
    stand.to(cycle);
    for at in 1..=9_u64 {
        stand.to(cycle + nanos(at));
        let reserved = stand.limiter.reserve(1, Duration::from_millis(12));
        let waited = reserved.map(|it| {
            let waited = it.wait();
            it.keep();
            waited
        });
        let expected = match at {
            1..=3 => Some(Duration::ZERO),
            4..=6 => Some(cycle - nanos(at)),
            _ => None,
        };
        assert_eq!(waited.ok(), expected, "I3.6 {at}");
    }
}

/// Of I3.7 the opposite holds here: who gives up waiting gives back what he reserved.
#[test]
fn i3_7_a_reservation_that_is_given_up_is_given_back() {
    let stand = Stand::new(Bandwidth::per(1, SECOND).by_interval());
    assert!(stand.limiter.check().is_allowed());
    drop(stand.limiter.reserve(1, Duration::MAX).unwrap());
    assert_eq!(stand.wait(1), SECOND);
}

#[test]
fn i5_gcra_as_throttled_and_redis_cell_have_it() {
    let stand = Stand::new(Bandwidth::per_second(1).burst(5));
    let tenths = |tenths: u64| Duration::from_millis(tenths * 100);
    for (id, at, permits, limited, remaining, reset, retry) in [
        ("I5.0", 0, 6, true, 5, 0, None),
        ("I5.1", 0, 1, false, 4, 10, None),
        ("I5.2", 0, 1, false, 3, 20, None),
        ("I5.3", 0, 1, false, 2, 30, None),
        ("I5.4", 0, 1, false, 1, 40, None),
        ("I5.5", 0, 1, false, 0, 50, None),
        ("I5.6", 0, 1, true, 0, 50, Some(10)),
        ("I5.7", 30, 1, false, 2, 30, None),
        ("I5.8", 31, 1, false, 1, 39, None),
        ("I5.9", 40, 1, false, 1, 40, None),
        ("I5.10", 80, 1, false, 4, 10, None),
        ("I5.11", 95, 1, false, 4, 10, None),
        ("I5.12", 95, 0, false, 4, 10, None),
        ("I5.13", 95, 2, false, 2, 30, None),
        ("I5.14", 95, 5, true, 2, 30, Some(30)),
        ("I5.15", 150, 6, true, 5, 0, None),
    ] {
        stand.to(tenths(at));
        let decision = stand.limiter.check_n(permits);
        assert_eq!(!decision.is_allowed(), limited, "{id}");
        assert_eq!(decision.remaining(), remaining, "{id}");
        assert_eq!(decision.reset_after(), tenths(reset), "{id}");
        assert_eq!(decision.retry_after(), retry.map(tenths), "{id}");
        assert_eq!(decision.can_never(), permits == 6, "{id}");
    }
    assert!(Quota::per_second(0).is_err(), "I5.17");
    for (bandwidth, millis) in [
        (Bandwidth::per_day(24), 3_600_000),
        (Bandwidth::per_hour(6), 600_000),
        (Bandwidth::per(6, Duration::from_secs(120)), 20_000),
        (Bandwidth::per_second(5), 200),
    ] {
        let stand = Stand::new(bandwidth.burst(1));
        assert!(stand.limiter.check().is_allowed());
        assert_eq!(stand.wait(1), Duration::from_millis(millis), "I5.18");
    }
}

#[test]
fn i6_redis_cells_replies() {
    let stand = Stand::new(Bandwidth::per_minute(30).burst(16));
    let first = stand.limiter.check();
    assert_eq!(
        (first.is_allowed(), first.limit()),
        (true, 16),
        "I6.1, I6.5"
    );
    let told = (first.remaining(), first.retry_after(), first.reset_after());
    assert_eq!(told, (15, None, SECOND * 2), "I6.1");
    let stand = Stand::new(Bandwidth::per(1, SECOND * 2));
    let first = stand.limiter.check();
    let told = (first.is_allowed(), first.limit(), first.remaining());
    assert_eq!(told, (true, 1, 0), "I6.2");
    let again = stand.limiter.check();
    let told = (again.retry_after(), again.reset_after());
    assert_eq!(told, (Some(SECOND * 2), SECOND * 2), "I6.3");
    stand.hand.advance(SECOND * 2);
    assert!(stand.limiter.check().is_allowed(), "I6.4");
}

#[test]
fn i7_a_sliding_window_weighs_the_last_one() {
    for (id, previous, current, elapsed, doubled) in [
        ("I7.1", 42, 18, 15, 99),
        ("I7.2", 42, 18, 0, 120),
        ("I7.4", 100, 0, 30, 100),
        ("I7.5", 0, 50, 10, 100),
    ] {
        let stand = Stand::new(Bandwidth::per_minute(1000).sliding_window());
        assert!(stand.limiter.check_n(previous).is_allowed());
        stand.to(Duration::from_secs(60));
        assert!(stand.limiter.force(current).is_allowed());
        stand.to(Duration::from_secs(60 + elapsed));
        // What is left of 1000 is rounded against the caller.
        assert_eq!(stand.left(), (2000 - doubled) / 2, "{id}");
    }
    let stand = Stand::new(Bandwidth::per_minute(1000).sliding_window());
    assert!(stand.limiter.check_n(42).is_allowed());
    stand.to(Duration::from_secs(60));
    assert!(stand.limiter.check_n(18).is_allowed());
    stand.to(Duration::from_secs(119));
    assert_eq!(stand.left(), 981, "I7.3: the estimate is 18.7");
}

#[test]
fn i8_a_fixed_window_is_full_at_its_beginning() {
    let stand = Stand::at(
        1_234_000_000_000,
        Quota::new(Bandwidth::per_second(10).fixed_window()).unwrap(),
        None,
    );
    assert_eq!(stand.limiter.check_n(5).remaining(), 5, "I8.1");
    assert_eq!(stand.limiter.check_n(0).remaining(), 5, "I8.1d");
    stand.ms(1000);
    assert!(stand.limiter.check_n(2).is_allowed());
    assert_eq!(stand.limiter.check_n(4).remaining(), 4, "I8.2");

    // Of I8.3 the opposite holds here: what does not fit takes nothing.
    let stand = Stand::new(Bandwidth::per_second(5).fixed_window());
    assert!(stand.limiter.check_n(2).is_allowed());
    let over = stand.limiter.check_n(5);
    assert_eq!((over.is_allowed(), over.remaining()), (false, 3), "I8.3");

    stand.limiter.set_shadow(true);
    assert!(stand.limiter.check_n(5).is_allowed(), "I8.6");

    // Windows begin at multiples of themselves, as the suffixes of I8.1b and I8.1c say.
    for (id, now, unit, begun) in [
        ("I8.1b", 1234, 60, 1200),
        ("I8.1c", 1_000_000, 3600, 997_200),
        ("I8.1c", 1_000_000, 86_400, 950_400),
    ] {
        let bandwidth = Bandwidth::per(1, Duration::from_secs(unit)).fixed_window();
        let quota = Quota::new(bandwidth).unwrap();
        let stand = Stand::at(now * 1_000_000_000, quota, None);
        assert!(stand.limiter.check().is_allowed());
        assert_eq!(
            stand.wait(1),
            Duration::from_secs(begun + unit - now),
            "{id}"
        );
    }
}

#[test]
fn j1_refill_is_exact_in_nanoseconds() {
    for (id, initial, capacity, permits, period, to, left, error) in [
        ("J1.1", 0, 1000, 1000, 1000, 10_040, 40, 0),
        ("J1.2", 50, 1000, 1000, 1000, 10_001, 51, 0),
        ("J1.4", 200, 1000, 1000, 1000, 20_000, 1000, 0),
        ("J1.5", 0, 100, 100, 1000, 10_003, 0, 3),
        ("J1.6", 90, 100, 100, 1000, 10_017, 91, 7),
        ("J1.7", 0, 100, 100, 1000, 28_888, 100, 0),
        ("J1.8", 0, 100, 1, 10, 10_003, 0, 3),
        ("J1.9", 90, 100, 1, 10, 10_017, 91, 7),
    ] {
        let quota = Quota::new(per_nanos(permits, period).burst(capacity)).unwrap();
        let stand = Stand::at(10_000, quota, Some(initial));
        stand.to(nanos(to));
        assert_eq!(stand.left(), left, "{id}");
        if left < capacity {
            // The rounding error is what is missing less until the next permit.
            let step = period / permits;
            assert_eq!(stand.wait(left + 1), nanos(step - error), "{id}");
        }
    }
    for (initial, consumed, owed) in [(0, 10, 10), (55, 1600, 1545)] {
        let quota = Quota::new(per_nanos(1000, 1000).burst(1000)).unwrap();
        let stand = Stand::at(10_000, quota, Some(initial));
        assert_eq!(wait(&stand.limiter.force(consumed)), nanos(owed), "J1.10");
    }
    let quota = Quota::new(per_nanos(1000, 1000).burst(1000)).unwrap();
    let stand = Stand::at(10_000, quota, Some(50));
    assert_eq!(stand.limiter.force(2).remaining(), 48, "J1.10");
}

fn several(bandwidths: &[(u64, u64, u64)]) -> Stand {
    let quotas = bandwidths.iter().map(|it| per_nanos(it.0, it.1));
    let mut quotas = quotas.into_iter();
    let first = Quota::new(quotas.next().unwrap()).unwrap();
    let quota = quotas.fold(first, |quota, next| quota.and(next).unwrap());
    let stand = Stand::at(0, quota, None);
    // Each begins with its own number: take the most that all can spare, then what only some can.
    let spare = bandwidths.iter().map(|it| it.0 - it.2).min().unwrap();
    assert!(stand.limiter.check_n(spare).is_allowed());
    stand
}

#[test]
fn j2_the_least_of_several_is_what_can_be_had() {
    let ten = || per_nanos(10, 100);
    let one = |initial| Stand::at(0, Quota::new(ten()).unwrap(), Some(initial));
    assert_eq!([10, 0, 5].map(|it| one(it).left()), [10, 0, 5], "J2.1");
    let both = Quota::new(ten()).unwrap().and(per_nanos(2, 100)).unwrap();
    assert_eq!(Stand::at(0, both, Some(5)).left(), 2, "J2.2");
    for (initial, added, left) in [(0, 10, 10), (10, 1, 10), (5, 6, 10)] {
        let stand = one(initial);
        stand.limiter.give_back(added);
        assert_eq!(stand.left(), left, "J2.3");
    }
}

#[test]
fn j3_the_wait_is_that_of_the_slowest() {
    let ten = |initial| Stand::at(0, Quota::new(per_nanos(10, 100)).unwrap(), Some(initial));
    assert_eq!(ten(0).wait(10), nanos(100), "J3.1");
    let slow = Quota::new(per_nanos(2, 100).burst(10)).unwrap();
    assert_eq!(Stand::at(0, slow, Some(0)).wait(10), nanos(500), "J3.2");
    assert_eq!(ten(4).wait(7), nanos(30), "J3.3");
    assert!(
        ten(4).limiter.peek_n(11).can_never(),
        "J3.4: as the public side has it"
    );
    // 1 of 10 per 100, and 5 per 10 of which 2 are left; in either order.
    for swapped in [false, true] {
        let (slow, fast) = (per_nanos(10, 100), per_nanos(5, 10));
        let quota = if swapped {
            Quota::new(fast).unwrap().and(slow).unwrap()
        } else {
            Quota::new(slow).unwrap().and(fast).unwrap()
        };
        let stand = Stand::at(0, quota, Some(1));
        assert_eq!(stand.wait(3), nanos(20), "J3.5");
    }
    let stand = several(&[(5, 10, 5), (10, 100, 10)]);
    assert_eq!(stand.wait(3), nanos(0), "J3.6");
    assert_eq!(ten(1).limiter.peek_n(0).reset_after(), nanos(90), "J3.7");
    let stepwise = Quota::new(per_nanos(10, 100).by_interval()).unwrap();
    let stand = Stand::at(0, stepwise, Some(1));
    assert_eq!(stand.limiter.peek_n(0).reset_after(), nanos(100), "J3.7");
    for (bandwidth, expected) in [
        (per_nanos(2, 100).burst(10), 1650),
        (per_nanos(2, 100).burst(10).by_interval(), 1700),
    ] {
        let stand = Stand::at(0, Quota::new(bandwidth).unwrap(), Some(0));
        let debt = stand.limiter.force(23);
        assert_eq!(debt.reset_after(), nanos(expected), "J3.8");
    }
    assert_eq!(ten(4).limiter.peek_n(0).reset_after(), nanos(60), "J3.9");
}
