//! Fields that tell of limits: names and forms in one place.
//!
//! `RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-10. It is a draft:
//! names and parameters have changed before, and may again; they are off unless asked for.

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};

use buttress_core::RetryAfter;

use crate::{Decision, Quota};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Which fields a response gets, beside `Retry-After` on refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fields {
    /// None.
    #[default]
    None,
    /// `RateLimit` and `RateLimit-Policy`, as draft 10 has them.
    Draft10,
    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset` (seconds from now), as many services have them.
    XRateLimit,
    /// Both.
    Both,
}

impl Fields {
    /// Writes what a decision says, of the limiter with this name and quota.
    pub fn write(self, headers: &mut HeaderMap, name: &str, quota: &Quota, decision: &Decision) {
        if matches!(self, Self::Draft10 | Self::Both) {
            let field = RateLimitField::new(policy_name(name, quota, decision.policy()), decision);
            put(headers, RATE_LIMIT, &field.to_string());
            let policies: Vec<_> = PolicyField::of(name, quota)
                .iter()
                .map(ToString::to_string)
                .collect();
            put(headers, RATE_LIMIT_POLICY, &policies.join(", "));
        }
        if matches!(self, Self::XRateLimit | Self::Both) {
            put(headers, X_LIMIT, &decision.limit().to_string());
            put(headers, X_REMAINING, &decision.remaining().to_string());
            put(
                headers,
                X_RESET,
                &seconds(decision.reset_after()).to_string(),
            );
        }
    }
}

/// Writes `Retry-After`: whole seconds, at least one, rounded up.
pub fn write_retry_after(headers: &mut HeaderMap, wait: std::time::Duration) {
    put(headers, RETRY_AFTER, &RetryAfter::from(wait).to_string());
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

const fn seconds(duration: std::time::Duration) -> u64 {
    duration.as_secs() + (duration.subsec_nanos() > 0) as u64
}

/// Of several bandwidths each has a name: `orders-1`, `orders-2`.
fn policy_name(name: &str, quota: &Quota, at: usize) -> String {
    match quota.bandwidths().len() {
        0 | 1 => name.to_owned(),
        _ => format!("{name}-{}", at + 1),
    }
}

/// An item of `RateLimit-Policy`: `"orders";q=100;w=60`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyField {
    /// The policy's name.
    pub name: String,
    /// The most that can be had at once.
    pub quota: u64,
    /// The period, in seconds, rounded up.
    pub window: u64,
}

impl PolicyField {
    /// An item.
    #[must_use]
    pub fn new(name: impl Into<String>, quota: u64, window: u64) -> Self {
        Self {
            name: name.into(),
            quota,
            window,
        }
    }

    /// One for each bandwidth.
    #[must_use]
    pub fn of(name: &str, quota: &Quota) -> Vec<Self> {
        let bandwidths = quota.bandwidths().iter().enumerate();
        bandwidths
            .map(|(at, bandwidth)| Self {
                name: policy_name(name, quota, at),
                quota: bandwidth.most(),
                window: seconds(bandwidth.period()),
            })
            .collect()
    }
}

impl std::fmt::Display for PolicyField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, quota, window) = (Quoted(&self.name), self.quota, self.window);
        write!(f, "{name};q={quota};w={window}")
    }
}

/// An item of `RateLimit`: `"orders";r=50;t=30`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimitField {
    /// The policy's name.
    pub name: String,
    /// How many can be had now.
    pub remaining: u64,
    /// After how many seconds more can be had: for one who was refused, when he may come back; else when
    /// all of it is there again.
    pub reset: u64,
}

impl RateLimitField {
    /// What a decision says.
    #[must_use]
    pub fn new(name: impl Into<String>, decision: &Decision) -> Self {
        let reset = decision.retry_after().unwrap_or(decision.reset_after());
        Self {
            name: name.into(),
            remaining: decision.remaining(),
            reset: seconds(reset),
        }
    }
}

impl std::fmt::Display for RateLimitField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, remaining, reset) = (Quoted(&self.name), self.remaining, self.reset);
        write!(f, "{name};r={remaining};t={reset}")
    }
}

/// A string of structured fields (RFC 9651, section 3.3.3): printable ASCII, `"` and `\` escaped. What is
/// none becomes `?`.
struct Quoted<'n>(&'n str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                ' '..='~' => write!(f, "{character}")?,
                _ => f.write_str("?")?,
            }
        }
        f.write_str("\"")
    }
}
