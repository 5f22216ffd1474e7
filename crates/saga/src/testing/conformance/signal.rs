//! The suite that every store passes: what is sent to sagas, and whom it wakes.

use std::time::Duration;

use buttress_store::{Key, StoreError};

use super::{LONG, Suite, ask, definition, started, write};
use crate::{
    Entry, SagaId, State,
    store::{Append, Hand, NewSignal, Sent, Signals, Then, Write},
};

fn signal(saga: SagaId, name: &str, key: &[u8], payload: &str) -> NewSignal {
    NewSignal {
        saga,
        key: Key::new(key).expect("it is a key"),
        name: name.to_owned(),
        payload: payload.as_bytes().to_vec(),
        most: 4,
    }
}

impl Suite {
    pub(super) async fn a_signal_is_kept_once_and_the_first_of_its_name_is_found(
        &self,
    ) -> Result<(), StoreError> {
        let definition = definition();
        let id = self.start(&definition).await?;
        let send = async |name: &str, key: &[u8], payload: &str| {
            self.store.signal(&signal(id, name, key, payload)).await
        };
        assert_eq!(self.store.signals(id, "paid").await?, Signals::default());
        let before = self.read(id).await?.now;
        assert_eq!(send("other", b"1", "1").await?, Sent::New);
        assert_eq!(send("paid", b"\xff\0", "{\"\u{e4}\":2}").await?, Sent::New);
        assert_eq!(
            send("paid", b"\xff\0", "3").await?,
            Sent::Known,
            "twice is once"
        );
        assert_eq!(send("other", b"\xff\0", "3").await?, Sent::Known);
        assert_eq!(send("paid", b"a", "4").await?, Sent::New);
        let after = self.read(id).await?.now;
        let found = self.store.signals(id, "paid").await?;
        assert_eq!(found.count, 3, "of whatever name");
        let first = found.first.expect("it was sent");
        assert_eq!(first.payload, "{\"\u{e4}\":2}".as_bytes(), "the first");
        assert!(
            before <= first.at && first.at <= after,
            "by the store's clock"
        );
        assert_eq!(self.store.signals(id, "never").await?.first, None);
        assert_eq!(send("paid", b"b", "5").await?, Sent::New);
        assert_eq!(
            send("paid", b"c", "6").await?,
            Sent::Full,
            "there is a most"
        );
        assert_eq!(send("paid", b"a", "4").await?, Sent::Known, "also then");
        let nobody = signal(SagaId::random(), "paid", b"1", "1");
        assert_eq!(self.store.signal(&nobody).await?, Sent::Nobody);
        assert_eq!(
            self.store.signals(nobody.saga, "paid").await?,
            Signals::default()
        );
        self.end(&definition).await?;
        let late = send("paid", b"late", "7").await?;
        assert_eq!(late, Sent::Over(State::Completed));
        assert_eq!(send("paid", b"a", "4").await?, Sent::Known, "also then");
        Ok(())
    }

    pub(super) async fn a_signal_wakes_who_listens_and_nobody_else(
        &self,
    ) -> Result<(), StoreError> {
        for together in [false, true] {
            let definition = definition();
            let id = self.start(&definition).await?;
            let (mut lines, mut key) = (0, 0_u8);
            let mut send = async || {
                key += 1;
                let signal = NewSignal {
                    most: 1000,
                    ..signal(id, "paid", &[key], "1")
                };
                self.store.signal(&signal).await
            };
            let due = async || self.store.claim(&ask(&definition, LONG)).await;
            let seen = async || {
                let signals = self.store.signals(id, "paid").await;
                signals.map(|it| it.count)
            };
            // What it is given back with, what happens to it then, and whether it is due.
            let cases = [
                ("released", false, 0, false),
                ("released", false, 1, false),
                ("listening", true, 0, false),
                ("listening", true, 1, true),
            ];
            for (said, listens, signals, wakes) in cases {
                let claimed = match due().await?.pop() {
                    Some(claimed) => claimed,
                    None => self.freed(&definition, id, &mut lines).await?,
                };
                // A signal while it is held changes nothing for who holds it.
                assert_eq!(send().await?, Sent::New);
                assert!(self.store.extend(id, claimed.fence, LONG).await?);
                let then = if listens {
                    Then::Listen {
                        after: LONG,
                        seen: seen().await?,
                    }
                } else {
                    Then::Release(LONG)
                };
                self.give_back(&claimed, then, together, &mut lines).await?;
                assert!(due().await?.is_empty(), "{said}: later");
                for _ in 0..signals {
                    assert_eq!(send().await?, Sent::New);
                }
                let woken = due().await?;
                assert_eq!(!woken.is_empty(), wakes, "{said}, then {signals} signals");
                if let Some(claimed) = woken.first() {
                    // What has been sent and not been seen is as good as one that comes.
                    let then = Then::Listen {
                        after: LONG,
                        seen: seen().await? - 1,
                    };
                    self.give_back(claimed, then, together, &mut lines).await?;
                    assert_eq!(due().await?.len(), 1, "{said}: one was not seen");
                }
            }
        }
        Ok(())
    }

