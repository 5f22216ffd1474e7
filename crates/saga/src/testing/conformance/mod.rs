//! The suite that every store passes: what is started, and who may claim it.

mod batch;
mod child;
mod journal;
mod signal;

use std::{sync::Arc, time::Duration};

use buttress_store::{Key, StoreError, Token};

use crate::{
    Entry, SagaId, State,
    store::{
        Alone, Ask, Claimed, DefinitionKey, Hand, NewSaga, Record, Started, Store, Then, Write,
    },
};

pub(super) const LEASE: Duration = Duration::from_millis(300);
pub(super) const LONG: Duration = Duration::from_secs(60);

/// Judges a store by everything that sagas count on. It waits for some leases to run out, about
/// two seconds. The store may hold other sagas.
///
/// # Errors
///
/// The store's own.
///
/// # Panics
///
/// When it does not do what it should; the message says what that would be.
pub async fn conformance(store: Arc<dyn Store>) -> Result<(), StoreError> {
    let suite = Suite { store };
    suite.what_was_started_is_read_back().await?;
    suite.several_are_read_with_their_own_journals().await?;
    suite.one_id_is_one_saga_for_ever().await?;
    suite.one_business_key_runs_once_at_a_time().await?;
    suite.keys_are_bytes().await?;
    suite.what_is_due_is_claimed_once().await?;
    suite.other_definitions_are_left_alone().await?;
    suite
        .a_lapsed_claim_is_fenced_and_claimed_only_as_lapsed()
        .await?;
    suite
        .only_deaths_of_lone_workers_count_and_progress_forgets_them()
        .await?;
    suite.a_write_needs_the_claim_and_the_length().await?;
    suite.a_batch_is_written_but_for_what_is_anothers().await?;
    suite.what_is_given_back_is_due_when_it_says().await?;
    suite
        .what_is_given_back_for_ever_is_kept_and_may_be_woken()
        .await?;
    suite.a_reason_may_be_any_text_and_is_kept_or_cut().await?;
    suite.an_operator_takes_the_claim().await?;
    suite
        .a_signal_is_kept_once_and_the_first_of_its_name_is_found()
        .await?;
    suite.a_signal_wakes_who_listens_and_nobody_else().await?;
    suite
        .no_wake_up_is_lost_between_a_look_and_a_release()
        .await?;
    suite.signals_are_pruned_with_their_saga().await?;
    suite
        .children_are_started_by_their_parents_write_or_not_at_all()
        .await?;
    suite.a_child_that_ends_wakes_who_listens().await?;
    suite
        .no_end_of_a_child_is_lost_between_a_look_and_a_release()
        .await?;
    suite.what_ended_can_be_turned_back().await?;
    suite
        .a_child_is_kept_as_long_as_its_parent_is_there()
        .await?;
    suite
        .what_ended_is_pruned_with_its_lines_and_nothing_else()
        .await?;
    suite.lists_and_counts_tell_what_there_is().await
}

pub(super) struct Suite {
    pub(super) store: Arc<dyn Store>,
}

/// A definition that nobody else in the store has.
pub(super) fn definition() -> DefinitionKey {
    DefinitionKey {
        name: format!("conformance-{}", SagaId::random()),
        version: 1,
        shape: *b"a shape of steps",
    }
}

pub(super) fn new(definition: &DefinitionKey, key: Option<&[u8]>) -> NewSaga {
    NewSaga {
        id: SagaId::random(),
        definition: definition.clone(),
        business_key: key.and_then(|key| Key::new(key).ok()),
        input: b"{\"input\":\"\xc3\xa4\"}".to_vec(),
        parent: None,
    }
}

pub(super) fn ask(definition: &DefinitionKey, length: Duration) -> Ask {
    Ask {
        definition: definition.clone(),
        limit: 10,
        length,
        token: Token::random(),
        lapsed: None,
    }
}

pub(super) fn started(attempt: u32) -> Entry {
    Entry::Started {
        step: 0,
        name: "step".to_owned(),
        attempt,
    }
}

