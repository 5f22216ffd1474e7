//! How long Redis keeps a key: no key of ours is for ever.

use std::time::Duration;

use redis::{RedisWrite, ToRedisArgs};

/// How long Redis keeps a key, in whole milliseconds: at least one, at most ten years.
///
/// Rounded up, for a key that goes early may be believed in still. Zero would delete it, and what
/// does not fit would make Redis refuse the whole command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl {
    millis: u64,
}

impl Ttl {
    const LONGEST: u64 = 10 * 365 * 86_400 * 1000;

    /// As a number, for `PX` and `PEXPIRE`.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.millis
    }
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        Self {
            millis: millis.clamp(1, Self::LONGEST),
        }
    }
}

impl ToRedisArgs for Ttl {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        self.millis.write_redis_args(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_rounded_up_and_never_zero_nor_for_ever() {
        for (duration, millis) in [
            (Duration::ZERO, 1),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(1001), 2),
            (Duration::MAX, Ttl::LONGEST),
        ] {
            assert_eq!(Ttl::from(duration).as_millis(), millis);
        }
    }
}
