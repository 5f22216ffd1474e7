//! What the instances of a fleet make of one another's opinions. Told how old each is.
//!
//! An opinion says what an instance has seen *itself*. One that is open because the others are has
//! nothing to say, else a fleet would hold itself open by its own echo.

use std::time::Duration;

use crate::Rate;

/// What an instance says of its breaker, as of the moment at which it says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opinion {
    /// It has nothing to say: idle, half-open, opened by the others or by hand, or switched off.
    Silent,
    /// It is closed, and its calls do not speak against the target.
    Well,
    /// It is closed, and so many calls reach a threshold, which are too few to open by.
    Failing {
        calls: u64,
        /// The last of them was counted so long ago.
        since: Duration,
    },
    /// It has opened by what it saw itself.
    Open {
        /// So long ago.
        since: Duration,
        /// For so long still.
        rest: Duration,
    },
}

/// By what opinions are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// The share of the voters that must speak against the target.
    pub(crate) share: Rate,
    /// How many they must be in any case.
    pub(crate) at_least: u32,
    /// How many calls those must have seen together of whom none is open.
    pub(crate) minimum_calls: u64,
    /// An opinion may have been so long on its way before its age was counted.
    pub(crate) slack: Duration,
    /// What is older says nothing.
    pub(crate) fresh: Duration,
    /// For longer nobody is open because the others are.
    pub(crate) longest: Duration,
}

/// What the fleet makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Instances that have something to say.
    pub(crate) voters: u32,
    /// Those of them that are open.
    pub(crate) open: u32,
    /// Those that are not, and see failures.
    pub(crate) failing: u32,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Too few have something to say.
    #[default]
    None,
    /// Enough have, and too few of them speak against the target.
    Well,
    /// Open, for as long as enough of them stay open; or, when most of them are not, for as long
    /// as one's own policy says.
    Open(Option<Duration>),
}

impl Agreement {
    /// Weighs all opinions, one's own among them, each with its age. `healed` is how long ago this
    /// instance was closed, if it was: what others saw before that is no news to it.
    pub(crate) fn tally(
        &self,
        opinions: impl IntoIterator<Item = (Opinion, Duration)>,
        healed: Option<Duration>,
    ) -> Tally {
        let is_news = |since: Duration, age: Duration| {
            let happened = since.saturating_add(age).saturating_add(self.slack);
            healed.is_none_or(|healed| happened < healed)
        };
        let (mut voters, mut calls, mut failing) = (0_u32, 0_u64, 0_u32);
        let mut rests = Vec::new();
        for (opinion, age) in opinions {
            match opinion {
                Opinion::Open { since, rest } if rest > age && is_news(since, age) => {
                    rests.push(rest - age);
                }
                Opinion::Failing { calls: its, since }
                    if since.saturating_add(age) <= self.fresh && is_news(since, age) =>
                {
                    failing += 1;
                    calls = calls.saturating_add(its);
                }
                Opinion::Well => {}
                _ => continue,
            }
            voters += 1;
        }
        rests.sort_unstable_by(|one, other| other.cmp(one));
        let open = u32::try_from(rests.len()).unwrap_or(u32::MAX);
        let verdict = match self.need(voters) {
            None => Verdict::None,
            Some(need) if open >= need => {
                // When the next of them tries again, they are no longer enough.
                let last = usize::try_from(need - 1).ok().and_then(|at| rests.get(at));
                Verdict::Open(last.map(|rest| (*rest).min(self.longest)))
            }
            Some(need) if open + failing < need => Verdict::Well,
            Some(_) if open > 0 || calls >= self.minimum_calls => Verdict::Open(None),
            Some(_) => Verdict::Well,
        };
        Tally {
            voters,
            open,
            failing,
            verdict,
        }
    }

