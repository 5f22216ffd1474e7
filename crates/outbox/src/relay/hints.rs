//! Hearing of other processes' hints while a relay runs.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};

use super::Inner;
use crate::{Event, EventKind, wake::Announcer};

/// How soon a lost ear is made again; it doubles up to the second one.
const SOON: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_secs(10);

/// Listens as long as what it returns is kept, if the store was told to.
pub(super) fn listening(inner: &Arc<Inner>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if let Some(announcer) = inner.store.announcer.clone() {
        tasks.spawn(listen(Arc::clone(inner), announcer));
    }
    tasks
}

async fn listen(inner: Arc<Inner>, announcer: Announcer) {
    let mut pause = SOON;
    loop {
        let begun = inner.clock.now();
        let Err(error) = inner.store.listen(&announcer).await else {
            // There is nothing that could be heard.
            return;
        };
        for served in &inner.topics {
            inner.observers.tell(|| Event {
                topic: served.topic.clone(),
                kind: EventKind::StoreFailed {
                    operation: "listen",
                    class: error.class(),
                },
            });
        }
        if inner.clock.now().saturating_since(begun) > LATE {
            pause = SOON;
        }
        sleep(error.retry_after().unwrap_or_default().max(pause)).await;
        pause = (pause * 2).min(LATE);
    }
}
