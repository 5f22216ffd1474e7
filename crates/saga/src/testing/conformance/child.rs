//! The suite that every store passes: children, and whom their ends wake.

use std::time::Duration;

use buttress_store::{Key, StoreError};

use super::{LONG, Suite, ask, definition, new, started, write};
use crate::{
    Entry, SagaId, State,
    store::{Append, Claimed, DefinitionKey, Filter, Hand, NewSaga, NewSignal, Sent, Then, Write},
};

const LISTEN: Then = Then::Listen {
    after: LONG,
    seen: 0,
};

fn child_of(parent: SagaId, definition: &DefinitionKey) -> NewSaga {
    NewSaga {
        parent: Some(parent),
        ..new(definition, Some(b"the step of a parent"))
    }
}

/// What ends a child, and wakes its parent.
fn end(expected: u64, state: State, parent: SagaId) -> Write {
    let entry = match state {
        State::Undone => Entry::AllUndone,
        _ => Entry::Completed,
    };
    Write {
        state,
        wakes: Some(parent),
        ..write(expected, vec![entry])
    }
}

impl Suite {
    /// A parent that is held, and a claim of its child.
    async fn parent_and_child(
        &self,
        children: &DefinitionKey,
        then: Then,
    ) -> Result<(Claimed, Claimed, DefinitionKey), StoreError> {
        let definition = definition();
        let id = self.start(&definition).await?;
        let parent = self.claim_one(&ask(&definition, LONG)).await?;
        let start = Write {
            starts: vec![child_of(id, children)],
            then,
            ..write(0, vec![started(1)])
        };
        let by = Hand::Holder(parent.fence);
        assert!(self.store.append(id, by, &start).await?);
        let child = self.claim_one(&ask(children, LONG)).await?;
        Ok((parent, child, definition))
    }

    pub(super) async fn children_are_started_by_their_parents_write_or_not_at_all(
        &self,
    ) -> Result<(), StoreError> {
        let (parents, children) = (definition(), definition());
        let id = self.start(&parents).await?;
        let claimed = self.claim_one(&ask(&parents, LONG)).await?;
        // Two of one business key: it is nothing that children have to share.
        let (one, other) = (child_of(id, &children), child_of(id, &children));
        let start = |expected| Write {
            starts: vec![one.clone(), other.clone()],
            ..write(expected, vec![started(1)])
        };
        let by = Hand::Holder(claimed.fence);
        let refused = self.store.append(id, by, &start(1)).await?;
        assert!(!refused && self.store.read(one.id).await?.is_none());
        let fence = claimed.fence;
        let batch = [Append {
            id,
            fence,
            write: start(0),
        }];
        let told = self.store.append_all(&batch).await?;
        assert_eq!(told, [false], "what reaches others goes alone");
        assert_eq!(self.read(id).await?.entries, 0, "nothing was done");
        assert!(self.store.append(id, by, &start(0)).await?);
        for new in [&one, &other] {
            let child = self.read(new.id).await?;
            assert_eq!((child.parent, child.state), (Some(id), State::Running));
            assert_eq!((child.entries, child.held), (0, false));
            assert_eq!(child.definition, new.definition);
            assert_eq!(child.business_key, new.business_key);
            assert_eq!(child.input, new.input);
            assert!(child.due_at <= child.now, "it is due at once");
        }
        assert_eq!(self.read(id).await?.parent, None);
        // Started again it is the same, and its input is what it was.
        let mut again = start(1);
        again.starts.truncate(1);
        again.starts[0].input = b"2".to_vec();
        assert!(self.store.append(id, by, &again).await?);
        assert_eq!(self.read(one.id).await?.input, one.input);
        let filter = |parent| Filter {
            name: None,
            state: None,
            business_key: None,
            parent: Some(parent),
            before: None,
            limit: 10,
        };
        let listed = self.store.list(&filter(id)).await?;
        let mut expected = vec![one.id, other.id];
        expected.sort_unstable_by(|it, other| other.cmp(it));
        let ids: Vec<_> = listed.iter().map(|it| it.id).collect();
        assert_eq!(ids, expected);
        assert!(listed.iter().all(|it| it.parent == Some(id)));
        assert!(self.store.list(&filter(one.id)).await?.is_empty());
        Ok(())
    }

