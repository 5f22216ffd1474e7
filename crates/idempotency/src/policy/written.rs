//! A policy as a configuration file writes it; what is left out is the default.

use std::time::Duration;

use buttress_store::LeaseTerms;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Abandoned, Policy, WhenDown};

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    lease_ms: u64,
    leases: u32,
    retention_ms: u64,
    retry_after_ms: u64,
    longest_outcome: usize,
    longest_progress: usize,
    longest_request: usize,
    patience_ms: u64,
    abandoned: Abandoned,
    when_down: WhenDown,
}

impl Default for Written {
    fn default() -> Self {
        Policy::default().into()
    }
}

impl From<Policy> for Written {
    fn from(policy: Policy) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            lease_ms: millis(policy.lease.length()),
            leases: policy.lease.ceiling(),
            retention_ms: millis(policy.retention),
            retry_after_ms: millis(policy.retry_after),
            longest_outcome: policy.longest_outcome,
            longest_progress: policy.longest_progress,
            longest_request: policy.longest_request,
            patience_ms: millis(policy.patience),
            abandoned: policy.abandoned,
            when_down: policy.when_down,
        }
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written::from(*self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let terms = LeaseTerms::new(Duration::from_millis(written.lease_ms));
        let terms = terms.and_then(|terms| terms.with_ceiling(written.leases));
        Self::builder()
            .lease(terms.map_err(D::Error::custom)?)
            .retention(Duration::from_millis(written.retention_ms))
            .retry_after(Duration::from_millis(written.retry_after_ms))
            .longest_outcome(written.longest_outcome)
            .longest_progress(written.longest_progress)
            .longest_request(written.longest_request)
            .patience(Duration::from_millis(written.patience_ms))
            .abandoned(written.abandoned)
            .when_down(written.when_down)
            .build()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_checked() {
        let policy: Policy = serde_json::from_str(r#"{"retention_ms": 5000}"#).unwrap();
        assert_eq!(policy.retention(), Duration::from_secs(5));
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
        for wrong in [
            r#"{"retention_ms": 0}"#,
            r#"{"leases": 0}"#,
            r#"{"retenton_ms": 1}"#,
        ] {
            assert!(serde_json::from_str::<Policy>(wrong).is_err(), "{wrong}");
        }
    }
}
