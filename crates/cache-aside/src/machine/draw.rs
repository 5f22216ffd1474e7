//! What is left to chance: jitter, and early refreshes by `XFetch`.

use std::time::Duration;

use buttress_core::Moment;

/// A number of 53 random bits in (0, 1].
#[expect(
    clippy::cast_precision_loss,
    reason = "53 bits are what a double holds without loss"
)]
fn unit(random: u64) -> f64 {
    ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// A time to live, shortened by up to so many percent: entries that came together do not go
/// together, and none lives longer than was chosen.
pub(crate) fn shorten(ttl: Duration, percent: u32, random: u64) -> Duration {
    if percent == 0 {
        return ttl;
    }
    let share = f64::from(percent) / 100.0 * unit(random);
    portion(ttl, 1.0 - share)
}

/// This share of a duration, never more than all of it.
pub(crate) fn portion(whole: Duration, share: f64) -> Duration {
    let part = whole.as_secs_f64() * share.clamp(0.0, 1.0);
    Duration::try_from_secs_f64(part).map_or(whole, |part| part.min(whole))
}

/// How long before its end an entry is loaded anew by this draw: `-scale * ln(u)`, where `scale` is
/// the load's duration times beta.
///
/// Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", 2015.
pub(crate) fn advance(scale: Duration, random: u64) -> Duration {
    let factor = -unit(random).ln();
    // At most 37 times the scale; a scale that overflows by it is for ever.
    Duration::try_from_secs_f64(scale.as_secs_f64() * factor.max(0.0)).unwrap_or(Duration::MAX)
}

/// Whether this draw says to load anew now what is fresh until then.
pub(crate) fn xfetch_is_due(
    scale: Duration,
    fresh_until: Moment,
    now: Moment,
    random: u64,
) -> bool {
    advance(scale, random) >= fresh_until.saturating_since(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The random bits whose unit is `u`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "u is in (0, 1]"
    )]
    fn bits(u: f64) -> u64 {
        (((u * (1_u64 << 53) as f64) as u64) - 1) << 11
    }

    #[test]
    fn ca_33_the_advance_is_the_scale_times_the_logarithm_of_the_draw() {
        let scale = Duration::from_secs(2);
        for (draw, expected) in [(0.9, 0.210_721), (0.5, 1.386_294), (0.1, 4.605_170)] {
            let advance = advance(scale, bits(draw)).as_secs_f64();
            assert!((advance - expected).abs() < 1e-6, "{draw}: {advance}");
        }
        let end = Moment::START.saturating_add(Duration::from_secs(10));
        let now = |left: f64| Moment::START.saturating_add(Duration::from_secs_f64(10.0 - left));
        assert!(xfetch_is_due(scale, end, now(1.386), bits(0.5)));
        assert!(!xfetch_is_due(scale, end, now(1.387), bits(0.5)));
    }

    #[test]
    fn ca_34_how_often_it_is_due_falls_off_with_what_is_left() {
        // scale, what is left, probability
        let rows = [
            (0.4, 0.1, 0.778_801),
            (0.4, 0.4, 0.367_879),
            (0.4, 2.0, 0.006_738),
            (4.0, 2.0, 0.606_531),
        ];
        const DRAWS: u32 = 100_000;
        for (scale, left, probability) in rows {
            let scale = Duration::from_secs_f64(scale);
            let end = Moment::START.saturating_add(Duration::from_secs_f64(left));
            // Every hundred-thousandth of the unit once: no chance in the test.
            let due = (0..DRAWS)
                .filter(|draw| {
                    let draw = (f64::from(*draw) + 0.5) / f64::from(DRAWS);
                    xfetch_is_due(scale, end, Moment::START, bits(draw))
                })
                .count();
            let share = f64::from(u32::try_from(due).unwrap()) / f64::from(DRAWS);
            assert!((share - probability).abs() < 1e-4, "{share} {probability}");
        }
    }

    #[test]
    fn jitter_only_shortens_and_by_no_more_than_was_chosen() {
        let ttl = Duration::from_secs(100);
        assert_eq!(shorten(ttl, 0, u64::MAX), ttl);
        assert_eq!(shorten(ttl, 10, u64::MAX), Duration::from_secs(90));
        let least = shorten(ttl, 10, 0);
        assert!(least <= ttl && least > Duration::from_secs_f64(99.99));
        assert!(shorten(Duration::MAX, 50, 0) <= Duration::MAX);
    }

    #[test]
    fn no_draw_panics_at_the_ends_of_time() {
        assert_eq!(advance(Duration::ZERO, 0), Duration::ZERO);
        assert_eq!(advance(Duration::MAX, 0), Duration::MAX);
        assert_eq!(advance(Duration::MAX, u64::MAX), Duration::ZERO);
    }
}
