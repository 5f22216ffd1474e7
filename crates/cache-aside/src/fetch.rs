//! The one way by which a value comes that the first level has not.

use std::{sync::Arc, time::Duration};

use buttress_core::Moment;

use crate::{
    CacheError, Kept, LoadContext, Loaded,
    cache::Core,
    flight::Load,
    key::Key,
    level::{More, Slot},
    load::{Answer, MOST_TAGS, OwnTerms},
    machine::{Early, Life, shorten},
    policy::LONGEST,
};

/// A loader of any type, as it waits for its turn.
pub(crate) type Loader<V> = Box<dyn FnOnce(LoadContext<V>) -> Loading<V> + Send>;

/// What a loader does.
pub(crate) type Loading<V> =
    futures_util::future::BoxFuture<'static, Result<Loaded<V>, CacheError>>;

/// What came, and what is to become of it.
#[derive(Clone, Debug)]
pub(crate) struct Arrival<V> {
    pub(crate) slot: Slot<V>,
    pub(crate) kept: Kept,
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

/// First level (where it was not), loader, and then, by [`Core::land`], the first level again.
pub(crate) fn fetch<V: Clone + Send + Sync + 'static>(
    core: Arc<Core<V>>,
    order: Order<V>,
) -> Load<V> {
    Box::pin(async move {
        let begun = core.clock.now();
        let (born, stale) = (order.born, order.stale);
        let loaded = load(&core, order.key.clone(), stale.as_ref(), order.loader).await?;
        let now = core.clock.now();
        let took = now.saturating_since(begun);
        appraise(&core, &order.key, loaded, born, stale, now, took)
    })
}

/// Runs the loader, for as long as the policy lets it.
async fn load<V: Clone + Send + Sync + 'static>(
    core: &Core<V>,
    key: Key,
    stale: Option<&Slot<V>>,
    loader: Loader<V>,
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
    Ok(Arrival { slot, kept })
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
