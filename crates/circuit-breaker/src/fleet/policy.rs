//! How a fleet agrees. What cannot work does not build.

use std::time::Duration;

use crate::{PolicyError, Rate};

/// How often the instances of a fleet tell one another what they see, and how many must agree.
///
/// | field | default | allowed |
/// | --- | --- | --- |
/// | share: of the instances that have something to say | 50 % | above 0, at most the whole |
/// | at least: so many instances, whatever the share | 2 | 2 to 250 |
/// | interval: between two exchanges, ±20 % | 1 s | 50 ms to 1 h |
/// | life: what an instance has said fades so long after it | 10 intervals | 3 to 1000 intervals |
/// | longest: nobody is open for longer because others are | 5 min | 100 ms to one day |
///
/// ```
/// use std::time::Duration;
/// use buttress_circuit_breaker::{FleetPolicy, Rate};
///
/// let policy = FleetPolicy::default()
///     .share(Rate::of(2, 3))?
///     .interval(Duration::from_millis(500))?;
/// # let _ = policy;
/// assert!(FleetPolicy::default().at_least(1).is_err()); // one that is bad would open all
/// # Ok::<(), buttress_circuit_breaker::PolicyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetPolicy {
    pub(super) share: Rate,
    pub(super) at_least: u32,
    pub(super) interval: Duration,
    pub(super) lives: u32,
    pub(super) longest: Duration,
}

impl Default for FleetPolicy {
    fn default() -> Self {
        Self {
            share: Rate::percent(50),
            at_least: 2,
            interval: Duration::from_secs(1),
            lives: 10,
            longest: Duration::from_secs(5 * 60),
        }
    }
}

impl FleetPolicy {
    /// The share of the instances with something to say that must speak against the target. One
    /// that is closed and has calls in its window (or has no window) is among them; an idle one,
    /// and one that is open because the others are, is not.
    ///
    /// # Errors
    ///
    /// When it is no share.
    pub const fn share(mut self, share: Rate) -> Result<Self, PolicyError> {
        if !share.is_share() {
            return Err(PolicyError::new("share", "above 0, at most the whole"));
        }
        self.share = share;
        Ok(self)
    }

    /// How many instances must speak against the target, whatever the share: the reason why one
    /// that is bad by itself does not open it for all.
    ///
    /// # Errors
    ///
    /// Unless it is from 2 to 250.
    pub const fn at_least(mut self, instances: u32) -> Result<Self, PolicyError> {
        if instances < 2 || instances > 250 {
            return Err(PolicyError::new("at_least", "from 2 to 250"));
        }
        self.at_least = instances;
        Ok(self)
    }

    /// The time between two exchanges. A change of state is told sooner, after a tenth of it.
    ///
    /// # Errors
    ///
    /// Unless it is from 50 ms to an hour.
    pub fn interval(mut self, interval: Duration) -> Result<Self, PolicyError> {
        if !(Duration::from_millis(50)..=Duration::from_secs(3600)).contains(&interval) {
            return Err(PolicyError::new("interval", "from 50 ms to an hour"));
        }
        self.interval = interval;
        Ok(self)
    }

    /// After how many intervals what an instance has said fades, when nothing more is heard of it.
    ///
    /// # Errors
    ///
    /// Unless it is from 3, for one exchange may be missed, to 1000.
    pub const fn life_in_intervals(mut self, intervals: u32) -> Result<Self, PolicyError> {
        if intervals < 3 || intervals > 1000 {
            return Err(PolicyError::new("life_in_intervals", "from 3 to 1000"));
        }
        self.lives = intervals;
        Ok(self)
    }

    /// For how long an instance is open at most because others are.
    ///
    /// # Errors
    ///
    /// Unless it is from 100 ms to one day.
    pub fn longest(mut self, longest: Duration) -> Result<Self, PolicyError> {
        if !(Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(&longest) {
            return Err(PolicyError::new("longest", "from 100 ms to one day"));
        }
        self.longest = longest;
        Ok(self)
    }

    pub(super) const fn life(&self) -> Duration {
        self.interval.saturating_mul(self.lives)
    }
}

/// As it is written: every field may be left out, and what is there passes the same checks.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    share: Rate,
    at_least: u32,
    interval_ms: u64,
    life_in_intervals: u32,
    longest_ms: u64,
}

#[cfg(feature = "serde")]
impl Default for Written {
    fn default() -> Self {
        let ms = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        let policy = FleetPolicy::default();
        Self {
            share: policy.share,
            at_least: policy.at_least,
            interval_ms: ms(policy.interval),
            life_in_intervals: policy.lives,
            longest_ms: ms(policy.longest),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for FleetPolicy {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let ms = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        let written = Written {
            share: self.share,
            at_least: self.at_least,
            interval_ms: ms(self.interval),
            life_in_intervals: self.lives,
            longest_ms: ms(self.longest),
        };
        written.serialize(to)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for FleetPolicy {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(from)?;
        let policy = Self::default()
            .share(written.share)
            .and_then(|it| it.at_least(written.at_least))
            .and_then(|it| it.interval(Duration::from_millis(written.interval_ms)))
            .and_then(|it| it.life_in_intervals(written.life_in_intervals))
            .and_then(|it| it.longest(Duration::from_millis(written.longest_ms)));
        policy.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "serde")]
    #[test]
    fn what_is_written_is_read_through_the_same_checks() {
        let policy = FleetPolicy::default().share(Rate::of(2, 3)).unwrap();
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<FleetPolicy>(&text).unwrap(), policy);
        let read = |text: &str| serde_json::from_str::<FleetPolicy>(text);
        assert_eq!(read("{}").unwrap(), FleetPolicy::default());
        for wrong in [
            r#"{"at_least":1}"#,
            r#"{"interval_ms":1}"#,
            r#"{"other":1}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let policy = FleetPolicy::default;
        let ms = Duration::from_millis;
        for (built, field) in [
            (policy().share(Rate::percent(0)), "share"),
            (policy().share(Rate::percent(101)), "share"),
            (policy().at_least(0), "at_least"),
            (policy().at_least(1), "at_least"),
            (policy().at_least(251), "at_least"),
            (policy().interval(ms(49)), "interval"),
            (policy().interval(Duration::MAX), "interval"),
            (policy().life_in_intervals(2), "life_in_intervals"),
            (policy().life_in_intervals(1001), "life_in_intervals"),
            (policy().longest(ms(99)), "longest"),
            (policy().longest(Duration::MAX), "longest"),
        ] {
            assert_eq!(built.unwrap_err().field(), field);
        }
        let built = policy()
            .share(Rate::percent(100))
            .and_then(|it| it.at_least(250));
        assert!(built.is_ok());
    }
}
