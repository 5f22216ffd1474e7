//! The suite that every store passes: what is written, and by whom.

use std::time::Duration;

use buttress_store::{Fence, Key, StoreError, Token};

use super::{LEASE, LONG, Suite, ask, definition, new, started, write};
use crate::{
    By, Entry, SagaId, State,
    store::{Append, Filter, Hand, Then, Write},
};

impl Suite {
    pub(super) async fn a_write_needs_the_claim_and_the_length(&self) -> Result<(), StoreError> {
        let definition = definition();
        let id = self.start(&definition).await?;
        let fence = self.claim_one(&ask(&definition, LONG)).await?.fence;
        let entries = vec![
            started(1),
            Entry::Succeeded {
                step: 0,
                output: "\"\u{e4}\\\"\"".to_owned(),
            },
        ];
        let wrong = [
            Fence::new(fence.epoch() + 1, *fence.token()),
            Fence::new(fence.epoch(), Token::random()),
        ];
        for wrong in wrong {
            let written = write(0, entries.clone());
            assert!(!self.store.append(id, Hand::Holder(wrong), &written).await?);
        }
        let by = Hand::Holder(fence);
        let first = write(0, entries.clone());
        assert!(
            !self
                .store
                .append(id, by, &write(1, entries.clone()))
                .await?
        );
        assert!(self.store.append(id, by, &first).await?);
        assert!(!self.store.append(id, by, &first).await?, "twice is once");
        let record = self.read(id).await?;
        let lines: Vec<_> = record
            .journal
            .iter()
            .map(|line| line.entry.clone())
            .collect();
        assert_eq!(lines, entries);
        assert!(
            record
                .journal
                .iter()
                .all(|line| line.epoch == fence.epoch())
        );
        assert_eq!((record.entries, record.held), (2, true));
        let nobody = self.store.append(SagaId::random(), by, &first).await?;
        assert!(!nobody, "there is no such saga");
        Ok(())
    }

    pub(super) async fn what_is_given_back_is_due_when_it_says(&self) -> Result<(), StoreError> {
        let definition = definition();
        let id = self.start(&definition).await?;
        let fence = self.claim_one(&ask(&definition, LONG)).await?.fence;
        let later = Write {
            then: Then::Release(LEASE),
            ..write(0, Vec::new())
        };
        assert!(self.store.append(id, Hand::Holder(fence), &later).await?);
        assert!(self.store.claim(&ask(&definition, LONG)).await?.is_empty());
        let record = self.read(id).await?;
        assert!(!record.held && record.due_at > record.now);
        tokio::time::sleep(LEASE + LEASE / 4).await;
        let again = self.claim_one(&ask(&definition, LONG)).await?;
        assert_eq!(again.fence.epoch(), 2);
        assert_eq!(again.record.lapses, 0, "nobody died");
        Ok(())
    }

    pub(super) async fn what_is_given_back_for_ever_is_kept_and_may_be_woken(
        &self,
    ) -> Result<(), StoreError> {
        let after = Duration::MAX;
        for (then, together) in [
            (Then::Release(after), false),
            (Then::Listen { after, seen: 0 }, false),
            (Then::Release(after), true),
        ] {
            let definition = definition();
            let id = self.start(&definition).await?;
            let fence = self.claim_one(&ask(&definition, LONG)).await?.fence;
            let write = Write {
                then,
                ..write(0, vec![started(1)])
            };
            let append = Append {
                id,
                fence,
                write: write.clone(),
            };
            let told = match together {
                true => self.store.append_all(&[append]).await?,
                false => vec![false],
            };
            if told == [false] {
                assert!(self.store.append(id, Hand::Holder(fence), &write).await?);
            }
            assert!(self.store.claim(&ask(&definition, LONG)).await?.is_empty());
            let record = self.read(id).await?;
            assert!(!record.held && record.due_at > record.now + 1000 * LONG);
            let wake = Write {
                then: Then::Release(Duration::ZERO),
                ..self::write(1, vec![Entry::Interrupted])
            };
            assert!(self.store.append(id, Hand::Operator, &wake).await?);
            self.claim_one(&ask(&definition, LONG)).await?;
        }
        Ok(())
    }

    pub(super) async fn a_reason_may_be_any_text_and_is_kept_or_cut(
        &self,
    ) -> Result<(), StoreError> {
        let long = "NO_".repeat(100);
        for reason in ["", "REFUS\u{c9}: 0 \u{20ac}, \u{1f4b8}", &long] {
            let definition = definition();
            let id = self.start(&definition).await?;
            let fence = self.claim_one(&ask(&definition, LONG)).await?.fence;
            let code = reason.to_owned();
            let parked = Write {
                state: State::NeedsAttention,
                reason: Some(code.clone()),
                ..write(0, vec![Entry::Parked { code: code.clone() }])
            };
            assert!(self.store.append(id, Hand::Holder(fence), &parked).await?);
            let record = self.read(id).await?;
            let kept = record.reason.unwrap_or_default();
            let plain = |it: char| if it.is_ascii() { it } else { '?' };
            let begin = |text: &str| text.chars().map(plain).take(20).collect::<String>();
            assert_eq!(begin(&kept), begin(reason), "as far as it goes");
            let line = record.journal.first().map(|it| it.entry.clone());
            assert_eq!(line, Some(Entry::Parked { code }), "the journal has it all");
        }
        Ok(())
    }

