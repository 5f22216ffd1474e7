//! The suite that every store passes: what is written for several sagas at once.

use std::time::Duration;

use buttress_store::{Fence, StoreError, Token};

use super::{LONG, Suite, ask, definition, started, write};
use crate::{
    Entry, SagaId, State,
    store::{Append, Then, Write},
};

impl Suite {
    /// One that has lost its claim, one whose journal is longer, and one that is not there spoil
    /// nothing for the others, which end, are given back, and go on.
    pub(super) async fn a_batch_is_written_but_for_what_is_anothers(
        &self,
    ) -> Result<(), StoreError> {
        let definition = definition();
        for _ in 0..6 {
            self.start(&definition).await?;
        }
        let claimed = self.store.claim(&ask(&definition, LONG)).await?;
        let (first, end) = (write(0, vec![started(1)]), write(0, vec![Entry::Completed]));
        let mut appends: Vec<Append> = claimed
            .iter()
            .map(|it| Append {
                id: it.record.id,
                fence: it.fence,
                write: first.clone(),
            })
            .collect();
        appends[1].fence = Fence::new(appends[1].fence.epoch(), Token::random());
        appends[2].fence = Fence::new(appends[2].fence.epoch() + 1, *appends[2].fence.token());
        appends[3].write.expected = 1;
        appends[4].write = Write {
            state: State::Completed,
            ..end
        };
        appends[5].write = Write {
            reason: Some("LATER".to_owned()),
            then: Then::Release(Duration::from_secs(60)),
            ..first.clone()
        };
        appends.push(Append {
            id: SagaId::random(),
            fence: appends[0].fence,
            write: first,
        });
        let told = self.store.append_all(&appends).await?;
        assert_eq!(told.len(), appends.len(), "an answer for each");
        if self.store.batches_at_once() > 0 {
            let expected = [true, false, false, false, true, true, false];
            assert_eq!(told, expected, "what may be written, and nobody locks, is");
        }
        for (append, told) in appends.iter().zip(&told).take(6) {
            let (record, asked) = (self.read(append.id).await?, &append.write);
            if !told {
                assert_eq!((record.entries, record.held), (0, true), "nothing was done");
                continue;
            }
            let lines: Vec<_> = record.journal.iter().map(|it| it.entry.clone()).collect();
            assert_eq!(lines, asked.entries, "its own lines");
            assert!(
                record
                    .journal
                    .iter()
                    .all(|it| it.epoch == append.fence.epoch())
            );
            assert_eq!(
                (record.state, record.reason),
                (asked.state, asked.reason.clone())
            );
            assert_eq!(
                record.held,
                asked.state.is_active() && asked.then == Then::Keep
            );
            assert_eq!(record.ended_at.is_some(), asked.state.has_ended());
            if asked.then != Then::Keep {
                assert!(record.due_at > record.now, "it is due when it said");
            }
        }
        let again = self.store.append_all(&appends).await?;
        assert!(again.iter().all(|it| !it), "twice is once");
        assert!(self.store.append_all(&[]).await?.is_empty());
        Ok(())
    }
}
