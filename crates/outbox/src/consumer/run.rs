//! The loop: messages are fetched, handled one after the other, and settled. The same for each
//! broker.

use std::{pin::pin, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Interval, MissedTickBehavior, interval_at, sleep, timeout};

use super::{Handled, Received, Terms};
use crate::PublishError;

/// A message that a broker gave out.
pub(super) struct Incoming<T> {
    /// By which the broker knows it.
    pub(super) token: T,
    /// The message, or `None` for what is no event.
    pub(super) received: Option<Received>,
}

/// How a message leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It need not come again.
    Done,
    /// It is put aside.
    Aside,
}

/// A broker's side of the loop. Its errors are about the broker.
pub(super) trait Source: Send {
    /// By which the broker knows a message.
    type Token: Send + Sync;

    /// As logs call it.
    const BROKER: &'static str;

    /// The next message, `None` if there was none for a while. With `alone`, no more than this one
    /// is fetched. May be dropped at every await: what had been fetched is still there.
    fn next(
        &mut self,
        alone: bool,
    ) -> impl Future<Output = Result<Option<Incoming<Self::Token>>, PublishError>> + Send;

    /// Tells the broker what became of a message. With `alone`, the next is fetched alone as well.
    fn settle(
        &mut self,
        token: Self::Token,
        settled: Settled,
        alone: bool,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Gives back this message, and all that was fetched behind it: they come again, here or
    /// elsewhere, not before the wait. Where it does not succeed, they come again later.
    fn give_back(
        &mut self,
        token: Option<Self::Token>,
        wait: Duration,
    ) -> impl Future<Output = ()> + Send;

    /// Nothing is wanted any more.
    fn end(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// How often [`keep`](Self::keep) is to be called while a message is handled.
    fn keeps_every(&self) -> Option<Duration> {
        None
    }

    /// Tells the broker that this message, and what was fetched behind it, is in work. May be
    /// dropped at every await.
    fn keep(&mut self, _token: &Self::Token) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// What is remembered from one message to the next.
struct State<'a> {
    terms: &'a Terms,
    /// How often in a row something failed.
    failures: u32,
    /// One message is fetched at a time.
    alone: bool,
    /// What came last and was not done, and how often it has come in a row.
    last: Option<(String, u32)>,
    tick: Option<Interval>,
}

/// Hands message after message to `handle`, until `shutdown` is ready.
pub(super) async fn run<S, H, Fut>(
    mut source: S,
    terms: &Terms,
    shutdown: impl Future<Output = ()> + Send,
    handle: &H,
) where
    S: Source,
    H: Fn(Received) -> Fut + Send + Sync,
    Fut: Future<Output = Handled> + Send,
{
    let mut shutdown = pin!(shutdown.fuse());
    let tick = source.keeps_every().map(|every| {
        let mut tick = interval_at(sleep(every).deadline(), every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    });
    let mut state = State {
        terms,
        failures: 0,
        alone: true,
        last: None,
        tick,
    };
    loop {
        let next = tokio::select! {
            biased;
            () = &mut shutdown => break,
            next = source.next(state.alone) => next,
        };
        let failed = match next {
            Ok(None) => {
                state.quiet();
                continue;
            }
            Ok(Some(incoming)) => state.take(&mut source, incoming, handle).await,
            Err(error) => Err(state.away::<S>(&error)),
        };
        if let Err(wait) = failed {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = sleep(wait) => {}
            }
        }
    }
    source.give_back(None, Duration::ZERO).await;
    source.end().await;
}

impl State<'_> {
    /// Handles a message and settles it. An error is how long to wait until the next.
    async fn take<S, H, Fut>(
        &mut self,
        source: &mut S,
        incoming: Incoming<S::Token>,
        handle: &H,
    ) -> Result<(), Duration>
    where
        S: Source,
        H: Fn(Received) -> Fut + Send + Sync,
        Fut: Future<Output = Handled> + Send,
    {
        let Incoming { token, received } = incoming;
        let Some(mut received) = received else {
            return self.aside(source, token, "it is no event").await;
        };
        let id = received.inbox_id();
        let seen = match &self.last {
            Some((last, seen)) if *last == id => *seen,
            _ => 0,
        };
        received.attempt = received.attempt.max(seen.saturating_add(1));
        if self
            .terms
            .attempts
            .is_some_and(|most| received.attempt > most)
        {
            return self.aside(source, token, "it came too often").await;
        }
        let attempt = received.attempt;
        let is_new = !received.may_have_come_before();
        let asked = match self.handle(source, &token, handle(received)).await {
            Some(Handled::Done) => {
                // What was fetched with a message that comes again may come again as well, and may
                // be what its consumer died of.
                let alone = self.alone && !is_new;
                self.settle(source, token, Settled::Done, alone).await?;
                self.alone = alone;
                return Ok(());
            }
            Some(Handled::Never) => {
                return self.aside(source, token, "its handler gave it up").await;
            }
            Some(Handled::Again) => Duration::ZERO,
            Some(Handled::AgainAfter(wait)) => wait,
            None => {
                tracing::warn!(
                    broker = S::BROKER,
                    "a handler took longer than its deadline: its message comes again"
                );
                Duration::ZERO
            }
        };
        self.last = Some((id, attempt));
        let wait = self.failed(asked);
        source.give_back(Some(token), wait).await;
        Err(wait)
    }

    /// Waits for a handler, and tells the broker meanwhile that it is at work; a broker that does
    /// not hear it holds up neither handler nor deadline. `None` when its deadline is over.
    async fn handle<S: Source>(
        &mut self,
        source: &mut S,
        token: &S::Token,
        handling: impl Future<Output = Handled> + Send,
    ) -> Option<Handled> {
        let mut handling = pin!(timeout(self.terms.deadline, handling));
        loop {
            let Some(tick) = &mut self.tick else {
                return handling.await.ok();
            };
            let keeping = async {
                tick.tick().await;
                source.keep(token).await;
            };
            tokio::select! {
                biased;
                () = keeping => {}
                handled = &mut handling => return handled.ok(),
            }
        }
    }

    async fn aside<S: Source>(
        &mut self,
        source: &mut S,
        token: S::Token,
        why: &'static str,
    ) -> Result<(), Duration> {
        tracing::warn!(broker = S::BROKER, why, "a message is put aside");
        self.settle(source, token, Settled::Aside, self.alone).await
    }

    async fn settle<S: Source>(
        &mut self,
        source: &mut S,
        token: S::Token,
        settled: Settled,
        alone: bool,
    ) -> Result<(), Duration> {
        match source.settle(token, settled, alone).await {
            Ok(()) => {
                self.failures = 0;
                self.last = None;
                Ok(())
            }
            Err(error) => {
                let wait = self.away::<S>(&error);
                source.give_back(None, wait).await;
                Err(wait)
            }
        }
    }

    fn away<S: Source>(&mut self, error: &PublishError) -> Duration {
        tracing::warn!(
            broker = S::BROKER,
            reason = error.reason(),
            "the broker gives no messages for now"
        );
        self.failed(Duration::ZERO)
    }

    /// The broker has answered that there is nothing: it is not away, and what failed before is no
    /// part of a row, unless it is a message that is to come again.
    fn quiet(&mut self) {
        if self.last.is_none() {
            self.failures = 0;
        }
    }

    fn failed(&mut self, asked: Duration) -> Duration {
        self.alone = true;
        self.failures = self.failures.saturating_add(1);
        self.terms.wait(self.failures, asked)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        future::{pending, ready},
        sync::Mutex,
    };

    use buttress_retry_backoff::{Backoff, Jitter};
    use bytes::Bytes;

    use super::*;

    /// Gives out one message after the other, and writes down what became of it. It never hears
    /// that one is in work. With `away`, it has none, and is away every other time.
    #[derive(Default)]
    struct Deaf {
        given: u32,
        away: bool,
        words: Mutex<Vec<&'static str>>,
    }

    impl Source for &mut Deaf {
        type Token = ();

        const BROKER: &'static str = "deaf";

        async fn next(&mut self, _alone: bool) -> Result<Option<Incoming<()>>, PublishError> {
            self.given += 1;
            if self.away && self.given.is_multiple_of(2) {
                return Err(PublishError::down("away"));
            }
            if self.away {
                return Ok(None);
            }
            let attributes = [("specversion", "1.0"), ("source", "/s"), ("type", "t")];
            let mut attributes: BTreeMap<String, String> = attributes
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
            attributes.insert("id".to_owned(), self.given.to_string());
            let received = Received {
                attributes,
                headers: BTreeMap::new(),
                content_type: None,
                data: Bytes::new(),
                attempt: 1,
                again: false,
                from: String::new(),
            };
            Ok(Some(Incoming {
                token: (),
                received: Some(received),
            }))
        }

        async fn settle(
            &mut self,
            _token: (),
            _settled: Settled,
            _alone: bool,
        ) -> Result<(), PublishError> {
            self.words.lock().unwrap().push("settled");
            Ok(())
        }

        async fn give_back(&mut self, token: Option<()>, _wait: Duration) {
            if token.is_some() {
                self.words.lock().unwrap().push("given back");
            }
        }

        fn keeps_every(&self) -> Option<Duration> {
            Some(Duration::from_millis(100))
        }

        async fn keep(&mut self, _token: &()) {
            pending::<()>().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_does_not_hear_holds_up_neither_handler_nor_deadline() {
        let mut deaf = Deaf::default();
        let terms = Terms::new().with_deadline(Duration::from_secs(10)).unwrap();
        let shutdown = sleep(Duration::from_secs(60));
        let handle = |received: Received| async move {
            match received.id() {
                "1" => sleep(Duration::from_secs(1)).await,
                "2" => pending().await,
                _ => ready(()).await,
            }
            match received.id() {
                "3" => Handled::AgainAfter(Duration::from_secs(3600)),
                _ => Handled::Done,
            }
        };
        let running = run(&mut deaf, &terms, shutdown, &handle);
        let running = timeout(Duration::from_secs(600), running).await;
        assert!(running.is_ok(), "the stop was heard");
        let words = deaf.words.into_inner().unwrap();
        assert_eq!(words, ["settled", "given back", "given back"]);
    }
    #[tokio::test(start_paused = true)]
    async fn outages_with_quiet_between_them_are_not_in_a_row() {
        let mut away = Deaf {
            away: true,
            ..Deaf::default()
        };
        let backoff = Backoff::exponential(Duration::from_secs(1)).with_jitter(Jitter::None);
        let terms = Terms::new().with_backoff(backoff);
        let shutdown = sleep(Duration::from_millis(99_500));
        let handle = |_: Received| ready(Handled::Done);
        run(&mut away, &terms, shutdown, &handle).await;
        assert_eq!(away.given, 200, "a second of each two looks");
    }
}
