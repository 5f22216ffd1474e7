//! Which limits a request meets, and what they say.

use std::{fmt, pin::Pin, sync::Arc};

use buttress_store::{Key, KeyError};
use http::request::Parts;

use crate::{
    Decision, KeyedRateLimiter, Quota, SharedError, SharedRateLimiter,
    http::{Client, Fields},
};

/// A limiter of clients: in process, or shared.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Limits {
    /// In process.
    Keyed(KeyedRateLimiter<Vec<u8>>),
    /// Over a store.
    Shared(SharedRateLimiter),
}

impl Limits {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Keyed(limiter) => limiter.name(),
            Self::Shared(limiter) => limiter.name(),
        }
    }

    pub(super) fn quota(&self) -> Quota {
        match self {
            Self::Keyed(limiter) => limiter.quota(),
            Self::Shared(limiter) => limiter.quota(),
        }
    }
}

impl From<KeyedRateLimiter<Vec<u8>>> for Limits {
    fn from(limiter: KeyedRateLimiter<Vec<u8>>) -> Self {
        Self::Keyed(limiter)
    }
}

impl From<SharedRateLimiter> for Limits {
    fn from(limiter: SharedRateLimiter) -> Self {
        Self::Shared(limiter)
    }
}

pub(super) type Cost = Arc<dyn Fn(&Parts) -> u64 + Send + Sync>;

#[derive(Clone)]
pub(super) struct Route {
    pub(super) matches: Arc<dyn Fn(&Parts) -> bool + Send + Sync>,
    pub(super) limits: Limits,
}

#[derive(Clone)]
pub(super) struct Rules {
    limits: Limits,
    client: Client,
    pub(super) routes: Vec<Route>,
    pub(super) cost: Option<Cost>,
    pub(super) fields: Fields,
    pub(super) shadow: bool,
}

pub(super) type Deciding = Pin<Box<dyn Future<Output = Result<Decision, SharedError>> + Send>>;

pub(super) enum Asked {
    /// It costs nothing.
    Free,
    Decided {
        limits: Limits,
        decision: Decision,
    },
    Deciding {
        limits: Limits,
        deciding: Deciding,
    },
    Invalid(SharedError),
}

/// The key of those who cannot be told.
const UNKNOWN: &[u8] = b"-";

impl Rules {
    pub(super) const fn new(limits: Limits, client: Client) -> Self {
        Self {
            limits,
            client,
            routes: Vec::new(),
            cost: None,
            fields: Fields::None,
            shadow: false,
        }
    }

    pub(super) fn ask(&self, parts: &Parts) -> Asked {
        let permits = self.cost.as_ref().map_or(1, |cost| cost(parts));
        if permits == 0 {
            return Asked::Free;
        }
        let route = self.routes.iter().find(|route| (route.matches)(parts));
        let limits = route.map_or(&self.limits, |route| &route.limits);
        // One byte before it: nobody's key is that of those who cannot be told.
        let key = match self.client.key(parts) {
            Some(key) => [b"k", &key[..]].concat(),
            None => UNKNOWN.to_vec(),
        };
        match limits {
            Limits::Keyed(_) if key.len() > Key::LONGEST => {
                Asked::Invalid(SharedError::Key(KeyError::TooLong {
                    length: key.len(),
                    longest: Key::LONGEST,
                }))
            }
            Limits::Keyed(limiter) => Asked::Decided {
                decision: limiter.check_n(&key[..], permits),
                limits: limits.clone(),
            },
            Limits::Shared(limiter) => {
                let limiter = limiter.clone();
                Asked::Deciding {
                    deciding: Box::pin(async move { limiter.check_n(key, permits).await }),
                    limits: limits.clone(),
                }
            }
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("limits", &self.limits)
            .field("client", &self.client)
            .field("routes", &self.routes.len())
            .field("fields", &self.fields)
            .field("shadow", &self.shadow)
            .finish_non_exhaustive()
    }
}
