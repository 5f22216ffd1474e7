//! Many keys at once: one call of the loader for all that are missing.
//!
//! Each missing key has a flight of its own, as if it had been asked for alone: others join it, an invalidation
//! of one key leaves the others alone. All these flights wait for the one call.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, join_all},
};
use tokio::sync::oneshot;

use crate::{
    Cache, CacheError, EventKind, Loaded,
    cache::{Boarding, Core},
    fetch::Loader,
    flight::Passenger,
    key::Key,
    machine::Standing,
    second::{Find, Wanted},
};

/// What the one call brought, until each flight has taken its part.
type Brought<V> = Arc<Mutex<HashMap<Box<[u8]>, Loaded<V>>>>;
type Call<V> = Shared<BoxFuture<'static, Result<Brought<V>, CacheError>>>;

/// What the second level has of the keys, asked for in one trip, and which are missing there.
struct Looked<K, V> {
    found: Mutex<HashMap<Box<[u8]>, Find<V>>>,
    missing: Mutex<Vec<K>>,
}
type Look<K, V> = Shared<BoxFuture<'static, Arc<Looked<K, V>>>>;

/// A key that began a flight, and whether that is to renew what is there.
struct Asked<K> {
    key: K,
    renews: bool,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// The values under these keys, in their order; those that are missing come from one call of `loader`, which
    /// is given their keys. What it does not bring is not there, as if it had said [`Loaded::not_found`].
    ///
    /// Keys that somebody else is loading already are waited for, and not given to the loader. If no key is missing,
    /// but some are to be loaded anew behind the caller's back, that is one call as well. Dropping the future leaves
    /// each key's load to the others who wait for it.
    ///
    /// ```
    /// # use buttress_cache_aside::{Cache, CacheError, CachePolicy};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), CacheError> {
    /// let lengths = Cache::<usize>::new("lengths", CachePolicy::default());
    /// lengths.put("a", 1_usize).await;
    /// let loader = |missing: Vec<&'static str>| async move {
    ///     assert_eq!(missing, ["bb", "ccc"]);
    ///     Ok::<_, std::io::Error>(missing.into_iter().map(|key| (key, key.len())).collect::<Vec<_>>())
    /// };
    /// let found = lengths.get_many_or_load(["a", "bb", "ccc"], loader).await?;
    /// assert_eq!(found, [Some(1), Some(2), Some(3)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CacheError`]: a key could not be loaded, and there was nothing stale to serve for it.
    pub async fn get_many_or_load<K, F, I, T, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: impl FnOnce(Vec<K>) -> F + Send + 'static,
    ) -> Result<Vec<Option<V>>, CacheError>
    where
        K: AsRef<[u8]> + Send + 'static,
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let core = self.core();
        let keys: Vec<K> = keys.into_iter().collect();
        let mut batch = Batch::new(core, loader);
        let mut found = Vec::with_capacity(keys.len());
        let mut asked = Vec::new();
        for key in keys {
            let (place, began) = batch.place(core, key.as_ref());
            found.push(place);
            if began {
                let renews = matches!(found.last(), Some(Place::There(_)));
                asked.push(Asked { key, renews });
            }
        }
        batch.send(asked);
        let places = found.into_iter().map(|place| place.value(core));
        // Where all is there, nothing is waited for, and what is due is loaded in a task of its own.
        join_all(places).await.into_iter().collect()
    }
}

/// How one key's value comes.
enum Place<V: Clone + Send + Sync + 'static> {
    There(Option<V>),
    Flying(Passenger<V>),
}

impl<V: Clone + Send + Sync + 'static> Place<V> {
    async fn value(self, core: &Arc<Core<V>>) -> Result<Option<V>, CacheError> {
        let passenger = match self {
            Self::There(value) => return Ok(value),
            Self::Flying(passenger) => passenger,
        };
        match passenger.ride().await {
            Ok(arrival) => Ok(arrival.slot.value),
            Err(error) => {
                let (slot, _) = core.instead(&passenger.flight().key).ok_or(error)?;
                core.told.tell(EventKind::StaleServed { slow: false });
                Ok(slot.value)
            }
        }
    }
}

/// The one call, which begins when all keys have been looked at.
struct Batch<K, V> {
    call: Call<V>,
    look: Look<K, V>,
    begin: oneshot::Sender<Vec<Asked<K>>>,
    longest_key: usize,
    runtime: Option<tokio::runtime::Handle>,
}

