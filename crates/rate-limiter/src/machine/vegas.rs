//! Vegas: a concurrency limit from how many must be queueing, as TCP Vegas (Brakmo and Peterson, 1995) and
//! Netflix' concurrency-limits have it.
//!
//! Of `limit` calls, `limit * (1 - unloaded / now)` are queueing somewhere when calls that took `unloaded` take `now`. With
//! few there is room for more; with many there are too many. What a call takes without load is the least that was seen, and
//! it is looked at again now and then: with half of the places taken away, for else the queue itself would be measured, and
//! the limit would follow its own queue upwards.

/// The numbers of the rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct VegasRule {
    pub(crate) smallest: f64,
    pub(crate) largest: f64,
    /// With fewer in a queue it grows: in units of the limit's decimal logarithm.
    pub(crate) alpha: f64,
    /// With more it shrinks: in the same units.
    pub(crate) beta: f64,
    pub(crate) smoothing: f64,
    pub(crate) shrink: Shrink,
    /// After so many samples, or down to half as many by chance, the least latency is looked at anew.
    pub(crate) probe: u32,
}

/// By how much it shrinks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shrink {
    /// By its decimal logarithm.
    Logarithm,
    /// To this share of it.
    To(f64),
}

/// The limit, and what it is measured by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Vegas {
    limit: f64,
    /// What calls take without load; zero for not known.
    unloaded: f64,
    samples: u32,
    /// The next look is after so many.
    next: u32,
    probe: Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    No,
    /// There are fewer places; what comes back now began before.
    Drains,
    /// What comes back now is what it takes.
    Measures,
}

impl Vegas {
    pub(crate) const fn new(initial: f64) -> Self {
        Self {
            limit: initial,
            unloaded: 0.0,
            samples: 0,
            next: 0,
            probe: Probe::No,
        }
    }

    /// Calls took `short` on average, if any came to an end; at most `running` ran at once; some were refused or not.
    /// `chance` is drawn from 0 to 1.
    pub(crate) fn sample(
        &mut self,
        rule: &VegasRule,
        short: Option<f64>,
        is_over: bool,
        running: f64,
        chance: f64,
    ) -> f64 {
        let short = short.filter(|short| short.is_finite() && *short > 0.0);
        match (self.probe, short) {
            (Probe::No, _) => {}
            (Probe::Drains, _) => {
                self.probe = Probe::Measures;
                return self.places(rule);
            }
            (Probe::Measures, Some(short)) => {
                self.probe = Probe::No;
                self.unloaded = short;
                return self.limit;
            }
            (Probe::Measures, None) => return self.places(rule),
        }
        if self.next == 0 {
            self.draw(rule, chance);
        }
        self.samples = self.samples.saturating_add(1);
        if self.samples >= self.next && !is_over {
            self.samples = 0;
            self.draw(rule, chance);
            if running * 2.0 >= self.limit {
                self.probe = Probe::Drains;
                return self.places(rule);
            }
            // Half of the places are not taken: this is it.
            self.unloaded = short.unwrap_or(self.unloaded);
            return self.limit;
        }
        let Some(short) = short.or_else(|| is_over.then_some(self.unloaded)) else {
            return self.limit;
        };
        if !is_over && (self.unloaded <= 0.0 || short < self.unloaded) {
            self.unloaded = short;
            return self.limit;
        }
        let queue = (self.limit * (1.0 - self.unloaded / short)).ceil();
        let unit = unit(self.limit);
        let target = if is_over {
            self.shrunk(rule, unit)
        } else if running * 2.0 < self.limit {
            // The limit is not what holds them back, so nothing is learned about it.
            return self.limit;
        } else if queue <= unit {
            self.limit + rule.beta * unit
        } else if queue < rule.alpha * unit {
            self.limit + unit
        } else if queue > rule.beta * unit {
            self.shrunk(rule, unit)
        } else {
            return self.limit;
        };
        let target = target.clamp(rule.smallest, rule.largest);
        let smooth = self.limit * (1.0 - rule.smoothing) + target * rule.smoothing;
        self.limit = smooth.clamp(rule.smallest, rule.largest);
        self.limit
    }

