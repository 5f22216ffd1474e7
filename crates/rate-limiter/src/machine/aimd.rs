//! AIMD: a concurrency limit that grows by one while all is well and shrinks by a share when it is not, as
//! TCP's does (Chiu and Jain, 1989).

/// The numbers of the rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AimdRule {
    pub(crate) smallest: f64,
    pub(crate) largest: f64,
    /// What is left of the limit when something was too slow or refused.
    pub(crate) backoff: f64,
}

/// The limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Aimd {
    limit: f64,
}

impl Aimd {
    pub(crate) const fn new(initial: f64) -> Self {
        Self { limit: initial }
    }

    /// At most `running` ran at once, and some were refused or too slow, or none.
    pub(crate) fn sample(&mut self, rule: &AimdRule, is_over: bool, running: f64) -> f64 {
        if is_over {
            // A place less at least: a share of few is none.
            let less = (self.limit * rule.backoff).min(self.limit - 1.0);
            self.limit = less.floor();
        } else if running * 2.0 >= self.limit {
            // Otherwise the limit is not what holds them back, and nothing is learned about it.
            self.limit += 1.0;
        }
        self.limit = self.limit.clamp(rule.smallest, rule.largest);
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: AimdRule = AimdRule {
        smallest: 1.0,
        largest: 200.0,
        backoff: 0.9,
    };

    #[test]
    fn k1_6_it_grows_by_one_and_shrinks_by_a_share() {
        for (initial, largest, is_over, running, expected) in [
            (20.0, 200.0, false, 10.0, 21.0),
            (30.0, 200.0, true, 0.0, 27.0),
            (21.0, 21.0, false, 21.0, 21.0),
            // Nobody needs them: they are not more for it.
            (20.0, 200.0, false, 9.0, 20.0),
            // A tenth of few is one, and there is always one left.
            (5.0, 200.0, true, 5.0, 4.0),
            (1.0, 200.0, true, 1.0, 1.0),
        ] {
            let rule = AimdRule { largest, ..RULE };
            let mut aimd = Aimd::new(initial);
            let limit = aimd.sample(&rule, is_over, running);
            assert!((limit - expected).abs() < 1e-9, "{initial}: {limit}");
        }
    }

    proptest! {
        /// Beside the rule in whole numbers.
        #[test]
        fn it_is_the_rule_in_whole_numbers(
            smallest in 1..20_u64,
            more in 0..300_u64,
            percent in 1..100_u64,
            first in 0..400_u64,
            samples in prop::collection::vec((any::<bool>(), 0..500_u64), 0..200),
        ) {
            let largest = smallest + more;
            let mut naive = first.clamp(smallest, largest);
            let as_float = |number: u64| f64::from(u32::try_from(number).unwrap());
            let rule = AimdRule {
                smallest: as_float(smallest),
                largest: as_float(largest),
                backoff: as_float(percent) / 100.0,
            };
            let mut aimd = Aimd::new(as_float(naive));
            for (is_over, running) in samples {
                naive = match is_over {
                    true => (naive * percent / 100).min(naive - 1),
                    false if running * 2 >= naive => naive + 1,
                    false => naive,
                };
                naive = naive.clamp(smallest, largest);
                let limit = aimd.sample(&rule, is_over, as_float(running));
                // A product that is whole may come out a hair below: it is one less, and next time the same.
                prop_assert!((limit - as_float(naive)).abs() <= 1.0 + 1e-9, "{limit} {naive}");
                prop_assert!((rule.smallest..=rule.largest).contains(&limit));
                naive = if limit < as_float(naive) { naive - 1 } else { naive };
            }
        }
    }
}
