//! The one way by which a value comes that the first level has not.

use std::{sync::Arc, time::Duration};

use buttress_core::Moment;

use futures_util::future::BoxFuture;

use crate::{
    CacheError, Kept, LoadContext, LoadFailure, Loaded,
    cache::Core,
    flight::Load,
    key::Key,
    level::{More, Slot},
    load::{Answer, MOST_TAGS, OwnTerms},
    machine::{Early, Life, Standing, shorten},
    policy::LONGEST,
    second::{Filled, Find, Turn, Wanted},
};

/// A loader of any type, as it waits for its turn.
pub(crate) struct Loader<V> {
    pub(crate) load: Bring<V>,
    /// How the second level is asked, where that is not by this load alone.
    pub(crate) look: Option<BoxFuture<'static, Find<V>>>,
}

/// What brings the value.
pub(crate) type Bring<V> = Box<dyn FnOnce(LoadContext<V>) -> Loading<V> + Send>;

/// What a loader does.
pub(crate) type Loading<V> = BoxFuture<'static, Result<Loaded<V>, CacheError>>;

/// What came, and what is to become of it.
#[derive(Clone, Debug)]
pub(crate) struct Arrival<V> {
    pub(crate) slot: Slot<V>,
    pub(crate) kept: Kept,
    pub(crate) from: From,
}

/// Where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Source,
    SecondLevel,
    /// From the second level, stale, because the load failed.
    Instead(LoadFailure),
}

/// What a load begins with.
pub(crate) struct Order<V> {
    pub(crate) key: Key,
    /// The counter's number before anything was asked.
    pub(crate) born: u64,
    /// What the first level has, and may not serve as it is.
    pub(crate) stale: Option<Slot<V>>,
    pub(crate) loader: Loader<V>,
}

/// First level (where it was not), second level, loader, and then the second level and, by [`Core::land`], the first
/// again.
pub(crate) fn fetch<V: Clone + Send + Sync + 'static>(
    core: Arc<Core<V>>,
    order: Order<V>,
) -> Load<V> {
    Box::pin(async move {
        let Order {
            key,
            born,
            mut stale,
            loader,
        } = order;
        let turn = look(&core, &key, born, stale.as_ref(), loader.look).await;
        let (looked, mut holding) = (turn.looked, turn.holding);
        let (filling, shelved) = match turn.find {
            Find::Hit(mut slot) => {
                core.cap(&mut slot.life, looked);
                return Ok(Arrival {
                    slot,
                    kept: Kept::Kept,
                    from: From::SecondLevel,
                });
            }
            Find::Miss { filling, stale } => (filling, stale),
        };
        // What others share is not older than what this process has.
        let is_shelved = shelved.is_some();
        stale = shelved.or(stale);
        let begun = core.clock.now();
        let loading = load(&core, key.clone(), stale.as_ref(), loader.load);
        let loaded = match (&holding, &core.second) {
            (Some(holding), Some(second)) => holding.keep(second, loading).await,
            _ => loading.await,
        };
        let now = core.clock.now();
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                let shelved = stale.filter(|_| is_shelved);
                return instead(&core, shelved, &error, now).ok_or(error);
            }
        };
        let took = now.saturating_since(begun);
        let mut arrival = appraise(&core, &key, loaded, born, stale, now, took)?;
        let filled = match (&core.second, filling, arrival.kept) {
            (Some(second), Some(filling), Kept::Kept) => {
                second.fill(filling, &arrival.slot, took, now).await
            }
            _ => Filled::NotShared,
        };
        match (&mut holding, filled) {
            (Some(holding), Filled::Over) => holding.is_over(),
            (Some(holding), Filled::NotShared) => holding.opens(),
            (Some(_), Filled::Unknown) | (None, _) => {}
        }
        core.cap(&mut arrival.slot.life, looked);
        Ok(arrival)
    })
}

/// What the second level has of it, when it is our turn to load it.
async fn look<V: Clone + Send + Sync + 'static>(
    core: &Core<V>,
    key: &Key,
    born: u64,
    stale: Option<&Slot<V>>,
    together: Option<BoxFuture<'static, Find<V>>>,
) -> Turn<V> {
    let looked = core.clock.now();
    let at_once = |find| Turn {
        find,
        holding: None,
        looked,
    };
    let Some(second) = &core.second else {
        return at_once(Find::nothing());
    };
    if key.len() > core.policy.max_key_bytes() {
        return at_once(Find::nothing());
    }
    if let Some(together) = together {
        return at_once(together.await);
    }
    let renews = stale.is_some_and(|slot| core.standing(slot, looked) == Standing::Early);
    let wanted = Wanted { key, born, renews };
    let mut found = second.find(core, std::slice::from_ref(&wanted)).await;
    let find = found.pop().unwrap_or_else(Find::nothing);
    second.turn(core, wanted, find, looked).await
}