    /// How many of so many are enough; none when they are too few to decide anything.
    fn need(&self, voters: u32) -> Option<u32> {
        let enough = |count: &u32| {
            self.share
                .is_reached_by(u64::from(*count), u64::from(voters))
        };
        (self.at_least.max(1)..=voters).find(enough)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const RULES: Agreement = Agreement {
        share: Rate::percent(50),
        at_least: 2,
        minimum_calls: 20,
        slack: s(1),
        fresh: s(10),
        longest: s(60),
    };

    const fn open(since: u64, rest: u64) -> (Opinion, Duration) {
        let (since, rest) = (s(since), s(rest));
        (Opinion::Open { since, rest }, Duration::ZERO)
    }

    const fn failing(calls: u64) -> (Opinion, Duration) {
        let since = Duration::ZERO;
        (Opinion::Failing { calls, since }, Duration::ZERO)
    }

    const WELL: (Opinion, Duration) = (Opinion::Well, Duration::ZERO);
    const SILENT: (Opinion, Duration) = (Opinion::Silent, Duration::ZERO);

    fn verdict(opinions: &[(Opinion, Duration)]) -> Verdict {
        RULES.tally(opinions.iter().copied(), None).verdict
    }

    #[test]
    fn enough_that_are_open_open_it_for_as_long_as_they_are_enough() {
        for (opinions, expected) in [
            (vec![], Verdict::None),
            (vec![open(1, 9)], Verdict::None),
            (vec![open(1, 9), SILENT, SILENT], Verdict::None),
            (vec![open(1, 9), WELL], Verdict::Well),
            (vec![open(1, 9), WELL, WELL, WELL], Verdict::Well),
            (vec![open(1, 9), open(1, 5)], Verdict::Open(Some(s(5)))),
            (
                vec![open(1, 9), open(1, 5), WELL, WELL],
                Verdict::Open(Some(s(5))),
            ),
            (
                vec![open(1, 9), open(1, 5), WELL, WELL, WELL],
                Verdict::Well,
            ),
            (
                vec![open(1, 3), open(1, 9), open(1, 5), WELL],
                Verdict::Open(Some(s(5))),
            ),
            (vec![open(1, 999), open(1, 999)], Verdict::Open(Some(s(60)))),
            (vec![open(1, 9), open(1, 0)], Verdict::None),
        ] {
            assert_eq!(verdict(&opinions), expected, "{opinions:?}");
        }
    }

    #[test]
    fn the_calls_of_those_who_see_failures_are_added_up_to_the_minimum() {
        for (opinions, expected) in [
            (vec![failing(19), WELL], Verdict::Well),
            (vec![failing(1_000_000)], Verdict::None),
            (vec![failing(10), failing(9)], Verdict::Well),
            (vec![failing(10), failing(10)], Verdict::Open(None)),
            (
                vec![failing(10), failing(10), WELL, WELL, WELL],
                Verdict::Well,
            ),
            (vec![failing(1), open(1, 9)], Verdict::Open(None)),
        ] {
            assert_eq!(verdict(&opinions), expected, "{opinions:?}");
        }
    }

    #[test]
    fn what_was_seen_before_this_one_was_closed_does_not_open_it_again() {
        let before = [open(5, 9), open(5, 9), failing(50)];
        for (healed, expected) in [
            (None, Verdict::Open(Some(s(9)))),
            (Some(s(7)), Verdict::Open(Some(s(9)))),
            // It may have been a second on its way.
            (Some(s(6)), Verdict::None),
            (Some(s(4)), Verdict::None),
            (Some(s(0)), Verdict::None),
        ] {
            let tally = RULES.tally(before, healed);
            assert_eq!(tally.verdict, expected, "{healed:?}");
        }
    }

    #[test]
    fn with_its_age_an_opinion_loses_what_it_had() {
        let aged = |age: u64| [(open(0, 9).0, s(age)), (open(0, 9).0, s(age))];
        assert_eq!(verdict(&aged(4)), Verdict::Open(Some(s(5))));
        assert_eq!(verdict(&aged(9)), Verdict::None);
        let failing = |age: u64| [(failing(20).0, s(age)), (failing(20).0, s(age))];
        assert_eq!(verdict(&failing(10)), Verdict::Open(None));
        assert_eq!(verdict(&failing(11)), Verdict::None);
    }

    fn opinions() -> impl Strategy<Value = Vec<(Opinion, Duration)>> {
        let time = || (0..120_u64).prop_map(s);
        let one = prop_oneof![
            Just(Opinion::Silent),
            Just(Opinion::Well),
            (0..40_u64, time()).prop_map(|(calls, since)| Opinion::Failing { calls, since }),
            (time(), time()).prop_map(|(since, rest)| Opinion::Open { since, rest }),
        ];
        prop::collection::vec((one, (0..12_u64).prop_map(s)), 0..12)
    }

    /// The same, said as plainly as can be.
    fn naive(rules: &Agreement, all: &[(Opinion, Duration)], healed: Option<Duration>) -> Tally {
        let news = |since: Duration, age: Duration| {
            healed.is_none() || since + age + rules.slack < healed.unwrap_or_default()
        };
        let rests: Vec<Duration> = all
            .iter()
            .filter_map(|(opinion, age)| match opinion {
                Opinion::Open { since, rest } if rest > age && news(*since, *age) => {
                    Some(*rest - *age)
                }
                _ => None,
            })
            .collect();
        let failing: Vec<u64> = all
            .iter()
            .filter_map(|(opinion, age)| match opinion {
                Opinion::Failing { calls, since }
                    if *since + *age <= rules.fresh && news(*since, *age) =>
                {
                    Some(*calls)
                }
                _ => None,
            })
            .collect();
        let well = all.iter().filter(|it| it.0 == Opinion::Well).count();
        let voters = rests.len() + failing.len() + well;
        let half = |count: usize| count >= 2 && count * 2 >= voters;
        // Open as long as at every moment before its end enough are still open.
        let still = |after: Duration| half(rests.iter().filter(|rest| **rest > after).count());
        let verdict = if voters < 2 {
            Verdict::None
        } else if half(rests.len()) {
            let ends = rests.iter().filter(|end| !still(**end)).min();
            Verdict::Open(ends.map(|end| (*end).min(rules.longest)))
        } else if half(rests.len() + failing.len())
            && (!rests.is_empty() || failing.iter().sum::<u64>() >= rules.minimum_calls)
        {
            Verdict::Open(None)
        } else {
            Verdict::Well
        };
        let count = |count: usize| u32::try_from(count).unwrap();
        Tally {
            voters: count(voters),
            open: count(rests.len()),
            failing: count(failing.len()),
            verdict,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn it_weighs_as_the_naive_one_does(
            all in opinions(), healed in prop::option::of((0..200_u64).prop_map(s)),
        ) {
            let tally = RULES.tally(all.iter().copied(), healed);
            prop_assert_eq!(tally, naive(&RULES, &all, healed));
        }

        /// Whatever one says, beside those who say nothing against the target.
        #[test]
        fn one_alone_never_opens_it_for_the_others(
            one in opinions(), others in 0..20_usize, at in 0..20_usize,
        ) {
            let Some(one) = one.first() else { return Ok(()) };
            let mut all: Vec<_> = (0..others).map(|it| if it % 2 == 0 { WELL } else { SILENT }).collect();
            all.insert(at.min(others), *one);
            prop_assert!(!matches!(verdict(&all), Verdict::Open(_)));
        }

        #[test]
        fn nothing_that_was_seen_before_it_was_closed_opens_it(all in opinions()) {
            // All happened, at the latest, when it was said; it was closed right now.
            let tally = RULES.tally(all.iter().copied(), Some(Duration::ZERO));
            prop_assert!(!matches!(tally.verdict, Verdict::Open(_)));
            prop_assert_eq!((tally.open, tally.failing), (0, 0));
        }

        #[test]
        fn the_order_in_which_they_are_heard_does_not_matter(
            all in opinions().prop_shuffle(), healed in prop::option::of((0..200_u64).prop_map(s)),
        ) {
            let mut sorted = all.clone();
            sorted.sort_by_key(|it| format!("{it:?}"));
            let tally = RULES.tally(all.iter().copied(), healed);
            prop_assert_eq!(tally, RULES.tally(sorted, healed));
        }
    }
}
