//! Within this process: for tests, and for caches of one process.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use buttress_store::{Deadline, Key, Phase, StoreError, StoreErrorKind};
use tokio::sync::broadcast;

use super::{Bus, Subscription};

/// As many messages as a listener may be behind before it is told that it missed some.
const BEHIND: usize = 1024;

/// A bus within this process. Clones are the same bus. It can be taken away, for tests.
#[derive(Clone, Debug, Default)]
pub struct MemoryBus {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    away: AtomicBool,
    spaces: Mutex<HashMap<Key, broadcast::Sender<Vec<u8>>>>,
}

impl MemoryBus {
    /// A bus on which nobody listens yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the bus away, or brings it back: while it is away nothing gets through, and who listened must do so
    /// anew.
    pub fn set_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::SeqCst);
        if away {
            let mut spaces = self.shared.spaces.lock();
            spaces
                .as_mut()
                .unwrap_or_else(|poisoned| poisoned.get_mut())
                .clear();
        }
    }

    fn sender(&self, space: &Key) -> Result<broadcast::Sender<Vec<u8>>, StoreError> {
        let spaces = self.shared.spaces.lock();
        let mut spaces = spaces.unwrap_or_else(PoisonError::into_inner);
        if self.shared.away.load(Ordering::SeqCst) {
            return Err(StoreError::new(
                StoreErrorKind::Unreachable,
                Phase::Statement,
            ));
        }
        let new = || broadcast::channel(BEHIND).0;
        Ok(spaces.entry(space.clone()).or_insert_with(new).clone())
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, space: &Key, message: &[u8], _: Deadline) -> Result<(), StoreError> {
        // An error says that nobody listens.
        let _heard_by = self.sender(space)?.send(message.to_vec());
        Ok(())
    }

    async fn subscribe(
        &self,
        space: &Key,
        _: Deadline,
    ) -> Result<Box<dyn Subscription>, StoreError> {
        Ok(Box::new(Listening(self.sender(space)?.subscribe())))
    }
}

#[derive(Debug)]
struct Listening(broadcast::Receiver<Vec<u8>>);

#[async_trait]
impl Subscription for Listening {
    async fn next(&mut self) -> Result<Vec<u8>, StoreError> {
        let lost = |_| StoreError::new(StoreErrorKind::Lost, Phase::Read);
        self.0.recv().await.map_err(lost)
    }
}