/// What the second level had may be served for a while, and by all here, instead of this error.
fn instead<V: Clone + Send + Sync + 'static>(
    core: &Core<V>,
    shelved: Option<Slot<V>>,
    error: &CacheError,
    now: Moment,
) -> Option<Arrival<V>> {
    let mut slot = shelved.filter(|slot| slot.life.outlives_an_error(now))?;
    slot.life.hush(now, core.policy.throttle());
    Some(Arrival {
        slot,
        kept: Kept::Kept,
        from: From::Instead(LoadFailure::of(error)),
    })
}

/// Runs the loader, for as long as the policy lets it.
async fn load<V: Clone + Send + Sync + 'static>(
    core: &Core<V>,
    key: Key,
    stale: Option<&Slot<V>>,
    loader: Bring<V>,
) -> Result<Loaded<V>, CacheError> {
    let value = stale.and_then(|slot| slot.value.clone());
    let etag = stale.and_then(|slot| slot.etag().cloned());
    let loading = loader(LoadContext::new(key, value, etag));
    match core.policy.hard_timeout() {
        None => loading.await,
        Some(limit) => tokio::time::timeout(limit, loading)
            .await
            .unwrap_or(Err(CacheError::TimedOut(limit))),
    }
}

/// Makes an entry of what was loaded or written, by the loader's own terms and the policy's.
pub(crate) fn appraise<V: Clone + Send + Sync + 'static>(
    core: &Core<V>,
    key: &[u8],
    loaded: Loaded<V>,
    born: u64,
    stale: Option<Slot<V>>,
    now: Moment,
    took: Duration,
) -> Result<Arrival<V>, CacheError> {
    let Loaded { answer, terms: own } = loaded;
    let (value, old) = match answer {
        Answer::Value(value) => (Some(value), None),
        Answer::NotFound => (None, None),
        Answer::NotModified => {
            let old = stale.filter(|slot| slot.value.is_some());
            let old = old.ok_or(CacheError::NothingToKeep)?;
            (old.value, Some((old.weight, old.more)))
        }
    };
    let weight = match (own.weight, &old, &value) {
        (Some(weight), ..) => weight,
        (None, Some((weight, _)), _) => *weight,
        (None, None, Some(value)) => core.weigh(key, value),
        (None, None, None) => 1,
    };
    let (life, is_kept) = life_of(core, &own, value.is_none(), now, took);
    let old = old.and_then(|(_, more)| more);
    let (more, has_too_many) = more_of(core, own, old);
    let is_large = has_too_many
        || key.len() > core.policy.max_key_bytes()
        || core
            .policy
            .max_entry_weight()
            .is_some_and(|most| weight > most);
    let kept = match (is_kept, is_large) {
        (false, _) => Kept::NotToKeep,
        (true, true) => Kept::TooLarge,
        (true, false) => Kept::Kept,
    };
    let slot = Slot {
        value,
        life,
        born,
        weight,
        more,
    };
    Ok(Arrival {
        slot,
        kept,
        from: From::Source,
    })
}

fn life_of<V: Clone + Send + Sync + 'static>(
    core: &Core<V>,
    own: &OwnTerms,
    is_negative: bool,
    now: Moment,
    took: Duration,
) -> (Life, bool) {
    let mut terms = if is_negative {
        core.policy.negative_terms()
    } else {
        core.policy.terms(took)
    };
    terms.ttl = own.ttl.unwrap_or(terms.ttl).min(LONGEST);
    let is_kept = !own.do_not_cache && !terms.ttl.is_zero();
    let jitter = core.policy.jitter_percent();
    if jitter > 0 {
        terms.ttl = shorten(terms.ttl, jitter, core.random());
    }
    if let Some(after) = own.stale_while_revalidate {
        terms.stale_while_revalidate = after.min(LONGEST);
    }
    if let Some(after) = own.stale_if_error {
        terms.stale_if_error = after.min(LONGEST);
    }
    if !is_kept {
        terms.early = Early::Never;
    }
    (Life::begin(&terms, now), is_kept)
}

/// What few entries have, and whether there are too many tags of it.
fn more_of<V: Clone + Send + Sync + 'static>(
    core: &Core<V>,
    own: OwnTerms,
    old: Option<Arc<More>>,
) -> (Option<Arc<More>>, bool) {
    if own.tags.is_none() && own.etag.is_none() {
        return (old, false);
    }
    let old = old.as_deref();
    let tags = match own.tags {
        Some(mut names) => {
            names.sort_unstable();
            names.dedup();
            if names.len() > MOST_TAGS {
                return (None, true);
            }
            core.tags.cells(&names)
        }
        None => old.map(|old| old.tags.clone()).unwrap_or_default(),
    };
    let etag = own.etag.or_else(|| old.and_then(|old| old.etag.clone()));
    (Some(Arc::new(More { tags, etag })), false)
}
