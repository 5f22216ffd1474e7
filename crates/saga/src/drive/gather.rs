//! Writes of several sagas that are ready at the same time, gathered into one commit.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use buttress_core::Class;
use buttress_store::{Fence, Phase, StoreError, StoreErrorKind};
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    SagaId,
    store::{Append, Hand, Store, Write},
};

/// How many sagas' writes go into one commit at most.
const MOST: usize = 64;

/// How long a write alone may keep others from being gathered: it waits for whoever locks its
/// saga's row, and they must not.
const PATIENCE: Duration = Duration::from_millis(20);

/// The writes of a runner's drives.
///
/// Who comes while nothing is under way writes at once, and alone. Who comes meanwhile waits, and
/// goes with all others who did: the batch is what came during the last commit, and nobody waits
/// for it to fill.
pub(crate) struct Gather {
    store: Arc<dyn Store>,
    at_once: usize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    under_way: usize,
}

/// Somebody who waits for a commit.
struct Waiting {
    append: Append,
    answer: oneshot::Sender<Told>,
}

/// What became of one of several writes.
#[derive(Clone, Copy)]
enum Told {
    Written,
    /// Not with the others. What it is, it learns by itself.
    Alone,
    /// Nobody knows, or the store is away: the same for all of them.
    Failed(StoreErrorKind, Phase),
}

/// One of the commits that may be under way. Dropping it hands it to those who wait.
struct Turn {
    gather: Arc<Gather>,
    held: bool,
}

impl Gather {
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            at_once: store.batches_at_once(),
            store,
            queue: Mutex::default(),
        })
    }

    /// As [`Store::append`] for the holder of a claim.
    ///
    /// Dropping the future leaves it written or not, and disturbs nobody with whom it is written.
    pub(crate) async fn append(
        self: &Arc<Self>,
        id: SagaId,
        fence: Fence,
        write: &Write,
    ) -> Result<bool, StoreError> {
        if self.at_once == 0 || write.reaches_others() {
            return self.store.append(id, Hand::Holder(fence), write).await;
        }
        let turn = match self.enter(id, fence, write) {
            Ok(turn) => turn,
            Err(answer) => {
                return match answer.await {
                    Ok(Told::Written) => Ok(true),
                    Ok(Told::Alone) => self.store.append(id, Hand::Holder(fence), write).await,
                    Ok(Told::Failed(kind, phase)) => Err(StoreError::new(kind, phase)),
                    // The batch was dropped with its runtime, or a store panicked.
                    Err(_) => Err(StoreError::new(StoreErrorKind::Lost, Phase::Commit)),
                };
            }
        };
        let alone = self.store.append(id, Hand::Holder(fence), write);
        tokio::pin!(alone);
        tokio::select! {
            biased;
            done = &mut alone => return done,
            () = tokio::time::sleep(PATIENCE) => drop(turn),
        }
        alone.await
    }

    /// A turn of one's own, or a place among those who wait.
    fn enter(
        self: &Arc<Self>,
        id: SagaId,
        fence: Fence,
        write: &Write,
    ) -> Result<Turn, oneshot::Receiver<Told>> {
        let mut queue = self.queue();
        if queue.under_way < self.at_once {
            queue.under_way += 1;
            return Ok(Turn {
                gather: Arc::clone(self),
                held: true,
            });
        }
        let (answer, receiver) = oneshot::channel();
        let write = write.clone();
        let append = Append { id, fence, write };
        queue.waiting.push_back(Waiting { append, answer });
        Err(receiver)
    }

    /// Commits what waits until nobody does.
    async fn run(self: Arc<Self>, mut turn: Turn, first: Vec<Waiting>) {
        let mut batch = Some(first);
        while let Some(waiting) = batch {
            self.commit(waiting).await;
            // Whoever was just answered may have the next write ready at once. Let it come along.
            tokio::task::yield_now().await;
            batch = turn.next();
        }
    }

    async fn commit(&self, batch: Vec<Waiting>) {
        let (writes, answers): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (waiting.append, waiting.answer))
            .unzip();
        let told: Vec<Told> = match self.store.append_all(&writes).await {
            Ok(written) => written
                .into_iter()
                .map(|it| if it { Told::Written } else { Told::Alone })
                .collect(),
            Err(error) => {
                let told = match error.kind() {
                    kind if kind.is_away() || error.class() == Class::Unknown => {
                        Told::Failed(kind, error.phase())
                    }
                    // The database refused: one of them, perhaps, and not the others.
                    _ => Told::Alone,
                };
                vec![told; answers.len()]
            }
        };
        for (answer, told) in answers.into_iter().zip(told) {
            // Who does not wait any more does not want to know.
            let _ = answer.send(told);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Those who are next, or nobody: then the turn is over.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut queue = self.gather.queue();
        let mut batch: Vec<Waiting> = Vec::new();
        let mut later = Vec::new();
        while batch.len() < MOST
            && let Some(waiting) = queue.waiting.pop_front()
        {
            if waiting.answer.is_closed() {
                continue; // It was dropped while it waited: nothing was done.
            }
            // One saga is written to once in a commit.
            if batch.iter().any(|it| it.append.id == waiting.append.id) {
                later.push(waiting);
            } else {
                batch.push(waiting);
            }
        }
        for waiting in later.into_iter().rev() {
            queue.waiting.push_front(waiting);
        }
        if batch.is_empty() {
            queue.under_way -= 1;
            self.held = false;
            return None;
        }
        Some(batch)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        while let Some(batch) = self.next() {
            // Outside of a runtime, which is about to end, all of them write alone.
            let Ok(runtime) = Handle::try_current() else {
                drop(batch);
                continue;
            };
            let turn = Self {
                gather: Arc::clone(&self.gather),
                held: true,
            };
            runtime.spawn(Arc::clone(&self.gather).run(turn, batch));
            return;
        }
    }
}
