//! Asking the second level, and filling it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use buttress_core::Moment;
use buttress_store::Key;

use super::{LONGEST_KEY, Second};
use crate::{
    EventKind,
    cache::Core,
    codec::{Entry, Unreadable},
    level::{More, Slot},
    machine::{Life, Standing, Terms},
    policy::LONGEST,
    store::{FillToken, Held, Looked, Marks, Record, Stamp, Watch},
};

/// A key whose entry a caller of the cache needs.
pub(crate) struct Wanted<'w> {
    pub(crate) key: &'w [u8],
    /// Since when what is loaded counts, as the first level counts.
    pub(crate) born: u64,
    /// The first level has a fresh one that is to be renewed: only one that needs no renewal will do.
    pub(crate) renews: bool,
}

impl Wanted<'_> {
    /// The same, to be asked for once more.
    pub(super) const fn again(&self) -> Self {
        Self { ..*self }
    }
}

/// What the second level has of it.
pub(crate) enum Find<V> {
    /// It is served.
    Hit(Slot<V>),
    /// It must be loaded.
    Miss {
        /// With what it may be filled, if it may.
        filling: Option<Filling>,
        /// What may be served if the load fails.
        stale: Option<Slot<V>>,
    },
}

/// The right to fill a key with what is loaded from now on.
pub(crate) struct Filling {
    pub(super) key: Key,
    pub(super) token: FillToken,
    stamp: Stamp,
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The token is used up, or was ended before.
    Over,
    /// What was loaded cannot be written, or is too large.
    NotShared,
    /// The store did not say.
    Unknown,
}

/// An entry that was read, and what became of it so far.
struct Read<V> {
    at: usize,
    held: Held,
    entry: Option<Entry<V>>,
}

impl<V> Find<V> {
    /// Nothing is known of it, and nothing is kept.
    pub(crate) const fn nothing() -> Self {
        Self::Miss {
            filling: None,
            stale: None,
        }
    }
}

impl<V: Clone + Send + Sync + 'static> Second<V> {
    /// What it has of each, in their order: one trip, and another where entries have tags, and another for what is
    /// there and cannot be used. Fails by finding nothing.
    pub(crate) async fn find(&self, core: &Core<V>, wanted: &[Wanted<'_>]) -> Vec<Find<V>> {
        let mut found: Vec<Find<V>> = wanted.iter().map(|_| Find::nothing()).collect();
        let Some(space) = &self.space else {
            return found;
        };
        let asked: Vec<(usize, Key)> = wanted
            .iter()
            .enumerate()
            .filter_map(|(at, wanted)| Some((at, self.wire(wanted.key)?)))
            .filter(|(_, wire)| !self.owed.owes_key(wire))
            .collect();
        if asked.is_empty() {
            return found;
        }
        let (places, keys): (Vec<usize>, Vec<Key>) = asked.into_iter().unzip();
        let watch = Watch { space, tags: &[] };
        let reading = self.run(|deadline| self.store.read(&keys, Some(watch), deadline));
        let Some((looked, marks)) = reading.await.and_then(|it| Some((it.keys, it.marks?))) else {
            return found;
        };
        self.remember(marks.now);
        let mut read = Vec::new();
        for ((at, key), looked) in places.iter().zip(&keys).zip(looked) {
            match looked {
                Looked::Missed(missed) => {
                    found[*at] = Find::Miss {
                        filling: Some(Filling {
                            key: key.clone(),
                            token: missed.token,
                            stamp: marks.now,
                        }),
                        stale: None,
                    };
                }
                Looked::Held(held) => {
                    let entry = self.decoded(key, &held);
                    let at = *at;
                    read.push((key.clone(), Read { at, held, entry }));
                }
            }
        }
        self.bury(space, &marks, &mut read).await;
        let now = core.clock.now();
        let mut unusable = Vec::new();
        for (key, read) in read {
            let at = read.at;
            let slot = read.entry.and_then(|entry| {
                let slot = slot_of(core, entry, &read.held, wanted[at].born, now);
                if slot.is_none() {
                    let why = Unreadable::Damaged;
                    self.told.tell(EventKind::Unreadable { why });
                }
                slot
            });
            match slot {
                Some(slot) if is_usable(core, &slot, wanted[at].renews, now) => {
                    found[at] = Find::Hit(slot);
                }
                stale => unusable.push((at, key, stale)),
            }
        }
        self.claim(&marks, unusable, &mut found).await;
        found
    }

    fn decoded(&self, key: &Key, held: &Held) -> Option<Entry<V>> {
        let decoded = self.framing.decode(key, &held.bytes);
        if let Err(why) = decoded {
            self.told.tell(EventKind::Unreadable { why });
        }
        decoded.ok()
    }

    /// Takes out the dead: those of before a mark, and those whose tags are not known.
    async fn bury(&self, space: &Key, marks: &Marks, read: &mut [(Key, Read<V>)]) {
        let of_read = |(_, read): &(Key, Read<V>)| read.entry.as_ref().map(|it| it.tags.clone());
        let mut tags: Vec<Key> = read.iter().filter_map(of_read).flatten().collect();
        tags.sort_unstable();
        tags.dedup();
        let known = if tags.is_empty() {
            None
        } else {
            let watch = Watch { space, tags: &tags };
            self.run(|deadline| self.store.marks(watch, deadline)).await
        };
        let by_tag: HashMap<&Key, u64> = match &known {
            Some(known) => tags.iter().zip(known.tags.iter().copied()).collect(),
            None => HashMap::new(),
        };
        for (_, read) in read {
            read.entry.take_if(|entry| {
                let of_entry: Option<Vec<u64>> = entry
                    .tags
                    .iter()
                    .map(|tag| by_tag.get(tag).copied())
                    .collect();
                let Some(of_entry) = of_entry else {
                    return true; // what is not known is not valid
                };
                let marks = Marks {
                    tags: of_entry,
                    ..known.as_ref().unwrap_or(marks).clone()
                };
                !marks.allow(entry.stamp) || entry.tags.iter().any(|tag| self.owed.owes_tag(tag))
            });
        }
    }

    /// Tokens for what is there and cannot be used.
    async fn claim(
        &self,
        marks: &Marks,
        unusable: Vec<(usize, Key, Option<Slot<V>>)>,
        found: &mut [Find<V>],
    ) {
        if unusable.is_empty() {
            return;
        }
        let keys: Vec<Key> = unusable.iter().map(|(_, key, _)| key.clone()).collect();
        let claims = self.run(|deadline| self.store.claim(&keys, deadline)).await;
        let mut claims = claims.unwrap_or_default().into_iter();
        for (at, key, stale) in unusable {
            let filling = claims.next().map(|missed| Filling {
                key,
                token: missed.token,
                stamp: marks.now,
            });
            found[at] = Find::Miss { filling, stale };
        }
    }

    /// Keeps what was loaded, unless something came since the token was given. That it was not kept is no failure.
    pub(crate) async fn fill(
        &self,
        filling: Filling,
        slot: &Slot<V>,
        took: Duration,
        now: Moment,
    ) -> Filled {
        let Filling { key, token, stamp } = filling;
        if self.owed.owes_key(&key) {
            return Filled::Unknown;
        }
        let Some((bytes, life)) = self.framed(&key, slot, stamp, took, now) else {
            return Filled::NotShared;
        };
        let record = Record {
            bytes: &bytes,
            fresh: slot.life.fresh_until.saturating_since(now),
            life,
        };
        let fill = self.run(|deadline| self.store.fill(&key, &token, record, deadline));
        match fill.await {
            Some(_) => Filled::Over,
            None => Filled::Unknown,
        }
    }

    /// Its bytes, and how long they are kept; `None` for what cannot be kept.
    pub(super) fn framed(
        &self,
        key: &Key,
        slot: &Slot<V>,
        stamp: Stamp,
        took: Duration,
        now: Moment,
    ) -> Option<(Vec<u8>, Duration)> {
        let tags = slot.more.iter().flat_map(|more| more.tags.iter());
        let tags: Option<Vec<Key>> = tags
            .map(|tag| Key::bounded(tag.name(), LONGEST_KEY).ok())
            .collect();
        let Life {
            fresh_until,
            revalidate_until,
            error_until,
            ..
        } = slot.life;
        let entry = Entry {
            value: slot.value.as_ref(),
            tags: tags?,
            etag: slot.etag().map(ToString::to_string),
            stamp,
            fresh: fresh_until.saturating_since(now),
            revalidate: revalidate_until.saturating_since(fresh_until),
            error: error_until.saturating_since(fresh_until),
            took,
            weight: slot.weight,
        };
        let life = entry.fresh + entry.revalidate.max(entry.error);
        match self.framing.encode(key, &entry) {
            Ok(bytes) => Some((bytes, life)),
            Err(_too_large) => {
                self.told.tell(EventKind::NotShared);
                None
            }
        }
    }
}

