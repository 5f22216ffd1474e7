//! Parents that are told nothing, and children that are not there.

use std::{sync::Arc, time::Duration};

use buttress_saga::{
    Entry, SagaId, Sagas, State,
    store::{Hand, MemoryStore, Store, Then, Write},
};

use super::{SOON, by, child, live, order, shipping, start, state};
use crate::{
    shaky::{Fate, Shaky},
    world::World,
};

/// A child that ended by a runner that knows nothing of parents.
#[tokio::test(start_paused = true)]
async fn a_parent_that_nobody_woke_looks_by_itself() {
    let world = World::default();
    let shipping = shipping(&world);
    let order = order(&world, &shipping);
    let mut deaf = Shaky::new(Arc::new(MemoryStore::new()), |_| Fate::Well);
    deaf.deaf = true;
    let sagas = Sagas::new(deaf);
    let id = start(&sagas, &order).await;
    live(&sagas, &order, &shipping, SOON).await;
    let called = child(&sagas, id).await;
    assert_eq!(state(&sagas, called).await, State::Completed);
    assert_eq!(state(&sagas, id).await, State::Running);
    live(&sagas, &order, &shipping, Duration::from_secs(1000)).await;
    assert_eq!(state(&sagas, id).await, State::Completed);
}

/// Somebody has deleted it, or it is no child of this saga.
#[tokio::test(start_paused = true)]
async fn a_child_that_is_not_there_or_not_ones_own_is_never_taken_for_done_or_undone() {
    let world = World::default();
    let shipping = shipping(&world);
    let order = order(&world, &shipping);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let sagas = Sagas::shared(Arc::clone(&store));
    let others = start(&sagas, &shipping).await;
    live(&sagas, &shipping, &shipping, SOON).await;
    assert_eq!(state(&sagas, others).await, State::Completed);
    for stranger in [SagaId::random(), others] {
        let id = start(&sagas, &order).await;
        let entries = vec![
            Entry::Started {
                step: 0,
                name: "a".to_owned(),
                attempt: 1,
            },
            Entry::Succeeded {
                step: 0,
                output: "\"a\"".to_owned(),
            },
            Entry::Calling {
                step: 1,
                name: "ship".to_owned(),
                attempt: 1,
                child: stranger,
                until: None,
            },
        ];
        let write = Write {
            expected: 0,
            entries,
            state: State::Running,
            reason: None,
            then: Then::Release(Duration::ZERO),
            progress: true,
            starts: Vec::new(),
            wakes: None,
        };
        assert!(store.append(id, Hand::Operator, &write).await.unwrap());
        for _ in 0..2 {
            live(&sagas, &order, &shipping, SOON).await;
            let saga = sagas.get(id).await.unwrap();
            assert_eq!(saga.state, State::NeedsAttention);
            assert_eq!(saga.reason.as_deref(), Some("NO_CHILD"));
            // Looked for again, it is still not there; the second time it is to turn back.
            let history = sagas.history(&order, id).await.unwrap();
            if history.turned_back.is_none() {
                sagas.cancel(&order, id, by()).await.unwrap();
            }
        }
        let skipped = sagas.skip_undo(&order, id, "ship", by()).await;
        skipped.unwrap();
        live(&sagas, &order, &shipping, SOON).await;
        assert_eq!(state(&sagas, id).await, State::Undone);
    }
    assert_eq!(state(&sagas, others).await, State::Completed, "untouched");
}
