//! A quota as it is written in a configuration: what is there passes the same checks as in code.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Algorithm, Bandwidth, Quota};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    permits: u64,
    per_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u64>,
    #[serde(default)]
    algorithm: Name,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    #[default]
    TokenBucket,
    Interval,
    FixedWindow,
    SlidingWindow,
    SlidingLog,
}

/// One bandwidth, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Written),
    Many(Vec<Written>),
}

impl Written {
    fn bandwidth(&self) -> Bandwidth {
        let algorithm = match self.algorithm {
            Name::TokenBucket => Algorithm::TokenBucket,
            Name::Interval => Algorithm::Interval,
            Name::FixedWindow => Algorithm::FixedWindow,
            Name::SlidingWindow => Algorithm::SlidingWindow,
            Name::SlidingLog => Algorithm::SlidingLog,
        };
        let period = Duration::from_millis(self.per_ms);
        let bandwidth = Bandwidth::per(self.permits, period).algorithm(algorithm);
        match self.burst {
            Some(burst) => bandwidth.burst(burst),
            None => bandwidth,
        }
    }
}

/// A list of bandwidths, in milliseconds: `[{"permits": 100, "per_ms": 1000, "burst": 500}]`. A period that
/// is no whole number of them cannot be written.
impl Serialize for Quota {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let written = self.bandwidths.iter().map(|bandwidth| {
            let nanos = bandwidth.period.as_nanos();
            if nanos % 1_000_000 != 0 {
                return Err(serde::ser::Error::custom(
                    "period must be whole milliseconds to be written",
                ));
            }
            Ok(Written {
                permits: bandwidth.permits,
                per_ms: u64::try_from(nanos / 1_000_000).unwrap_or(u64::MAX),
                burst: bandwidth.burst,
                algorithm: match bandwidth.algorithm {
                    Algorithm::TokenBucket => Name::TokenBucket,
                    Algorithm::Interval => Name::Interval,
                    Algorithm::FixedWindow => Name::FixedWindow,
                    Algorithm::SlidingWindow => Name::SlidingWindow,
                    Algorithm::SlidingLog => Name::SlidingLog,
                },
            })
        });
        written.collect::<Result<Vec<_>, _>>()?.serialize(to)
    }
}

/// One bandwidth or a list; what cannot work is refused as it is when built.
impl<'de> Deserialize<'de> for Quota {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let written = match OneOrMany::deserialize(from)? {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        };
        let mut bandwidths = written.iter().map(Written::bandwidth);
        let first = bandwidths
            .next()
            .ok_or_else(|| D::Error::custom("bandwidths must be 1 to 8"))?;
        let first = Self::new(first).map_err(D::Error::custom)?;
        bandwidths.try_fold(first, |quota, next| {
            quota.and(next).map_err(D::Error::custom)
        })
    }
}
