//! gRPC's rule (proposal A6, retry throttling): failures take tokens away, successes bring parts of
//! them back, and at half there is no retry.

/// A token in the parts that are counted.
pub(super) const TOKEN: u64 = 1000;

#[derive(Debug)]
pub(super) struct Throttle {
    max: u64,
    tokens: u64,
    ratio: u64,
}

impl Throttle {
    pub(super) fn new(max_tokens: u32, ratio: u64) -> Self {
        let max = u64::from(max_tokens) * TOKEN;
        Self {
            max,
            tokens: max,
            ratio,
        }
    }

    pub(super) fn failed(&mut self) {
        self.tokens = self.tokens.saturating_sub(TOKEN);
    }

    pub(super) fn succeeded(&mut self) {
        self.tokens = self.tokens.saturating_add(self.ratio).min(self.max);
    }

    pub(super) const fn max(&self) -> u64 {
        self.max
    }

    pub(super) const fn drawn(&self) -> u64 {
        self.max.saturating_sub(self.tokens)
    }

    pub(super) const fn allows(&self) -> bool {
        self.tokens * 2 > self.max
    }

    /// So many more may fail with a retry each.
    pub(super) const fn available(&self) -> u64 {
        (self.tokens * 2)
            .saturating_sub(self.max)
            .div_ceil(2 * TOKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens in thousandths after each step, and whether a retry would be allowed.
    fn run(throttle: &mut Throttle, steps: &str) -> Vec<(u64, bool)> {
        let steps = steps.chars().map(|step| {
            match step {
                'F' => throttle.failed(),
                _ => throttle.succeeded(),
            }
            (throttle.tokens, throttle.allows())
        });
        steps.collect()
    }

    #[test]
    fn g4_1_to_g4_4_a_tenth_back_for_each_success() {
        let mut throttle = Throttle::new(10, 100);
        let falling = run(&mut throttle, "FFFF");
        assert_eq!(
            falling,
            [(9000, true), (8000, true), (7000, true), (6000, true)]
        );
        assert_eq!(run(&mut throttle, "F"), [(5000, false)]);
        assert_eq!(run(&mut throttle, "S"), [(5100, true)]);
        let rising = run(&mut throttle, "FSSSSSSSSSS");
        assert_eq!(rising[0], (4100, false));
        assert_eq!(rising[9], (5000, false));
        assert_eq!(rising[10], (5100, true));
    }

    #[test]
    fn g4_5_half_a_token_back() {
        let steps = run(&mut Throttle::new(4, 500), "FFSS");
        assert_eq!(
            steps,
            [(3000, true), (2000, false), (2500, true), (3000, true)]
        );
    }

    #[test]
    fn g4_7_never_under_nothing_nor_over_the_maximum() {
        let mut throttle = Throttle::new(1, 100);
        assert_eq!(run(&mut throttle, "FF")[1].0, 0);
        let mut throttle = Throttle::new(10, 100);
        assert_eq!(run(&mut throttle, "S"), [(10_000, true)]);
    }

    #[test]
    fn g4_8_exactly_half_is_not_allowed() {
        let steps = run(&mut Throttle::new(10, 200), "FFFSFSSSSFF");
        assert_eq!(steps[10], (5000, false));
    }
}
