//! What other systems' tests expect of intervals, debts and live changes, each row by its id.

use std::time::Duration;

use buttress_rate_limiter::{Bandwidth, Carry, Quota};

use crate::stand::{Stand, nanos, wait};

fn per_nanos(permits: u64, period: u64) -> Bandwidth {
    Bandwidth::per(permits, nanos(period))
}

#[test]
fn j6_intervals_stay_anchored() {
    let minute = Duration::from_secs(60);
    let bandwidth = Bandwidth::per(200, minute).burst(400).by_interval();
    let quota = Quota::new(bandwidth).unwrap();
    let stand = Stand::at(80_000_000_000, quota, None);
    assert!(stand.limiter.check_n(400).is_allowed(), "J6.10");
    stand.ms(10_000);
    let told = (stand.left(), stand.wait(1));
    assert_eq!(told, (0, Duration::from_secs(30)), "J6.10");
    for (seconds, left) in [(30, 200), (45, 200), (15, 400), (60, 400)] {
        stand.ms(seconds * 1000);
        assert_eq!(stand.left(), left, "J6.10");
    }
    assert!(stand.limiter.check_n(400).is_allowed());
    assert_eq!(wait(&stand.limiter.force(401)), minute * 3, "J6.10");

    let bandwidth = Bandwidth::per(400, Duration::from_millis(100)).by_interval();
    let stand = Stand::at(103_000_000, Quota::new(bandwidth).unwrap(), None);
    assert!(stand.limiter.check_n(400).is_allowed(), "J6.12");
    stand.to(Duration::from_millis(32_849));
    assert!(stand.limiter.check_n(400).is_allowed(), "J6.12");
    stand.ms(51);
    assert_eq!(stand.left(), 400, "J6.12");
}

#[test]
fn j7_debts_and_remainders() {
    let hundred = || Stand::at(0, Quota::new(per_nanos(100, 100)).unwrap(), Some(0));
    let stand = hundred();
    stand.ns(50);
    let debt = stand.limiter.force(49);
    assert_eq!((wait(&debt), debt.remaining()), (nanos(0), 1), "J7.1");
    let stand = hundred();
    stand.ns(50);
    assert_eq!(stand.limiter.force(50).remaining(), 0, "J7.1");
    stand.ns(120);
    assert_eq!(stand.limiter.force(51).remaining(), 49, "J7.1");
    stand.ns(101);
    assert_eq!(stand.limiter.force(100).remaining(), 0, "J7.1");

    for (after, permits, penalty) in [(50, 52, 2), (0, 50, 50), (120, 151, 51), (201, 400, 300)] {
        let stand = hundred();
        stand.ns(after);
        let debt = stand.limiter.force(permits);
        assert_eq!(wait(&debt), nanos(penalty), "J7.2 {permits}");
    }

    let ten = || Stand::at(0, Quota::new(per_nanos(10, 100)).unwrap(), Some(0));
    let stand = ten();
    stand.ns(97);
    assert!(stand.limiter.check_n(9).is_allowed() && !stand.limiter.check().is_allowed());
    stand.ns(3);
    assert!(
        stand.limiter.check().is_allowed() && !stand.limiter.check().is_allowed(),
        "J7.3"
    );
    let stand = ten();
    stand.ns(97);
    assert!(stand.limiter.check_n(9).is_allowed());
    stand.limiter.give_back(10);
    assert!(stand.limiter.check_n(10).is_allowed());
    stand.ns(3);
    assert!(!stand.limiter.check().is_allowed(), "J7.4");

    let quota = Quota::new(Bandwidth::per_second(1).burst(4)).unwrap();
    let stand = Stand::at(0, quota, Some(1));
    assert!(stand.limiter.check().is_allowed());
    stand.ms(200);
    assert_eq!(stand.wait(1), Duration::from_millis(800), "J7.5");
    assert_eq!(stand.wait(3), Duration::from_millis(2800), "J7.5");
}

