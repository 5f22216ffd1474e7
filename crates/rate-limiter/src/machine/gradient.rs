//! Gradient2: a concurrency limit from latencies, as Netflix' concurrency-limits has it. It compares
//! what calls take now with what they took over a long time, and shrinks when they queue.

/// An exponential average that begins as a plain one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Average {
    value: f64,
    sum: f64,
    count: f64,
    window: f64,
    warm_up: f64,
}

impl Average {
    const fn new(window: f64, warm_up: f64) -> Self {
        Self {
            value: 0.0,
            sum: 0.0,
            count: 0.0,
            window,
            warm_up,
        }
    }

    fn add(&mut self, sample: f64) -> f64 {
        if self.count < self.warm_up {
            self.count += 1.0;
            self.sum += sample;
            self.value = self.sum / self.count;
        } else {
            let weight = 2.0 / (self.window + 1.0);
            self.value = self.value * (1.0 - weight) + sample * weight;
        }
        self.value
    }

    fn scale(&mut self, by: f64) {
        self.value *= by;
    }

    #[cfg(test)]
    const fn seeded(value: f64) -> Self {
        Self {
            value,
            sum: 0.0,
            count: 1.0,
            window: 600.0,
            warm_up: 1.0,
        }
    }
}

/// The numbers of the rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Gradient2Rule {
    pub(crate) smallest: f64,
    pub(crate) largest: f64,
    /// How many may queue.
    pub(crate) queue: f64,
    /// How much longer than usual calls may take before the limit shrinks.
    pub(crate) tolerance: f64,
    pub(crate) smoothing: f64,
}

/// The limit, and the long latency it is measured by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Gradient2 {
    limit: f64,
    long: Average,
}

impl Gradient2 {
    pub(crate) const fn new(initial: f64) -> Self {
        Self {
            limit: initial,
            long: Average::new(600.0, 10.0),
        }
    }

    /// Calls took `short` on average, and at most `running` ran at once.
    pub(crate) fn sample(&mut self, rule: &Gradient2Rule, short: f64, running: f64) -> f64 {
        if !(short.is_finite() && short > 0.0) {
            return self.limit;
        }
        let long = self.long.add(short);
        // After a long time of overload the long latency comes down again faster than its window.
        if long / short > 2.0 {
            self.long.scale(0.95);
        }
        // The limit is not what holds them back, so nothing is learned about it.
        if running < self.limit / 2.0 {
            return self.limit;
        }
        let gradient = (rule.tolerance * long / short).clamp(0.5, 1.0);
        let target = self.limit * gradient + rule.queue;
        let smooth = self.limit * (1.0 - rule.smoothing) + target * rule.smoothing;
        self.limit = smooth.clamp(rule.smallest, rule.largest);
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Gradient2Rule = Gradient2Rule {
        smallest: 20.0,
        largest: 200.0,
        queue: 4.0,
        tolerance: 1.5,
        smoothing: 0.2,
    };

    #[test]
    fn k1_8_an_average_warms_up_plainly_and_then_weighs() {
        let mut average = Average::new(100.0, 10.0);
        let warm: Vec<_> = (10_u8..20).map(|it| average.add(it.into())).collect();
        assert_eq!((warm[0], warm[1], warm[9]), (10.0, 10.5, 14.5));
        assert!((average.add(100.0) - 16.2).abs() < 0.05);
    }

    #[test]
    fn k1_10_the_limit_follows_the_gradient() {
        // The long latency is what the row says after the sample is in it: no window, so it stays.
        for (limit, long, short, running, expected) in [
            (20.0, 1.0, 1.0, 20.0, 20.8),
            (100.0, 1.0, 1.0, 100.0, 100.8),
            (100.0, 1.0, 2.0, 100.0, 95.8),
            (100.0, 1.0, 3.0, 100.0, 90.8),
            (100.0, 1.0, 10.0, 100.0, 90.8),
            (100.0, 1.0, 1.0, 49.0, 100.0),
        ] {
            let mut gradient = Gradient2 {
                limit,
                long: Average::seeded(long),
            };
            let next = gradient.sample(&RULE, short, running);
            assert!((next - expected).abs() < 0.3, "{short} {running}: {next}");
        }
    }

    #[test]
    fn no_sample_makes_it_leave_its_bounds() {
        let mut gradient = Gradient2::new(20.0);
        for short in [f64::NAN, f64::INFINITY, 0.0, -1.0, 1e-300, 1e300, 1.0] {
            for _ in 0..1000 {
                let limit = gradient.sample(&RULE, short, 1e9);
                assert!((20.0..=200.0).contains(&limit), "{short}: {limit}");
            }
        }
    }
}
