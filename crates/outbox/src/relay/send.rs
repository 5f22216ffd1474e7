//! Publishing a turn's messages: run by run, or in waves of one message a key.

use std::collections::VecDeque;

use buttress_store::StoreError;

use super::{Pass, lanes::Lane, ledger::Ledger, publish::Answer, round::find, run::TopicRun};
use crate::{
    Delivery, EventKind, PublishError, PublishErrorKind, PublishOrder, machine::Outcome,
    store::Held,
};

/// A message that is being tried.
pub(super) struct Item {
    pub(super) lane: i16,
    pub(super) id: i64,
    pub(super) key: Vec<u8>,
    /// It is in the stream.
    pub(super) stream: bool,
    /// Its key is set aside, for this message or one before it.
    pub(super) known: bool,
    pub(super) history: crate::machine::History,
    pub(super) delivery: Delivery,
}

impl TopicRun {
    /// Publishes these runs of keys. True: the destination takes nothing now.
    pub(super) async fn send(
        &self,
        work: &mut [Lane],
        mut runs: Vec<VecDeque<Item>>,
        ledger: &mut Ledger<'_>,
        pass: &mut Pass,
    ) -> Result<bool, StoreError> {
        let order = match self.policy().is_one_line() {
            // What a publisher promises of whole runs, it promises of each key.
            true => PublishOrder::OnePerKey,
            false => self.served.publisher.order(),
        };
        let mut hung = Vec::new();
        let mut next = 0;
        loop {
            self.drop_untrusted(work, &mut runs);
            let call = take_call(&mut runs, &mut next, order, self.call_size());
            if call.is_empty() {
                break;
            }
            let (places, items): (Vec<usize>, Vec<Item>) = call.into_iter().unzip();
            let batch: Vec<Delivery> = items.iter().map(|item| item.delivery.clone()).collect();
            let answers = match self.publish(&batch).await {
                Answer::Each(answers) => answers,
                Answer::Late if items.len() == 1 => vec![Err(late())],
                Answer::Late | Answer::Panicked => {
                    hung.extend(items.iter().map(|item| item.lane));
                    break;
                }
            };
            let mut away = false;
            for ((place, item), answer) in places.into_iter().zip(items).zip(answers) {
                if answer.is_err() {
                    runs[place].clear();
                }
                away |= self.note(&item, answer, ledger).await?;
            }
            if away {
                ledger.settle(work, pass).await?;
                return Ok(true);
            }
            ledger.flush(work, pass).await?;
        }
        for lane in work {
            if hung.contains(&lane.number()) {
                lane.pace.lapsed();
            } else if !lane.pace.is_full() && lane.pace.rows() > 1 {
                lane.pace.went_well();
            }
        }
        Ok(false)
    }

    /// Publishes one message and nothing else of its lane, and notes in the store that it does:
    /// should this process die over it, it is known whose fault that was.
    pub(super) async fn send_alone(
        &self,
        work: &mut [Lane],
        held: Held,
        item: Item,
        ledger: &mut Ledger<'_>,
        pass: &mut Pass,
    ) -> Result<bool, StoreError> {
        // Nobody closes it.
        let _turn = self.lone.acquire().await;
        let trusted = self.lanes().is_trusted(held, self.clock.now());
        if !trusted || !self.store.store.alone(self.topic(), held, item.id).await? {
            self.lanes().lost(held);
            return Ok(false);
        }
        let batch = [item.delivery.clone()];
        let (outcome, away) = match self.publish(&batch).await {
            Answer::Each(mut answers) => {
                let answer = answers.pop().unwrap_or_else(|| Err(late()));
                (None, self.note(&item, answer, ledger).await?)
            }
            Answer::Late => (None, self.note(&item, Err(late()), ledger).await?),
            Answer::Panicked => (Some(Outcome::Lapsed), false),
        };
        if let Some(outcome) = outcome {
            self.tell(|| EventKind::Lapsed { sequence: item.id });
            ledger.note(&item, outcome, "the publisher panicked over it", None);
        }
        ledger.not_alone(held.lane);
        ledger.settle(work, pass).await?;
        if let Some(lane) = find(work, held)
            && outcome.is_none()
        {
            lane.pace.went_well();
        }
        Ok(away)
    }

    /// Notes one answer. True: it says that the destination takes nothing now.
    async fn note(
        &self,
        item: &Item,
        answer: Result<(), PublishError>,
        ledger: &mut Ledger<'_>,
    ) -> Result<bool, StoreError> {
        let error = match answer {
            Ok(()) => {
                self.answered();
                ledger.note(item, Outcome::Delivered, "", None);
                return Ok(false);
            }
            Err(error) => error,
        };
        match error.kind() {
            PublishErrorKind::Down => self.down(error.retry_after()),
            PublishErrorKind::Gone => {
                let store = &self.store.store;
                store.pause(self.topic(), Some(error.reason())).await?;
                self.lanes().paused = true;
                self.tell(|| EventKind::Gone);
            }
            PublishErrorKind::Refused | PublishErrorKind::RefusedForGood => self.answered(),
            PublishErrorKind::Unknown | PublishErrorKind::Skipped => {}
        }
        let outcome = Outcome::Failed(error.kind());
        ledger.note(item, outcome, error.reason(), error.retry_after());
        Ok(error.is_about_all())
    }

    /// What is in a lane whose lease is not believed in any more is another relay's.
    fn drop_untrusted(&self, work: &[Lane], runs: &mut [VecDeque<Item>]) {
        let now = self.clock.now();
        let lanes = self.lanes();
        let gone = |lane: &&Lane| !lanes.is_trusted(lane.held, now);
        let gone: Vec<i16> = work.iter().filter(gone).map(Lane::number).collect();
        if gone.is_empty() {
            return;
        }
        for run in runs {
            if run.front().is_some_and(|item| gone.contains(&item.lane)) {
                run.clear();
            }
        }
    }
}

fn late() -> PublishError {
    PublishError::unknown("no answer by the publish deadline")
}

/// The next messages to be handed over at once, each with its run's place: whole runs one after
/// the other, or of each run its first. `next` goes round the runs.
fn take_call(
    runs: &mut [VecDeque<Item>],
    next: &mut usize,
    order: PublishOrder,
    most: usize,
) -> Vec<(usize, Item)> {
    let mut call = Vec::new();
    for _ in 0..runs.len() {
        let place = *next % runs.len();
        while call.len() < most {
            let Some(item) = runs[place].pop_front() else {
                break;
            };
            call.push((place, item));
            if order == PublishOrder::OnePerKey {
                break;
            }
        }
        if call.len() >= most && order == PublishOrder::WholeRuns && !runs[place].is_empty() {
            break;
        }
        *next = (place + 1) % runs.len();
        if call.len() >= most {
            break;
        }
    }
    call
}
