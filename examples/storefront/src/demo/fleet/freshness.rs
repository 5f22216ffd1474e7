//! How old what is read of products may be: each read is held against the changes that were
//! answered before it was sent.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use buttress_core::Moment;

/// What another instance may serve after a change was answered.
const OLDEST: Duration = Duration::from_secs(1);
/// The same, when who made the change could not reach Redis.
const OLDEST_WITHOUT_REDIS: Duration = Duration::from_secs(10);

/// A change that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changed {
    pub(super) version: i64,
    pub(super) at: Moment,
    pub(super) by: SocketAddr,
    /// Whether who made it may have been kept from Redis.
    pub(super) in_trouble: bool,
}

/// All changes, and what was wrong with reads.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    changes: Mutex<HashMap<String, Vec<Changed>>>,
    judged: Mutex<Judged>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    pub(super) reads: usize,
    pub(super) from_cache: usize,
    pub(super) too_old: Vec<String>,
}

impl Freshness {
    pub(super) fn changed(&self, product: &str, changed: Changed) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.entry(product.to_owned()).or_default().push(changed);
    }

    /// How many changes were answered.
    pub(super) fn changes(&self) -> usize {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.values().map(Vec::len).sum()
    }

    /// Judges a read that was sent at `sent` to the instance at `from`, and saw `version`.
    pub(super) fn read(
        &self,
        product: &str,
        sent: Moment,
        from: SocketAddr,
        (version, hit): (i64, bool),
    ) {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = changes.get(product).and_then(|changes| {
            let missed = changes.iter().filter(|it| it.version > version);
            missed
                .filter(|it| sent > it.at.saturating_add(it.bound(from)))
                .max_by_key(|it| it.version)
        });
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        judged.reads += 1;
        judged.from_cache += usize::from(hit);
        if let Some(missed) = missed {
            judged.too_old.push(format!(
                "{product}: version {version} of {from}, {:?} after {} was answered by {}{}",
                sent.saturating_since(missed.at),
                missed.version,
                missed.by,
                if missed.in_trouble {
                    " without Redis"
                } else {
                    ""
                },
            ));
        }
    }

    pub(super) fn judged(&self) -> Judged {
        let judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        judged.clone()
    }
}

impl Changed {
    /// For how long after its answer the instance at `reader` may still show what was before.
    fn bound(&self, reader: SocketAddr) -> Duration {
        if reader == self.by {
            Duration::ZERO
        } else if self.in_trouble {
            OLDEST_WITHOUT_REDIS
        } else {
            OLDEST
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_too_old_only_past_the_bound_of_who_answers_it() {
        let [one, other]: [SocketAddr; 2] =
            [([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()];
        let at = |millis: u64| Moment::from_nanos(millis * 1_000_000);
        // In trouble, who reads, after how long, and whether seeing the version before is too old.
        for (in_trouble, reader, after, too_old) in [
            (false, one, 0, false),
            (false, one, 1, true),
            (false, other, 1000, false),
            (false, other, 1001, true),
            (true, other, 10_000, false),
            (true, other, 10_001, true),
            (true, one, 1, true),
        ] {
            let freshness = Freshness::default();
            let changed = |version, millis| Changed {
                version,
                at: at(millis),
                by: one,
                in_trouble,
            };
            freshness.changed("p1", changed(2, 50));
            freshness.changed("p1", changed(3, 100));
            freshness.read("p2", at(100_000), reader, (1, true));
            freshness.read("p1", at(100 + after), reader, (3, true));
            freshness.read("p1", at(100 + after), reader, (4, false));
            assert_eq!(freshness.judged().too_old, Vec::<String>::new());
            freshness.read("p1", at(100 + after), reader, (2, true));
            assert_eq!(
                freshness.judged().too_old.len(),
                usize::from(too_old),
                "{after} {in_trouble}"
            );
            assert_eq!(
                (freshness.judged().reads, freshness.judged().from_cache),
                (4, 3)
            );
        }
    }
}