    pub(super) async fn no_wake_up_is_lost_between_a_look_and_a_release(
        &self,
    ) -> Result<(), StoreError> {
        let definition = definition();
        for key in 0..20_u8 {
            let id = self.start(&definition).await?;
            let claimed = self.claim_one(&ask(&definition, LONG)).await?;
            let release = Write {
                then: Then::Listen {
                    after: LONG,
                    seen: 0,
                },
                ..write(0, vec![started(1)])
            };
            let signal = signal(id, "paid", &[key], "1");
            let by = Hand::Holder(claimed.fence);
            let (released, sent) = tokio::join!(
                self.store.append(id, by, &release),
                self.store.signal(&signal)
            );
            assert_eq!((released?, sent?), (true, Sent::New));
            self.end_at(&definition, 1).await?;
        }
        Ok(())
    }

    pub(super) async fn signals_are_pruned_with_their_saga(&self) -> Result<(), StoreError> {
        let definition = definition();
        let id = self.start(&definition).await?;
        let sent = signal(id, "paid", b"1", "1");
        assert_eq!(self.store.signal(&sent).await?, Sent::New);
        self.end(&definition).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
        while self.store.prune(Duration::ZERO, 1000).await? > 0 {}
        assert_eq!(self.store.signals(id, "paid").await?, Signals::default());
        assert_eq!(self.store.signal(&sent).await?, Sent::Nobody);
        Ok(())
    }

    /// Takes it from whoever waits for it, as an operator, and claims it.
    async fn freed(
        &self,
        definition: &crate::store::DefinitionKey,
        id: SagaId,
        lines: &mut u64,
    ) -> Result<crate::store::Claimed, StoreError> {
        let freed = Write {
            then: Then::Release(Duration::ZERO),
            ..write(*lines, vec![Entry::Interrupted])
        };
        assert!(self.store.append(id, Hand::Operator, &freed).await?);
        *lines += 1;
        self.claim_one(&ask(definition, LONG)).await
    }

    async fn give_back(
        &self,
        claimed: &crate::store::Claimed,
        then: Then,
        together: bool,
        lines: &mut u64,
    ) -> Result<(), StoreError> {
        let (id, fence) = (claimed.record.id, claimed.fence);
        // With and without a line: stores have a statement for each.
        let entries = if lines.is_multiple_of(2) {
            vec![]
        } else {
            vec![Entry::Interrupted]
        };
        let count = entries.len() as u64;
        let write = Write {
            then,
            ..write(*lines, entries)
        };
        let mut told = vec![false];
        if together {
            let write = write.clone();
            told = self
                .store
                .append_all(&[Append { id, fence, write }])
                .await?;
        }
        if told == [false] {
            told = vec![self.store.append(id, Hand::Holder(fence), &write).await?];
        }
        assert_eq!(told, [true], "it is written");
        *lines += count;
        Ok(())
    }

    async fn end_at(
        &self,
        definition: &crate::store::DefinitionKey,
        lines: u64,
    ) -> Result<(), StoreError> {
        let claimed = self.claim_one(&ask(definition, LONG)).await?;
        let done = Write {
            state: State::Completed,
            ..write(lines, vec![Entry::Completed])
        };
        let by = Hand::Holder(claimed.fence);
        assert!(self.store.append(claimed.record.id, by, &done).await?);
        Ok(())
    }
}