/// Whether it is served as it is. What the first level would serve while it renews it, is renewed by who waits: he has
/// nothing to serve meanwhile. Where early loads are drawn, who renews draws for this one too: it may have just been renewed.
fn is_usable<V: Clone + Send + Sync + 'static>(
    core: &Core<V>,
    slot: &Slot<V>,
    renews: bool,
    now: Moment,
) -> bool {
    match slot.standing(now) {
        Standing::Quiet => true,
        Standing::Early => !renews || !core.is_due_early(&slot.life, now),
        Standing::Stale | Standing::Expired | Standing::Dead => false,
    }
}

/// It as the first level has it: with what is left of its life, and no more (CA-14).
fn slot_of<V: Clone + Send + Sync + 'static>(
    core: &Core<V>,
    entry: Entry<V>,
    held: &Held,
    born: u64,
    now: Moment,
) -> Option<Slot<V>> {
    let names: Option<Vec<Box<str>>> = entry
        .tags
        .iter()
        .map(|tag| std::str::from_utf8(tag).ok().map(Into::into))
        .collect();
    let names = names?;
    let terms = Terms {
        ttl: entry.fresh.min(LONGEST),
        stale_while_revalidate: entry.revalidate.min(LONGEST),
        stale_if_error: entry.error.min(LONGEST),
        early: core.policy.terms(entry.took).early,
    };
    let age = u64::try_from(held.age.as_nanos()).unwrap_or(u64::MAX);
    let begun = Moment::from_nanos(now.as_nanos().saturating_sub(age));
    let mut life = Life::begin(&terms, begun);
    // A process that is younger than its entries cannot tell when they began: the server can.
    life.no_longer_than(
        now.saturating_add(held.fresh),
        now.saturating_add(held.life),
    );
    let more = (!names.is_empty() || entry.etag.is_some()).then(|| {
        Arc::new(More {
            tags: core.tags.cells(&names),
            etag: entry.etag.map(Into::into),
        })
    });
    Some(Slot {
        value: entry.value,
        life,
        born,
        weight: entry.weight,
        more,
    })
}
