//! What a user chooses: how long an entry lives, when a stale one is served, and how much is kept.

mod builder;
#[cfg(feature = "serde")]
mod written;

use std::time::Duration;

pub use self::builder::CachePolicyBuilder;
pub(crate) use self::builder::LONGEST;
use crate::{
    PolicyError,
    machine::{Early, Terms},
};

/// How a cache behaves. Checked when it is built; cheap to clone.
///
/// | what | default | range |
/// | --- | --- | --- |
/// | `ttl` | 60 s | 1 ms to 366 days |
/// | `jitter_percent`: a ttl is shortened by up to so much | 10 | 0 to 50 |
/// | `stale_while_revalidate` after the ttl | 0 (off) | up to 366 days |
/// | `stale_if_error` after the ttl | 0 (off) | up to 366 days |
/// | `throttle` between loads that fail, while a stale value is there | 5 s | up to 1 hour |
/// | `early_refresh` | none | [`EarlyRefresh`] |
/// | `negative_ttl`: how long "there is none" is kept | 0 (off) | up to 366 days |
/// | `soft_timeout`: then a stale value is served and the load goes on | none | 1 ms to 1 hour, below the hard one; only with stale values to serve |
/// | `hard_timeout`: then the load is ended | 30 s | none, or 1 ms to 1 hour |
/// | `capacity` in entries, or in what a weigher says | 10,000 | 1 to 2^40 |
/// | `expected_entries`, where a weigher weighs | capacity / 1024 | 1 to 2^32 |
/// | `max_entry_weight` | none | 1 to `u32::MAX` |
/// | `max_key_bytes` | 255 | 1 to 65,535 |
///
/// An entry's own terms, said by its loader in a [`Loaded`](crate::Loaded), go before these.
///
/// ```
/// use std::time::Duration;
/// use buttress_cache_aside::{CachePolicy, EarlyRefresh};
///
/// let policy = CachePolicy::builder()
///     .ttl(Duration::from_secs(300))
///     .stale_if_error(Duration::from_secs(3600))
///     .early_refresh(EarlyRefresh::at(0.8))
///     .build()?;
/// assert_eq!(policy.ttl(), Duration::from_secs(300));
/// let wrong = CachePolicy::builder().ttl(Duration::ZERO).build().unwrap_err();
/// assert_eq!((wrong.field(), wrong.range()), ("ttl", "1 ms to 366 days"));
/// # Ok::<(), buttress_cache_aside::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CachePolicy {
    ttl: Duration,
    jitter_percent: u32,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    throttle: Duration,
    early_refresh: Option<EarlyRefresh>,
    negative_ttl: Duration,
    soft_timeout: Option<Duration>,
    hard_timeout: Option<Duration>,
    capacity: u64,
    expected_entries: Option<u64>,
    max_entry_weight: Option<u32>,
    max_key_bytes: usize,
}

/// When a fresh entry that is read is loaded anew, behind its reader's back and before it is stale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyRefresh {
    pub(crate) rule: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    At(f64),
    XFetch(f64),
}

impl EarlyRefresh {
    /// At the first read after this share of its time to live, above 0 and below 1.
    #[must_use]
    pub const fn at(share: f64) -> Self {
        Self {
            rule: Rule::At(share),
        }
    }

    /// At a read that draws it: the likelier, the nearer its end and the longer its load took. `beta` is
    /// above 0 and at most 100; 1 is the paper's optimum, more is earlier. Each instance draws for
    /// itself, so a fleet seldom loads at once.
    ///
    /// `XFetch`: Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention",
    /// VLDB 2015.
    #[must_use]
    pub const fn xfetch(beta: f64) -> Self {
        Self {
            rule: Rule::XFetch(beta),
        }
    }

    fn check(self) -> Result<(), PolicyError> {
        let (good, range) = match self.rule {
            Rule::At(share) => (share > 0.0 && share < 1.0, "a share above 0 and below 1"),
            Rule::XFetch(beta) => (
                beta > 0.0 && beta <= 100.0,
                "by a beta above 0 and at most 100",
            ),
        };
        if good {
            Ok(())
        } else {
            Err(PolicyError::new("early_refresh", range))
        }
    }
}

impl CachePolicy {
    /// Chooses, beginning with the defaults.
    pub fn builder() -> CachePolicyBuilder {
        CachePolicyBuilder::default()
    }

    /// The longest that an entry is fresh.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// By how many percent at most a time to live is shortened.
    #[must_use]
    pub const fn jitter_percent(&self) -> u32 {
        self.jitter_percent
    }

    /// How long after its time to live an entry is served while it is loaded anew.
    #[must_use]
    pub const fn stale_while_revalidate(&self) -> Duration {
        self.stale_while_revalidate
    }

    /// How long after its time to live an entry is served instead of an error.
    #[must_use]
    pub const fn stale_if_error(&self) -> Duration {
        self.stale_if_error
    }

    /// How long after a load that failed no other is begun, while a stale value is there.
    #[must_use]
    pub const fn throttle(&self) -> Duration {
        self.throttle
    }

    /// When a fresh entry is loaded anew.
    #[must_use]
    pub const fn early_refresh(&self) -> Option<EarlyRefresh> {
        self.early_refresh
    }

    /// How long it is kept that there is nothing under a key; zero for not at all.
    #[must_use]
    pub const fn negative_ttl(&self) -> Duration {
        self.negative_ttl
    }

    /// After how long a stale value is served while its load goes on.
    #[must_use]
    pub const fn soft_timeout(&self) -> Option<Duration> {
        self.soft_timeout
    }

    /// After how long a load is ended.
    #[must_use]
    pub const fn hard_timeout(&self) -> Option<Duration> {
        self.hard_timeout
    }

    /// How many entries, or how much weight, a process keeps.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// About how many entries there will be, where a weigher weighs them.
    #[must_use]
    pub const fn expected_entries(&self) -> Option<u64> {
        self.expected_entries
    }

    /// The heaviest entry that is kept.
    #[must_use]
    pub const fn max_entry_weight(&self) -> Option<u32> {
        self.max_entry_weight
    }

    /// The longest key under which something is kept.
    #[must_use]
    pub const fn max_key_bytes(&self) -> usize {
        self.max_key_bytes
    }

    /// The terms of an entry whose loader says nothing of its own, before jitter.
    pub(crate) fn terms(&self, load_took: Duration) -> Terms {
        Terms {
            ttl: self.ttl,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            early: match self.early_refresh.map(|early| early.rule) {
                None => Early::Never,
                Some(Rule::At(share)) => Early::At(share),
                Some(Rule::XFetch(beta)) => Early::Drawn(scale(load_took, beta)),
            },
        }
    }

    /// The terms of an entry that says that there is nothing: nobody wants it stale.
    pub(crate) const fn negative_terms(&self) -> Terms {
        Terms {
            ttl: self.negative_ttl,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            early: Early::Never,
        }
    }
}

impl Default for CachePolicy {
    fn default() -> Self {
        CachePolicyBuilder::default().into_policy()
    }
}

fn scale(load_took: Duration, beta: f64) -> Duration {
    Duration::try_from_secs_f64(load_took.as_secs_f64() * beta).unwrap_or(Duration::MAX)
}
