//! The wake-up hint: within a process, and to the others.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch, time::sleep};

use crate::{
    OutboxStore,
    store::{Heard, Store},
};

/// So long lies between two hints of one process.
const APART: Duration = Duration::from_millis(100);

/// Wakes all relays of a store. Any number of hints between two looks are one.
#[derive(Clone)]
pub(crate) struct Wake {
    sender: Arc<watch::Sender<u64>>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            sender: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Wake {
    pub(crate) fn fire(&self) {
        self.sender
            .send_modify(|hints| *hints = hints.wrapping_add(1));
    }

    /// An ear that hears what is fired from now on.
    pub(crate) fn ear(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wake").finish_non_exhaustive()
    }
}

impl OutboxStore {
    /// The same on PostgreSQL with hints between processes, by LISTEN and NOTIFY: a relay hears
    /// of a message that another process committed at once, not with its next poll. On MySQL and
    /// SQLite, which have no such thing, this does nothing.
    ///
    /// Choose it where messages are appended, and where relays run. It is not the default, for it
    /// costs each running relay one more connection, which is not of the pool, and hears nothing
    /// through a pooler that changes the session with each transaction.
    ///
    /// A hint is never sent in your transaction: [`AfterCommit::fire`](buttress_store::AfterCommit::fire)
    /// starts a task that sends one by itself, on a connection of the pool, and so at most ten a
    /// second, whatever is committed. There must be a Tokio runtime, or none is sent. What is lost
    /// costs a poll and nothing else: polling always goes on.
    #[must_use]
    pub fn with_notify(mut self) -> Self {
        self.announcer = Some(Announcer::new());
        self
    }

    /// There is something to look at.
    pub(crate) fn hint(&self) {
        self.wake.fire();
        if let Some(announcer) = &self.announcer {
            announcer.announce(&self.store);
        }
    }

    /// Hears of other processes' hints, and wakes relays, until the ear is lost.
    pub(crate) async fn listen(
        &self,
        announcer: &Announcer,
    ) -> Result<(), buttress_store::StoreError> {
        let heard = |heard: Heard| match heard {
            // Who has just sent it has woken those of this process by himself.
            Heard::From(sender) if *sender == *announcer.id => {}
            Heard::From(_) | Heard::Listening => self.wake.fire(),
        };
        self.store.listen(&heard).await
    }
}

const IDLE: u8 = 0;
const SENDING: u8 = 1;
const AGAIN: u8 = 2;

/// Tells other processes, seldom enough. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Announcer {
    /// By this it knows its own hints again.
    id: Arc<str>,
    state: Arc<AtomicU8>,
}

impl Announcer {
    fn new() -> Self {
        Self {
            id: format!("{:016x}", rand::random::<u64>()).into(),
            state: Arc::default(),
        }
    }

    /// The first hint goes at once; what comes within the pause behind it goes as one at its end.
    fn announce(&self, store: &Arc<dyn Store>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let next = |state| Some(if state == IDLE { SENDING } else { AGAIN });
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        if before == Ok(IDLE) {
            runtime.spawn(self.clone().send(Arc::clone(store)));
        }
    }

    async fn send(self, store: Arc<dyn Store>) {
        let mut idle = IdleAfterwards(Some(self.state));
        while let Some(state) = &idle.0 {
            state.store(SENDING, Ordering::Release);
            // One that fails costs others a poll.
            let _ = store.notify(&self.id).await;
            sleep(APART).await;
            let over = state.compare_exchange(SENDING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if over.is_ok() {
                idle.0 = None;
            }
        }
    }
}

/// A task that is dropped with its runtime leaves no state in which none begins again.
struct IdleAfterwards(Option<Arc<AtomicU8>>);

impl Drop for IdleAfterwards {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.store(IDLE, Ordering::Release);
        }
    }
}