pub(super) fn write(expected: u64, entries: Vec<Entry>) -> Write {
    Write {
        expected,
        entries,
        state: State::Running,
        reason: None,
        then: Then::Keep,
        progress: true,
        starts: Vec::new(),
        wakes: None,
    }
}

impl Suite {
    pub(super) async fn start(&self, definition: &DefinitionKey) -> Result<SagaId, StoreError> {
        let started = self.store.start(&new(definition, None)).await?;
        assert!(matches!(started, Started::New(_)), "a new id is a new saga");
        Ok(started.id())
    }

    pub(super) async fn read(&self, id: SagaId) -> Result<Record, StoreError> {
        let found = self.store.read(id).await?;
        Ok(found.expect("what was started is there"))
    }

    pub(super) async fn claim_one(&self, ask: &Ask) -> Result<Claimed, StoreError> {
        let mut claimed = self.store.claim(ask).await?;
        assert_eq!(claimed.len(), 1, "one saga is due");
        Ok(claimed.remove(0))
    }

    pub(super) async fn what_was_started_is_read_back(&self) -> Result<(), StoreError> {
        let definition = definition();
        let saga = new(&definition, Some(b"key"));
        assert_eq!(self.store.start(&saga).await?, Started::New(saga.id));
        let record = self.read(saga.id).await?;
        assert_eq!(record.definition, definition);
        assert_eq!(record.business_key, saga.business_key);
        assert_eq!(record.input, saga.input);
        assert_eq!((record.state, record.entries), (State::Running, 0));
        assert_eq!((record.held, record.reason.as_deref()), (false, None));
        assert!(record.due_at <= record.now, "it is due at once");
        assert!(record.journal.is_empty());
        assert!(self.store.read(SagaId::random()).await?.is_none());
        Ok(())
    }

    pub(super) async fn one_id_is_one_saga_for_ever(&self) -> Result<(), StoreError> {
        let definition = definition();
        let saga = new(&definition, None);
        assert_eq!(self.store.start(&saga).await?, Started::New(saga.id));
        assert_eq!(self.store.start(&saga).await?, Started::Running(saga.id));
        self.end(&definition).await?;
        let again = self.store.start(&saga).await?;
        assert_eq!(again, Started::Running(saga.id), "also when it has ended");
        Ok(())
    }

    pub(super) async fn one_business_key_runs_once_at_a_time(&self) -> Result<(), StoreError> {
        let definition = definition();
        let first = new(&definition, Some(b"order 7"));
        let second = new(&definition, Some(b"order 7"));
        assert_eq!(self.store.start(&first).await?, Started::New(first.id));
        assert_eq!(self.store.start(&second).await?, Started::Running(first.id));
        let other = new(&self::definition(), Some(b"order 7"));
        assert_eq!(self.store.start(&other).await?, Started::New(other.id));
        self.end(&definition).await?;
        let freed = self.store.start(&second).await?;
        assert_eq!(freed, Started::New(second.id), "the first has ended");
        Ok(())
    }

    pub(super) async fn keys_are_bytes(&self) -> Result<(), StoreError> {
        let definition = definition();
        for key in [
            &b"Abc"[..],
            b"abc",
            b"Abc ",
            b"\0",
            b"\xff\xfe",
            &[b'k'; 255],
        ] {
            let saga = new(&definition, Some(key));
            assert_eq!(self.store.start(&saga).await?, Started::New(saga.id));
            assert_eq!(self.read(saga.id).await?.business_key, saga.business_key);
        }
        Ok(())
    }

