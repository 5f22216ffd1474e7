//! Keys that nobody finishes: how a store is asked for one, and what it is told of it.

use std::{borrow::Cow, fmt, time::Duration};

use buttress_store::{Fence, Token};
use bytes::Bytes;

use crate::{Fingerprint, Guard, ScopedKey};

/// Work that was begun and that nobody finishes: its request, and the guard under which it is
/// finished.
#[derive(Debug)]
#[non_exhaustive]
pub struct Orphan {
    /// Complete it, as the handler of the request would have. It knows which phases were passed.
    pub guard: Guard,
    /// What was asked for.
    pub request: Kept,
    /// Which drive this is, from one.
    pub drive: u32,
    #[cfg_attr(
        not(feature = "tower"),
        expect(dead_code, reason = "only the layer asks again")
    )]
    pub(crate) fingerprint: Fingerprint,
}

/// A request that was kept with its key. It is the user's data: `Debug` shows its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept(Bytes);

impl Kept {
    /// The bytes, as [`begin_keeping`](crate::Idempotency::begin_keeping) was given them.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl From<Bytes> for Kept {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl std::ops::Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Somebody wants a key that nobody finishes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Adoption {
    /// By what his claim is known.
    pub token: Token,
    /// For how long he gets it.
    pub lease: Duration,
    /// How long the record stays after that, if nobody finishes it.
    pub retention: Duration,
    /// Only a key whose lease has been over for so long.
    pub idle: Duration,
    /// The drive of this number is a key's last: it is parked with it, until it is finished.
    pub last_drive: u32,
    /// Only a key whose request was kept for this driver.
    pub driver: Cow<'static, str>,
}

impl Adoption {
    /// Somebody wants a key whose lease has been over for `idle`, and whose request was kept by
    /// [`begin_keeping`](crate::Idempotency::begin_keeping).
    #[must_use]
    pub const fn new(
        token: Token,
        [lease, retention]: [Duration; 2],
        idle: Duration,
        last_drive: u32,
    ) -> Self {
        Self {
            token,
            lease,
            retention,
            idle,
            last_drive,
            driver: Cow::Borrowed(""),
        }
    }

    /// The same, of those that were kept for this driver.
    #[must_use]
    pub fn for_driver(mut self, driver: Cow<'static, str>) -> Self {
        self.driver = driver;
        self
    }
}

/// A key that nobody finished, and that is claimed now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Adopted {
    /// The key.
    pub key: ScopedKey,
    /// By what the store knows the claim.
    pub fence: Fence,
    /// Of what was asked for.
    pub fingerprint: Fingerprint,
    /// What was asked for.
    pub request: Kept,
    /// The phases that were passed.
    pub progress: Kept,
    /// Which drive this is, from one.
    pub drive: u32,
}

impl Adopted {
    /// A key that is claimed under this fence.
    #[must_use]
    pub fn new(
        key: ScopedKey,
        fence: Fence,
        fingerprint: Fingerprint,
        [request, progress]: [Bytes; 2],
        drive: u32,
    ) -> Self {
        let [request, progress] = [Kept(request), Kept(progress)];
        Self {
            key,
            fence,
            fingerprint,
            request,
            progress,
            drive,
        }
    }
}

/// What becomes of a key that was driven and not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Postponement {
    /// It is due again after so long; `None`: it is parked.
    pub delay: Option<Duration>,
    /// The drive counts; otherwise it is as if it had not been.
    pub counts: bool,
    /// The work had certainly no effect in this drive, and whoever comes may have the key at once.
    pub free: bool,
}

impl Postponement {
    /// Due again after `delay`, or parked.
    #[must_use]
    pub const fn new(delay: Option<Duration>, counts: bool, free: bool) -> Self {
        Self {
            delay,
            counts,
            free,
        }
    }
}