#[test]
fn j8_a_quota_is_replaced_and_its_state_kept() {
    // 3 per 5 ns, empty, 3 ns later: 1.8 permits.
    let begun = |how, new: Bandwidth| {
        let stand = Stand::at(0, Quota::new(per_nanos(3, 5)).unwrap(), Some(0));
        stand.ns(3);
        let new = Quota::new(new).unwrap();
        stand.limiter.set_quota(new, how).unwrap();
        stand
    };
    let greedy = per_nanos(60, 1000);
    assert_eq!(begun(Carry::Reset, greedy).left(), 60, "J8.1");
    let stand = begun(Carry::AsItIs, greedy);
    assert_eq!(stand.left(), 1, "J8.2");
    stand.ns(4);
    assert_eq!(stand.left(), 2, "J8.2");
    // Intervals are those of the clock, not of the change: the next one ends at 1000.
    let stand = begun(Carry::AsItIs, greedy.by_interval());
    assert_eq!(stand.left(), 1, "J8.3");
    stand.to(nanos(999));
    assert_eq!(stand.left(), 1, "J8.3");
    stand.ns(1);
    assert_eq!(stand.left(), 60, "J8.3");
    let stand = begun(Carry::Additive, greedy);
    assert_eq!(stand.left(), 58, "J8.4");
    stand.ns(4);
    assert_eq!(stand.left(), 59, "J8.4");
    let stand = begun(Carry::Additive, greedy.by_interval());
    assert_eq!(stand.left(), 58, "J8.5");
    stand.to(nanos(1000));
    assert_eq!(stand.left(), 60, "J8.5");
    let stand = begun(Carry::Proportional, greedy);
    assert_eq!(stand.left(), 36, "J8.6");
    stand.ns(4);
    assert_eq!(stand.left(), 36, "J8.6");
    stand.ns(13);
    assert_eq!(stand.left(), 37, "J8.6");
    for how in [Carry::AsItIs, Carry::Additive, Carry::Proportional] {
        let stand = Stand::new(per_nanos(500, 1000));
        let new = Quota::new(per_nanos(200, 1000)).unwrap();
        stand.limiter.set_quota(new, how).unwrap();
        assert_eq!(stand.left(), 200, "J8.7 {how:?}");
    }
    let stand = Stand::at(0, Quota::new(per_nanos(500, 1000)).unwrap(), Some(200));
    let new = Quota::new(per_nanos(900, 1000)).unwrap();
    stand.limiter.set_quota(new, Carry::Additive).unwrap();
    assert_eq!(stand.left(), 600, "J8.8");
    let stand = Stand::new(per_nanos(3, 5));
    stand.limiter.give_back(10_000_000);
    let new = Quota::new(greedy).unwrap();
    stand.limiter.set_quota(new, Carry::Proportional).unwrap();
    assert_eq!(stand.left(), 60, "J8.9");
    for (id, debt, left, until_one) in [("J8.10", 0, 1, 0), ("J8.11", 5, 0, 2375)] {
        // 6 per 8 ns with 2.25 permits, to 3 per 8 ns; then half as many.
        let stand = Stand::at(0, Quota::new(per_nanos(6, 8)).unwrap(), Some(0));
        stand.ns(3);
        let _ = stand.limiter.force(debt);
        let new = Quota::new(per_nanos(3, 8)).unwrap();
        stand.limiter.set_quota(new, Carry::Proportional).unwrap();
        assert_eq!(stand.left(), left, "{id}");
        let exact = nanos((until_one * 8_u64).div_ceil(3 * 1000));
        assert_eq!(
            stand.wait(1),
            exact,
            "{id}: 1 - (-1.375) permits at 3 per 8 ns"
        );
    }
    // J8.12 is by place here: the second bandwidth is new, and full.
    let stand = Stand::at(0, Quota::new(per_nanos(3, 5)).unwrap(), Some(1));
    let new = Quota::new(per_nanos(3, 5)).unwrap().and(greedy).unwrap();
    stand.limiter.set_quota(new, Carry::AsItIs).unwrap();
    assert_eq!(stand.left(), 1, "J8.12");
}