    /// While it is looked at: half of them.
    fn places(&self, rule: &VegasRule) -> f64 {
        (self.limit / 2.0).max(rule.smallest)
    }

    fn draw(&mut self, rule: &VegasRule, chance: f64) {
        let after = f64::from(rule.probe) * (0.5 + chance.clamp(0.0, 1.0) / 2.0);
        self.next = whole(after).max(2);
    }

    fn shrunk(&self, rule: &VegasRule, unit: f64) -> f64 {
        match rule.shrink {
            Shrink::Logarithm => self.limit - unit,
            Shrink::To(share) => self.limit * share,
        }
    }
}

/// The decimal logarithm, in whole numbers, and one at least.
fn unit(limit: f64) -> f64 {
    limit.max(1.0).log10().floor().max(1.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is at most a u32's number, and not below zero"
)]
const fn whole(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: VegasRule = VegasRule {
        smallest: 1.0,
        largest: 20.0,
        alpha: 3.0,
        beta: 6.0,
        smoothing: 1.0,
        shrink: Shrink::Logarithm,
        probe: u32::MAX,
    };

    fn limits(rule: &VegasRule, initial: f64, samples: &[(f64, f64)]) -> Vec<f64> {
        let mut vegas = Vegas::new(initial);
        samples
            .iter()
            .map(|(short, running)| {
                vegas
                    .sample(rule, Some(*short), false, *running, 1.0)
                    .floor()
            })
            .collect()
    }

    #[test]
    fn k1_1_to_k1_5_the_limit_follows_the_queue() {
        let large = VegasRule {
            largest: 20_000.0,
            ..RULE
        };
        let halved = |smoothing| VegasRule {
            smoothing,
            shrink: Shrink::To(0.5),
            largest: 200.0,
            ..RULE
        };
        let (half, whole) = (halved(0.5), halved(1.0));
        let thrice = [(10.0, 100.0), (20.0, 100.0), (20.0, 100.0)];
        for (id, rule, initial, samples, expected) in [
            (
                "K1.1",
                &RULE,
                10.0,
                &[(10.0, 10.0), (10.0, 11.0)][..],
                &[10.0, 16.0][..],
            ),
            (
                "K1.2",
                &RULE,
                10.0,
                &[(10.0, 10.0), (50.0, 11.0)],
                &[10.0, 9.0],
            ),
            (
                "K1.3",
                &RULE,
                10.0,
                &[(10.0, 10.0), (14.0, 14.0)],
                &[10.0, 10.0],
            ),
            (
                "K1.4",
                &large,
                1e4,
                &[(1e4, 5e3), (1e4, 6e3)],
                &[10_000.0, 10_024.0],
            ),
            ("K1.5", &half, 100.0, &thrice, &[100.0, 75.0, 56.0]),
            ("K1.5", &whole, 100.0, &thrice, &[100.0, 50.0, 25.0]),
        ] {
            assert_eq!(limits(rule, initial, samples), expected, "{id}");
        }
    }

    #[test]
    fn k1_7_the_unit_is_the_logarithm_and_one_at_least() {
        let units = [0.0, 1.0, 99.0, 100.0, 10_000.0].map(unit);
        assert_eq!(units, [1.0, 1.0, 1.0, 2.0, 4.0]);
    }

    #[test]
    fn what_calls_take_without_load_is_looked_at_with_half_of_the_places() {
        let rule = VegasRule {
            largest: 100.0,
            probe: 4,
            ..RULE
        };
        let mut vegas = Vegas::new(50.0);
        let mut sample = |short, running| vegas.sample(&rule, Some(short), false, running, 1.0);
        assert_eq!(sample(10.0, 50.0), 50.0);
        assert_eq!(sample(11.2, 50.0), 50.0, "three to six of them queue");
        assert_eq!(sample(11.2, 50.0), 50.0);
        assert_eq!(sample(11.2, 50.0), 25.0, "it looks");
        assert_eq!(sample(99.0, 50.0), 25.0, "what began before says nothing");
        assert_eq!(sample(20.0, 25.0), 50.0, "it has become slower by itself");
        assert_eq!(sample(20.0, 50.0), 56.0, "and that is no queue");
        // When half of them are not taken, it need not take them away.
        let mut vegas = Vegas::new(50.0);
        for _ in 0..100 {
            assert_eq!(vegas.sample(&rule, Some(10.0), false, 5.0, 0.3), 50.0);
        }
    }

    #[test]
    fn what_is_refused_makes_it_shrink_also_when_nothing_comes_to_an_end() {
        let mut vegas = Vegas::new(10.0);
        for expected in [9.0, 8.0, 7.0] {
            assert_eq!(vegas.sample(&RULE, None, true, 1.0, 1.0), expected);
        }
        assert_eq!(vegas.sample(&RULE, None, false, 1.0, 1.0), 7.0);
    }

    /// The rule once more, step by step, as it is written down elsewhere.
    fn naive(rule: &VegasRule, limit: f64, least: &mut f64, sample: (f64, bool, f64)) -> f64 {
        let (rtt, dropped, inflight) = sample;
        if !dropped && (*least == 0.0 || rtt < *least) {
            *least = rtt;
            return limit;
        }
        let log = if limit < 100.0 {
            1.0
        } else if limit < 1000.0 {
            2.0
        } else {
            3.0
        };
        let queue = (limit * (1.0 - *least / rtt)).ceil();
        let new;
        if dropped {
            new = limit - log;
        } else if inflight * 2.0 >= limit {
            if queue <= log {
                new = limit + rule.beta * log;
            } else if queue < rule.alpha * log {
                new = limit + log;
            } else if queue > rule.beta * log {
                new = limit - log;
            } else {
                return limit;
            }
        } else {
            return limit;
        }
        let new = new.max(rule.smallest).min(rule.largest);
        (1.0 - rule.smoothing) * limit + rule.smoothing * new
    }

    proptest! {
        #[test]
        fn it_is_the_rule_as_it_is_written_down_and_stays_within_its_bounds(
            initial in 1..500_u16,
            smoothing in 0.05..1.0_f64,
            samples in prop::collection::vec((1..2000_u32, any::<bool>(), 0..600_u32), 1..100),
        ) {
            let rule = VegasRule { largest: 500.0, smoothing, ..RULE };
            let mut vegas = Vegas::new(f64::from(initial));
            let (mut limit, mut least) = (f64::from(initial), 0.0);
            for (rtt, dropped, inflight) in samples {
                let (rtt, inflight) = (f64::from(rtt), f64::from(inflight));
                let next = vegas.sample(&rule, Some(rtt), dropped, inflight, 1.0);
                limit = naive(&rule, limit, &mut least, (rtt, dropped, inflight));
                prop_assert!((next - limit).abs() < 1e-6, "{next} {limit}");
                prop_assert!((1.0..=500.0).contains(&next));
            }
        }

        #[test]
        fn no_sample_makes_it_leave_its_bounds(
            probe in 2..20_u32,
            samples in prop::collection::vec(
                (prop::option::of(any::<f64>()), any::<bool>(), any::<f64>(), 0.0..1.0_f64),
                0..200,
            ),
        ) {
            let rule = VegasRule { probe, ..RULE };
            let mut vegas = Vegas::new(10.0);
            for (short, is_over, running, chance) in samples {
                let limit = vegas.sample(&rule, short, is_over, running, chance);
                prop_assert!((1.0..=20.0).contains(&limit), "{limit}");
            }
        }
    }
}
