//! A policy as it is written in a configuration: every field may be left out, and what is there passes the same
//! checks.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CachePolicy, EarlyRefresh, Rule};
use crate::PolicyError;

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    ttl_ms: u64,
    jitter_percent: u32,
    stale_while_revalidate_ms: u64,
    stale_if_error_ms: u64,
    throttle_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    early_refresh: Option<When>,
    negative_ttl_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    soft_timeout_ms: Option<u64>,
    hard_timeout_ms: Option<u64>,
    capacity: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_entry_weight: Option<u32>,
    max_key_bytes: usize,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum When {
    At(f64),
    Xfetch(f64),
}

impl From<&CachePolicy> for Written {
    fn from(policy: &CachePolicy) -> Self {
        Self {
            ttl_ms: ms(policy.ttl),
            jitter_percent: policy.jitter_percent,
            stale_while_revalidate_ms: ms(policy.stale_while_revalidate),
            stale_if_error_ms: ms(policy.stale_if_error),
            throttle_ms: ms(policy.throttle),
            early_refresh: policy.early_refresh.map(|early| match early.rule {
                Rule::At(share) => When::At(share),
                Rule::XFetch(beta) => When::Xfetch(beta),
            }),
            negative_ttl_ms: ms(policy.negative_ttl),
            soft_timeout_ms: policy.soft_timeout.map(ms),
            hard_timeout_ms: policy.hard_timeout.map(ms),
            capacity: policy.capacity,
            expected_entries: policy.expected_entries,
            max_entry_weight: policy.max_entry_weight,
            max_key_bytes: policy.max_key_bytes,
        }
    }
}

impl Default for Written {
    fn default() -> Self {
        Self::from(&CachePolicy::default())
    }
}

impl Written {
    fn build(self) -> Result<CachePolicy, PolicyError> {
        let of_ms = Duration::from_millis;
        let mut builder = CachePolicy::builder()
            .ttl(of_ms(self.ttl_ms))
            .jitter_percent(self.jitter_percent)
            .stale_while_revalidate(of_ms(self.stale_while_revalidate_ms))
            .stale_if_error(of_ms(self.stale_if_error_ms))
            .throttle(of_ms(self.throttle_ms))
            .negative_ttl(of_ms(self.negative_ttl_ms))
            .capacity(self.capacity)
            .max_key_bytes(self.max_key_bytes);
        builder = match self.early_refresh {
            None => builder,
            Some(When::At(share)) => builder.early_refresh(EarlyRefresh::at(share)),
            Some(When::Xfetch(beta)) => builder.early_refresh(EarlyRefresh::xfetch(beta)),
        };
        if let Some(soft) = self.soft_timeout_ms {
            builder = builder.soft_timeout(of_ms(soft));
        }
        builder = match self.hard_timeout_ms {
            None => builder.no_hard_timeout(),
            Some(hard) => builder.hard_timeout(of_ms(hard)),
        };
        if let Some(entries) = self.expected_entries {
            builder = builder.expected_entries(entries);
        }
        if let Some(weight) = self.max_entry_weight {
            builder = builder.max_entry_weight(weight);
        }
        builder.build()
    }
}

/// In milliseconds: `{"ttl_ms": 60000, "early_refresh": {"at": 0.8}}`.
impl Serialize for CachePolicy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Written::from(self).serialize(to)
    }
}

/// What is left out is the default; what cannot work is refused as it is when built. No hard timeout is
/// `null`.
impl<'de> Deserialize<'de> for CachePolicy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(from)?;
        written.build().map_err(serde::de::Error::custom)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