    pub(super) async fn a_child_that_ends_wakes_who_listens(&self) -> Result<(), StoreError> {
        for (then, state, wakes) in [
            (Then::Release(LONG), State::Completed, false),
            (LISTEN, State::Completed, true),
            (LISTEN, State::Undone, true),
        ] {
            let children = definition();
            let (parent, child, parents) = self.parent_and_child(&children, then).await?;
            let (id, by) = (child.record.id, Hand::Holder(child.fence));
            let due = async || self.store.claim(&ask(&parents, LONG)).await;
            assert!(due().await?.is_empty(), "it waits");
            let end = end(0, state, parent.record.id);
            assert!(self.store.append(id, by, &end).await?);
            assert_eq!(!due().await?.is_empty(), wakes, "{then:?}");
            assert!(!self.store.append(id, by, &end).await?, "twice is once");
            let woken = self.store.signals(parent.record.id, "x").await?;
            assert_eq!((woken.count, woken.first), (1, None));
            // It is counted, and is none of those that a saga may have.
            let signal = NewSignal {
                saga: parent.record.id,
                key: Key::new(b"1").expect("a byte is a key"),
                name: "x".to_owned(),
                payload: b"1".to_vec(),
                most: 1,
            };
            assert_eq!(self.store.signal(&signal).await?, Sent::New);
        }
        // One that ended while its parent was held is as good as one that ends later.
        let children = definition();
        let (parent, child, parents) = self.parent_and_child(&children, Then::Keep).await?;
        let (id, by) = (child.record.id, Hand::Holder(child.fence));
        let end = end(0, State::Completed, parent.record.id);
        assert!(self.store.append(id, by, &end).await?);
        let listen = Write {
            then: LISTEN,
            ..write(1, vec![])
        };
        let by = Hand::Holder(parent.fence);
        assert!(self.store.append(parent.record.id, by, &listen).await?);
        self.claim_one(&ask(&parents, LONG)).await?;
        Ok(())
    }

    pub(super) async fn no_end_of_a_child_is_lost_between_a_look_and_a_release(
        &self,
    ) -> Result<(), StoreError> {
        let children = definition();
        for _ in 0..20 {
            let (parent, child, parents) = self.parent_and_child(&children, Then::Keep).await?;
            let listen = Write {
                then: LISTEN,
                ..write(1, vec![started(2)])
            };
            let end = end(0, State::Completed, parent.record.id);
            let (by, of) = (Hand::Holder(parent.fence), Hand::Holder(child.fence));
            let (released, ended) = tokio::join!(
                self.store.append(parent.record.id, by, &listen),
                self.store.append(child.record.id, of, &end)
            );
            assert_eq!((released?, ended?), (true, true));
            self.claim_one(&ask(&parents, LONG)).await?;
        }
        Ok(())
    }

    pub(super) async fn what_ended_can_be_turned_back(&self) -> Result<(), StoreError> {
        let children = definition();
        let (parent, child, _) = self.parent_and_child(&children, LISTEN).await?;
        let (parent, id) = (parent.record.id, child.record.id);
        let by = Hand::Holder(child.fence);
        let done = end(0, State::Completed, parent);
        assert!(self.store.append(id, by, &done).await?);
        assert!(self.read(id).await?.ended_at.is_some());
        assert!(self.store.claim(&ask(&children, LONG)).await?.is_empty());
        let back = Write {
            state: State::Undoing,
            reason: Some("BACK".to_owned()),
            then: Then::Release(Duration::ZERO),
            ..write(
                1,
                vec![Entry::CalledBack {
                    code: "BACK".to_owned(),
                }],
            )
        };
        assert!(self.store.append(id, Hand::Operator, &back).await?);
        let record = self.read(id).await?;
        assert_eq!((record.state, record.ended_at), (State::Undoing, None));
        let claimed = self.claim_one(&ask(&children, LONG)).await?;
        let by = Hand::Holder(claimed.fence);
        let undone = end(2, State::Undone, parent);
        assert!(self.store.append(id, by, &undone).await?);
        assert!(self.read(id).await?.ended_at.is_some());
        Ok(())
    }

    pub(super) async fn a_child_is_kept_as_long_as_its_parent_is_there(
        &self,
    ) -> Result<(), StoreError> {
        let children = definition();
        let (parent, child, _) = self.parent_and_child(&children, Then::Keep).await?;
        let (id, by) = (child.record.id, Hand::Holder(child.fence));
        let done = end(0, State::Completed, parent.record.id);
        assert!(self.store.append(id, by, &done).await?);
        let prune = async || {
            tokio::time::sleep(Duration::from_millis(5)).await;
            while self.store.prune(Duration::ZERO, 1000).await? > 0 {}
            Ok::<_, StoreError>(self.store.read(id).await?.is_some())
        };
        assert!(prune().await?, "its parent may have it undone");
        let by = Hand::Holder(parent.fence);
        let done = Write {
            state: State::Completed,
            ..write(1, vec![Entry::Completed])
        };
        assert!(self.store.append(parent.record.id, by, &done).await?);
        assert!(!prune().await?, "it goes behind its parent");
        Ok(())
    }
}