    pub(super) async fn what_is_due_is_claimed_once(&self) -> Result<(), StoreError> {
        let definition = definition();
        for _ in 0..15 {
            self.start(&definition).await?;
        }
        let (one, other) = (ask(&definition, LONG), ask(&definition, LONG));
        let (one, other) = tokio::join!(self.store.claim(&one), self.store.claim(&other));
        let mut claimed: Vec<_> = one?.into_iter().chain(other?).collect();
        claimed.extend(self.store.claim(&ask(&definition, LONG)).await?);
        let mut ids: Vec<_> = claimed.iter().map(|it| it.record.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((claimed.len(), ids.len()), (15, 15), "each by one caller");
        assert!(claimed.iter().all(|it| it.fence.epoch() == 1));
        assert!(claimed.iter().all(|it| it.record.held));
        assert!(self.store.claim(&ask(&definition, LONG)).await?.is_empty());
        Ok(())
    }

    pub(super) async fn other_definitions_are_left_alone(&self) -> Result<(), StoreError> {
        let definition = definition();
        self.start(&definition).await?;
        let version = DefinitionKey {
            version: 2,
            ..definition.clone()
        };
        let shape = DefinitionKey {
            shape: *b"another of steps",
            ..definition.clone()
        };
        for other in [version, shape] {
            assert!(self.store.claim(&ask(&other, LONG)).await?.is_empty());
        }
        Ok(())
    }

    pub(super) async fn a_lapsed_claim_is_fenced_and_claimed_only_as_lapsed(
        &self,
    ) -> Result<(), StoreError> {
        let definition = definition();
        let id = self.start(&definition).await?;
        let short = ask(&definition, LEASE);
        let first = self.claim_one(&short).await?;
        let lapsed = Ask {
            lapsed: Some(Alone::Yes),
            ..ask(&definition, LONG)
        };
        assert!(
            self.store.claim(&lapsed).await?.is_empty(),
            "it still holds"
        );
        assert!(self.store.extend(id, first.fence, LEASE).await?);
        tokio::time::sleep(LEASE + LEASE / 4).await;
        let fresh = self.store.claim(&ask(&definition, LONG)).await?;
        assert!(fresh.is_empty(), "it is somebody's who may be dead");
        let second = self.claim_one(&lapsed).await?;
        assert_eq!(second.fence.epoch(), 2, "the epoch grows");
        assert!(!self.store.extend(id, first.fence, LONG).await?);
        let late = write(0, vec![started(1)]);
        let late = self
            .store
            .append(id, Hand::Holder(first.fence), &late)
            .await?;
        assert!(!late, "the one who lost it writes nothing");
        assert_eq!(self.read(id).await?.entries, 0);
        Ok(())
    }

    pub(super) async fn only_deaths_of_lone_workers_count_and_progress_forgets_them(
        &self,
    ) -> Result<(), StoreError> {
        let definition = definition();
        self.start(&definition).await?;
        self.claim_one(&ask(&definition, LEASE / 3)).await?;
        for (alone, lapses) in [
            (Alone::No, 0),
            (Alone::Yes, 0),
            (Alone::Yes, 1),
            (Alone::No, 2),
            (Alone::Yes, 2),
        ] {
            tokio::time::sleep(LEASE / 2).await;
            let ask = Ask {
                lapsed: Some(alone),
                ..ask(&definition, LEASE / 3)
            };
            let claimed = self.claim_one(&ask).await?;
            assert_eq!(claimed.record.lapses, lapses, "deaths before {alone:?}");
            if lapses == 2 && alone == Alone::Yes {
                let (id, by) = (claimed.record.id, Hand::Holder(claimed.fence));
                let idle = Write {
                    progress: false,
                    ..write(0, vec![Entry::Interrupted])
                };
                assert!(self.store.append(id, by, &idle).await?);
                assert_eq!(self.read(id).await?.lapses, 2, "this was no progress");
                let next = write(1, vec![started(1)]);
                assert!(self.store.append(id, by, &next).await?);
                assert_eq!(self.read(id).await?.lapses, 0);
            }
        }
        Ok(())
    }

    pub(super) async fn end(&self, definition: &DefinitionKey) -> Result<(), StoreError> {
        let claimed = self.claim_one(&ask(definition, LONG)).await?;
        let done = Write {
            state: State::Completed,
            ..write(0, vec![Entry::Completed])
        };
        let by = Hand::Holder(claimed.fence);
        assert!(self.store.append(claimed.record.id, by, &done).await?);
        Ok(())
    }
}
