//! Who works on orders: the runner of their sagas, the relay of their messages, the reaper of keys.

use buttress_idempotency::Idempotency;
use buttress_outbox::{
    Delivery, PublishError, Relay, RelayPolicy, Taken, TopicPolicy, publisher::in_process,
};
use buttress_retry_backoff::Backoff;
use buttress_saga::{Context, Event, EventKind, RunnerPolicy, Saga, Step, StepError, StepPolicy};
use buttress_store::{Deadline, Guarded, LeaseTerms};
use sqlx::AssertSqlSafe;
use std::time::Duration;
use tokio::{sync::watch, task::JoinHandle};

use super::{House, Pool, TOPIC, Trouble};

/// How soon what failed is tried again.
const SOON: Duration = Duration::from_millis(50);

/// Under way until it is told to stop, or dropped.
pub(crate) struct Working {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Working {
    /// Lets them hand back what they hold.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl House {
    /// Begins to work on orders, by a runner, a relay and a reaper.
    pub(crate) fn work(&self) -> Result<Working, Trouble> {
        self.work_seen(|_| {})
    }

    /// The same, with somebody who is told what the runner does.
    pub(crate) fn work_seen(
        &self,
        sees: impl Fn(&EventKind) + Send + Sync + 'static,
    ) -> Result<Working, Trouble> {
        let (stop, stopped) = watch::channel(false);
        let until = || {
            let mut stopped = stopped.clone();
            async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            }
        };
        let policy = RunnerPolicy::default()
            .lease(LeaseTerms::new(self.terms.lease)?)
            .poll(SOON);
        let runner = self.sagas.runner().saga(&self.saga).policy(policy);
        let runner = runner.observer(move |event: &Event| sees(&event.kind));
        let runner = runner.build()?.run_until(until());

        let house = self.clone();
        let hear = in_process(move |delivery: Delivery| {
            let house = house.clone();
            async move {
                let heard = house.hear(&delivery).await;
                heard.map_err(|_| PublishError::down("its database"))
            }
        });
        let topic = TopicPolicy::new().with_outage_backoff(Backoff::constant(SOON));
        let relay = Relay::builder(&self.outbox)
            .policy(
                RelayPolicy::new()
                    .with_lease(self.terms.lease)
                    .with_poll(SOON),
            )
            .topic_with(TOPIC, topic, hear)
            .build()?;
        let relayed = until();
        let relaying = async move { relay.run_until(relayed).await };

        let reaper = Idempotency::reaper(&self.keys).with(SOON, 100)?;
        let reaped = until();
        let reaping = async move { reaper.run_until(reaped).await };
        Ok(Working {
            stop,
            tasks: vec![
                tokio::spawn(runner),
                tokio::spawn(relaying),
                tokio::spawn(reaping),
            ],
        })
    }

    /// Writes down the order that it is told of, once.
    async fn hear(&self, delivery: &Delivery) -> Result<(), Trouble> {
        let number: i64 = serde_json::from_slice(delivery.message().payload())?;
        let sql = AssertSqlSafe(format!("INSERT INTO heard (id) VALUES ({number})"));
        let deadline = Deadline::after(Deadline::SQL);
        macro_rules! hear {
            ($begin:expr) => {{
                let mut tx = $begin;
                let id = delivery.message().id().to_owned();
                if self.inbox.take_in(&mut *tx, id).await? == Taken::First {
                    sqlx::raw_sql(sql).execute(&mut *tx).await?;
                }
                tx.commit().await?;
            }};
        }
        match &self.pool {
            Pool::Postgres(pool) => hear!(Guarded::begin(pool, deadline).await?),
            Pool::MySql(pool) => hear!(Guarded::begin(pool, deadline).await?),
            Pool::Sqlite(writer) => hear!(writer.begin(deadline).await?),
        }
        Ok(())
    }
}

/// Looks whether the order may be charged, and charges it: a row, in the commit that ends the step.
pub(crate) fn saga(pool: &Pool, look: Duration) -> Result<Saga<i64>, Trouble> {
    let mut saga = Saga::define("order", 1);
    let soon = || {
        StepPolicy::default()
            .unlimited_attempts()
            .backoff(Backoff::constant(SOON))
    };
    saga.step_with("look", Look(look), soon());
    saga.step_with("charge", Charge(pool.clone()), soon());
    Ok(saga.build()?)
}

struct Look(Duration);

impl Step for Look {
    type Input = i64;
    type Output = bool;

    async fn run(&self, context: &Context<'_, i64>) -> Result<bool, StepError> {
        tokio::time::sleep(self.0).await;
        Ok(*context.input() >= 0)
    }
}

struct Charge(Pool);

impl Step for Charge {
    type Input = i64;
    type Output = i64;

    async fn run(&self, context: &Context<'_, i64>) -> Result<i64, StepError> {
        let number = *context.input();
        let sql = AssertSqlSafe(format!("INSERT INTO charges (id) VALUES ({number})"));
        let deadline = Deadline::after(Deadline::SQL);
        macro_rules! charge {
            ($begin:expr) => {{
                let mut tx = $begin;
                let row = sqlx::raw_sql(sql).execute(&mut *tx).await;
                row.map_err(|error| StepError::unknown("CHARGE").because(error))?;
                context.complete_in(&mut *tx, &number).await?;
                tx.commit().await?;
            }};
        }
        match &self.0 {
            Pool::Postgres(pool) => charge!(Guarded::begin(pool, deadline).await?),
            Pool::MySql(pool) => charge!(Guarded::begin(pool, deadline).await?),
            Pool::Sqlite(writer) => charge!(writer.begin(deadline).await?),
        }
        Ok(number)
    }
}
