//! Random numbers for jitter and for throttling: good enough to spread, and not for secrets.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// Where random numbers come from.
#[derive(Clone, Default)]
pub(crate) struct Chance {
    source: Option<Arc<dyn Fn() -> u64 + Send + Sync>>,
}

impl Chance {
    pub(crate) fn from_fn(source: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Arc::new(source)),
        }
    }

    pub(crate) fn next(&self) -> u64 {
        match &self.source {
            Some(source) => source(),
            // Every RandomState has keys of its own, and its hash of nothing is a keyed mixture
            // of them: SipHash as a generator, without a state to share.
            None => RandomState::new().hash_one(()),
        }
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Some(_) => "given",
            None => "by the system",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_over_the_whole_range() {
        let chance = Chance::default();
        let mut sixteenths = [0_u32; 16];
        for _ in 0..16_000 {
            let sixteenth = usize::try_from(chance.next() >> 60).unwrap();
            sixteenths[sixteenth] += 1;
        }
        // Ten standard deviations of a fair draw.
        for count in sixteenths {
            assert!((690..1310).contains(&count), "{sixteenths:?}");
        }
    }
}
