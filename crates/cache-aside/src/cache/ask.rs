//! How a value is asked for: from the first level, behind the caller's back, or by a flight.

use std::sync::Arc;

use buttress_core::Moment;

use super::core::{Boarding, Core};
use crate::{
    CacheError, CacheOutcome, EventKind, Kept, Served,
    fetch::{Arrival, From, Loader},
    flight::Passenger,
    key::Key,
    level::Slot,
    machine::Standing,
};

impl<V: Clone + Send + Sync + 'static> Core<V> {
    /// The way of a value that is not simply there. Dropped, it leaves the flight it is in.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        key: &[u8],
        loader: Loader<V>,
    ) -> Result<Served<V>, CacheError> {
        if let Some(slot) = self.unwritten(key) {
            return Ok(self.hit(slot, self.clock.now()));
        }
        if key.len() > self.policy.max_key_bytes() {
            return self.ask_alone(key.into(), loader).await;
        }
        let key: Key = key.into();
        let now = self.clock.now();
        let mut has_stale = false;
        if let Some(slot) = self.alive(&key) {
            let standing = self.standing(&slot, now);
            match standing {
                Standing::Quiet => return Ok(self.hit(slot, now)),
                Standing::Early | Standing::Stale => {
                    // Without a runtime there is no behind the caller's back.
                    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                        let is_early = standing == Standing::Early;
                        return Ok(self.refresh(&runtime, &key, slot, now, is_early, loader));
                    }
                }
                Standing::Expired | Standing::Dead => {}
            }
            has_stale = slot.life.outlives_an_error(now);
        }
        self.fly(&key, has_stale, loader).await
    }

    async fn ask_alone(
        self: &Arc<Self>,
        key: Key,
        loader: Loader<V>,
    ) -> Result<Served<V>, CacheError> {
        self.told
            .tell_quietly(|| EventKind::Miss { collapsed: false });
        let arrival = self.alone(&key, loader).ride().await?;
        Ok(self.loaded(arrival, false, false))
    }

    /// Serves what is there, and has it loaded anew in a task of its own.
    fn refresh(
        self: &Arc<Self>,
        runtime: &tokio::runtime::Handle,
        key: &Key,
        slot: Slot<V>,
        now: Moment,
        early: bool,
        loader: Loader<V>,
    ) -> Served<V> {
        match self.board(key, loader) {
            Boarding::Hit(slot, now) => self.hit(slot, now),
            Boarding::Joined(..) => self.hit(slot, now),
            Boarding::First(passenger) => {
                self.told.tell_quietly(|| EventKind::RefreshBegun { early });
                runtime.spawn(ride_on(passenger));
                self.hit(slot, now)
            }
        }
    }

    /// Waits for a flight.
    async fn fly(
        self: &Arc<Self>,
        key: &Key,
        has_stale: bool,
        mut loader: Loader<V>,
    ) -> Result<Served<V>, CacheError> {
        loop {
            let (passenger, kept_loader) = match self.board(key, loader) {
                Boarding::Hit(slot, now) => return Ok(self.hit(slot, now)),
                Boarding::First(passenger) => (passenger, None),
                Boarding::Joined(passenger, loader) => (passenger, Some(loader)),
            };
            let collapsed = kept_loader.is_some();
            self.told.tell_quietly(|| EventKind::Miss { collapsed });
            let was_stale = passenger.flight().had_stale;
            let boarded = passenger.boarded;
            let landed = match self.policy.soft_timeout() {
                Some(soft) if has_stale => {
                    match tokio::time::timeout(soft, passenger.ride()).await {
                        Ok(landed) => landed,
                        Err(_slow) => match self.instead(key) {
                            Some((slot, now)) => {
                                self.hush(key);
                                self.told.tell(EventKind::StaleServed { slow: true });
                                tokio::spawn(ride_on(passenger));
                                return Ok(Served::new(slot, CacheOutcome::StaleIfError, now));
                            }
                            None => passenger.ride().await,
                        },
                    }
                }
                _ => passenger.ride().await,
            };
            match (landed, kept_loader) {
                // He came after an invalidation that hit what he waited for: it is not for him.
                (Ok(arrival), Some(own))
                    if boarded > arrival.slot.born && arrival.slot.is_fenced(&self.tags) =>
                {
                    loader = own;
                }
                (Ok(arrival), _) => return Ok(self.loaded(arrival, collapsed, was_stale)),
                (Err(error), _) => {
                    let (slot, now) = self.instead(key).ok_or(error)?;
                    self.told.tell(EventKind::StaleServed { slow: false });
                    return Ok(Served::new(slot, CacheOutcome::StaleIfError, now));
                }
            }
        }
    }

    /// What may be served instead of an error: what is kept now, for what was kept before may have been
    /// invalidated since.
    pub(crate) fn instead(&self, key: &Key) -> Option<(Slot<V>, Moment)> {
        let slot = self.alive(key)?;
        let now = self.clock.now();
        slot.life.outlives_an_error(now).then_some((slot, now))
    }

    /// Serves what is there.
    pub(crate) fn hit(&self, slot: Slot<V>, now: Moment) -> Served<V> {
        self.tell_hit(&slot, now);
        Served::kept(slot, now)
    }

    /// The value alone of what is served at once; `None` inside for that there is none.
    #[inline]
    pub(crate) fn quiet_value(&self, key: &[u8]) -> Option<Option<V>> {
        let (slot, now) = self.quiet(key)?;
        self.tell_hit(&slot, now);
        Some(slot.value)
    }

    #[inline]
    pub(crate) fn tell_hit(&self, slot: &Slot<V>, now: Moment) {
        self.told.tell_quietly(|| EventKind::Hit {
            stale: now >= slot.life.fresh_until,
            negative: slot.value.is_none(),
        });
    }

    fn loaded(&self, arrival: Arrival<V>, collapsed: bool, was_stale: bool) -> Served<V> {
        let outcome = match arrival.from {
            From::Source => CacheOutcome::Loaded {
                collapsed,
                was_stale,
                stored: arrival.kept == Kept::Kept,
            },
            From::SecondLevel => CacheOutcome::Hit,
            From::Instead(_) => {
                self.told.tell(EventKind::StaleServed { slow: false });
                CacheOutcome::StaleIfError
            }
        };
        Served::new(arrival.slot, outcome, self.clock.now())
    }
}

/// Somebody must poll a flight whose callers do not wait for it.
async fn ride_on<V: Clone + Send + Sync + 'static>(passenger: Passenger<V>) {
    // Its outcome is told to observers, and kept or not, when it lands.
    drop(passenger.ride().await);
}