    pub(super) async fn an_operator_takes_the_claim(&self) -> Result<(), StoreError> {
        let definition = definition();
        let id = self.start(&definition).await?;
        let fence = self.claim_one(&ask(&definition, LONG)).await?.fence;
        let cancel = Write {
            state: State::Undoing,
            reason: Some("CANCELLED".to_owned()),
            then: Then::Release(Duration::ZERO),
            ..write(
                0,
                vec![Entry::Cancelled {
                    by: By::new("me", "it's time"),
                }],
            )
        };
        let behind = Write {
            expected: 1,
            ..cancel.clone()
        };
        assert!(!self.store.append(id, Hand::Operator, &behind).await?);
        assert!(self.store.append(id, Hand::Operator, &cancel).await?);
        let late = write(1, vec![started(1)]);
        assert!(!self.store.append(id, Hand::Holder(fence), &late).await?);
        assert!(!self.store.extend(id, fence, LONG).await?);
        let claimed = self.claim_one(&ask(&definition, LONG)).await?;
        assert_eq!(claimed.record.state, State::Undoing);
        assert_eq!(claimed.record.reason.as_deref(), Some("CANCELLED"));
        assert!(claimed.fence.epoch() > fence.epoch() + 1);
        Ok(())
    }

    pub(super) async fn what_ended_is_pruned_with_its_lines_and_nothing_else(
        &self,
    ) -> Result<(), StoreError> {
        let (ended, parked) = (definition(), definition());
        let gone = self.start(&ended).await?;
        let stays = self.start(&parked).await?;
        let fence = self.claim_one(&ask(&parked, LONG)).await?.fence;
        let park = Write {
            state: State::NeedsAttention,
            ..write(0, vec![started(1)])
        };
        assert!(self.store.append(stays, Hand::Holder(fence), &park).await?);
        assert!(!self.read(stays).await?.held, "a parked one is nobody's");
        self.end(&ended).await?;
        let record = self.read(gone).await?;
        assert!(record.ended_at.is_some() && !record.held);
        assert!(self.store.claim(&ask(&ended, LONG)).await?.is_empty());
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(self.store.prune(LONG, 1000).await?, 0, "it ended just now");
        while self.store.prune(Duration::ZERO, 1000).await? > 0 {}
        assert!(self.store.read(gone).await?.is_none());
        assert_eq!(self.read(stays).await?.journal.len(), 1);
        Ok(())
    }

    pub(super) async fn several_are_read_with_their_own_journals(&self) -> Result<(), StoreError> {
        let definition = definition();
        let mut ids = Vec::new();
        for lines in 0..3_u32 {
            let id = self.start(&definition).await?;
            for line in 0..lines {
                let line = write(u64::from(line), vec![started(line + 1)]);
                assert!(self.store.append(id, Hand::Operator, &line).await?);
            }
            ids.push(id);
        }
        let asked = [ids[2], SagaId::random(), ids[0], ids[1]];
        let mut found = self.store.read_all(&asked).await?;
        found.sort_by_key(|it| it.entries);
        let found = found.iter().map(|it| (it.id, it.journal.len()));
        let expected: Vec<_> = ids.into_iter().zip(0..).collect();
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert!(self.store.read_all(&[]).await?.is_empty());
        Ok(())
    }

    pub(super) async fn lists_and_counts_tell_what_there_is(&self) -> Result<(), StoreError> {
        let definition = definition();
        let mut ids = Vec::new();
        for key in [&b"a"[..], b"b", b"c"] {
            let saga = new(&definition, Some(key));
            ids.push(self.store.start(&saga).await?.id());
        }
        ids.sort_unstable();
        ids.reverse();
        let all = Filter {
            name: Some(definition.name.clone()),
            state: None,
            business_key: None,
            parent: None,
            before: None,
            limit: 10,
        };
        let listed = self.store.list(&all).await?;
        assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), ids);
        let page = Filter {
            before: Some(ids[0]),
            limit: 1,
            ..all.clone()
        };
        assert_eq!(self.store.list(&page).await?[0].id, ids[1]);
        let by_key = Filter {
            business_key: Key::new("b").ok(),
            ..all.clone()
        };
        assert_eq!(self.store.list(&by_key).await?.len(), 1);
        let parked = Filter {
            state: Some(State::NeedsAttention),
            ..all
        };
        assert!(self.store.list(&parked).await?.is_empty());
        let census = self.store.census().await?;
        let own: Vec<_> = census
            .iter()
            .filter(|line| line.definition == definition)
            .collect();
        assert_eq!(own.len(), 1);
        assert_eq!((own[0].state, own[0].count), (State::Running, 3));
        Ok(())
    }
}