impl<K, V> Batch<K, V>
where
    K: AsRef<[u8]> + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn new<F, I, T, E>(
        core: &Arc<Core<V>>,
        loader: impl FnOnce(Vec<K>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let (begin, asked) = oneshot::channel();
        let longest_key = core.policy.max_key_bytes();
        // No flight of these is born before this.
        let (core, born) = (Arc::clone(core), core.tags.now());
        let look = async move {
            // The sender is dropped without a word only when nobody waits for this any more.
            look_at_all(&core, asked.await.unwrap_or_default(), born).await
        };
        let look = look.boxed().shared();
        let looked = look.clone();
        let call = async move {
            let looked = looked.await;
            let missing = {
                let mut missing = looked.missing.lock();
                std::mem::take(missing.as_deref_mut().unwrap_or_else(|it| it.get_mut()))
            };
            let brought = loader(missing).await.map_err(CacheError::of_loader)?;
            let brought = brought
                .into_iter()
                .map(|(key, value)| (key.as_ref().into(), value.into()));
            Ok(Arc::new(Mutex::new(brought.collect())))
        };
        Self {
            call: call.boxed().shared(),
            look,
            begin,
            longest_key,
            runtime: tokio::runtime::Handle::try_current().ok(),
        }
    }

    /// How this key's value comes, and whether the call has to bring it.
    fn place(&mut self, core: &Arc<Core<V>>, key: &[u8]) -> (Place<V>, bool) {
        if let Some((slot, now)) = core.quiet(key) {
            core.tell_hit(&slot, now);
            return (Place::There(slot.value), false);
        }
        if let Some(slot) = core.unwritten(key) {
            core.tell_hit(&slot, core.clock.now());
            return (Place::There(slot.value), false);
        }
        let key: Key = key.into();
        if key.len() > core.policy.max_key_bytes() {
            let passenger = core.alone(&key, self.part(&key));
            return (Place::Flying(passenger), true);
        }
        let now = core.clock.now();
        let served = core.alive(&key).and_then(|slot| {
            let standing = core.standing(&slot, now);
            let is_due = matches!(standing, Standing::Early | Standing::Stale);
            let is_served = standing == Standing::Quiet || (is_due && self.runtime.is_some());
            is_served.then_some((slot, is_due, standing == Standing::Early))
        });
        if let Some((slot, is_due, early)) = served {
            core.tell_hit(&slot, now);
            let began = is_due && self.refresh(core, &key, early);
            return (Place::There(slot.value), began);
        }
        match core.board_current(&key, self.part(&key)) {
            Boarding::Hit(slot, now) => {
                core.tell_hit(&slot, now);
                (Place::There(slot.value), false)
            }
            Boarding::First(passenger) => {
                core.told
                    .tell_quietly(|| EventKind::Miss { collapsed: false });
                (Place::Flying(passenger), true)
            }
            Boarding::Joined(passenger, _) => {
                core.told
                    .tell_quietly(|| EventKind::Miss { collapsed: true });
                (Place::Flying(passenger), false)
            }
        }
    }

    /// Has it loaded anew behind the caller's back, and says whether the call has to bring it.
    fn refresh(&self, core: &Arc<Core<V>>, key: &Key, early: bool) -> bool {
        let Some(runtime) = &self.runtime else {
            return false;
        };
        let Boarding::First(passenger) = core.board(key, self.part(key)) else {
            return false;
        };
        core.told.tell_quietly(|| EventKind::RefreshBegun { early });
        runtime.spawn(async move { drop(passenger.ride().await) });
        true
    }

    /// The loader of one key: its part of what the second level has, and of what the call brings.
    fn part(&self, key: &Key) -> Loader<V> {
        let (call, look, key) = (self.call.clone(), self.look.clone(), Arc::clone(key));
        let is_flight = key.len() <= self.longest_key;
        let asked = Arc::clone(&key);
        let look = async move {
            let looked = look.await;
            let mut found = looked.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.remove(&*asked).unwrap_or_else(Find::nothing)
        };
        Loader {
            load: Box::new(move |_| {
                Box::pin(async move {
                    let brought = call.await?;
                    let mut brought = brought.lock().unwrap_or_else(PoisonError::into_inner);
                    // A key has one flight, and one too long for that has a part for each time that it was asked for.
                    let part = match is_flight {
                        true => brought.remove(&*key),
                        false => brought.get(&*key).cloned(),
                    };
                    Ok(part.unwrap_or_else(Loaded::not_found))
                })
            }),
            look: Some(look.boxed()),
        }
    }

    /// Begins the call, if it has to bring anything.
    fn send(self, asked: Vec<Asked<K>>) {
        if !asked.is_empty() {
            // Nobody listens only when nobody waits.
            drop(self.begin.send(asked));
        }
    }
}

/// What the second level has of all keys, in one trip.
async fn look_at_all<K, V>(core: &Core<V>, asked: Vec<Asked<K>>, born: u64) -> Arc<Looked<K, V>>
where
    K: AsRef<[u8]> + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    let most = core.policy.max_key_bytes();
    let (asked, too_long): (Vec<_>, Vec<_>) = asked
        .into_iter()
        .partition(|asked| asked.key.as_ref().len() <= most);
    let wanted: Vec<Wanted<'_>> = asked
        .iter()
        .map(|asked| Wanted {
            key: asked.key.as_ref(),
            born,
            renews: asked.renews,
        })
        .collect();
    let finds = match &core.second {
        Some(second) => second.find(core, &wanted).await,
        None => wanted.iter().map(|_| Find::nothing()).collect(),
    };
    drop(wanted);
    let mut found = HashMap::new();
    let mut missing: Vec<K> = Vec::new();
    for (asked, find) in asked.into_iter().zip(finds) {
        let key: Box<[u8]> = asked.key.as_ref().into();
        if matches!(find, Find::Miss { .. }) {
            missing.push(asked.key);
        }
        found.insert(key, find);
    }
    missing.extend(too_long.into_iter().map(|asked| asked.key));
    Arc::new(Looked {
        found: Mutex::new(found),
        missing: Mutex::new(missing),
    })
}
