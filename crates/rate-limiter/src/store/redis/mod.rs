//! Redis: one script a decision, by the server's clock.

use std::{fmt, slice, sync::Arc};

use async_trait::async_trait;
use buttress_store::{
    Deadline, Key, Micros, Phase, RedisConnection, RedisKeys, RedisPrefixError, Script, StoreError,
};

use super::{Answer, Ask, Slot, Store, What, signed, unit};
use crate::machine::{Bucket, Plan, Rule};

const DECIDE: &str = include_str!("decide.lua");
const BUCKET: &str = include_str!("bucket.lua");

/// A store on Redis, single or cluster: one atomic script a decision, by the server's clock.
///
/// Keys are `<prefix>:rate_limiter:{<key>}`, each in one slot, each with a time to live of no more than
/// what it takes until it equals one never seen, and a second. Scripts that Redis has forgotten are sent
/// again. What Redis forgets (a flush, a failover that loses the last writes) is given out once more.
#[derive(Clone)]
pub struct RedisStore {
    connection: RedisConnection,
    keys: RedisKeys,
    scripts: Arc<Scripts>,
}

struct Scripts {
    decide: Script,
    bucket: Script,
}

impl RedisStore {
    /// A store on this connection, with keys that begin with `buttress`.
    #[must_use]
    pub fn new(connection: RedisConnection) -> Self {
        // The default is a valid prefix.
        let keys = RedisKeys::new("buttress", "rate_limiter");
        Self::of(
            connection,
            keys.unwrap_or_else(|_| unreachable!("`buttress` is a valid prefix")),
        )
    }

    /// The same with another prefix.
    ///
    /// # Errors
    ///
    /// [`RedisPrefixError`], when it cannot begin a key.
    pub fn with_prefix(
        connection: RedisConnection,
        prefix: &str,
    ) -> Result<Self, RedisPrefixError> {
        Ok(Self::of(
            connection,
            RedisKeys::new(prefix, "rate_limiter")?,
        ))
    }

    fn of(connection: RedisConnection, keys: RedisKeys) -> Self {
        Self {
            connection,
            keys,
            scripts: Arc::new(Scripts {
                decide: Script::new(DECIDE),
                bucket: Script::new(BUCKET),
            }),
        }
    }
}

impl RedisStore {
    /// The shorter script, for one bucket.
    async fn take(
        &self,
        key: &Key,
        ask: &Ask,
        bucket: &Bucket,
        least: u64,
        deadline: Deadline,
    ) -> Result<Answer, StoreError> {
        let unit = signed(bucket.cost);
        let arguments = [
            unit,
            signed(bucket.gain),
            signed(bucket.most),
            signed(bucket.ceiling),
            signed(bucket.full_ticks()),
            signed(ask.permits().min(1 << 52)),
            signed(least),
        ];
        let key = self.keys.of(key);
        let script = &self.scripts.bucket;
        let run =
            script.run::<(u64, i64, i64)>(&self.connection, slice::from_ref(&key), &arguments[..]);
        let (granted, level, lag) = deadline.run(Phase::Statement, run).await?;
        // Nothing that a bucket without steps says depends on what time it is.
        let now = 1;
        let slot = Slot {
            unit,
            seen: now + lag,
            level,
            before: 0,
        };
        Ok(ask.answer(&[slot], Micros::new(now), granted))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn decide(&self, key: &Key, ask: &Ask, deadline: Deadline) -> Result<Answer, StoreError> {
        if let (What::Take { least }, Some(bucket)) = (ask.what(), greedy(ask.plan())) {
            return self.take(key, ask, bucket, least, deadline).await;
        }
        let (phase, what, least) = match ask.what() {
            What::Take { least } => (Phase::Statement, "t", least),
            What::Peek => (Phase::Read, "p", 0),
            What::Force => (Phase::Statement, "f", 0),
            What::GiveBack => (Phase::Statement, "g", 0),
        };
        // Doubles hold so much: a debt beyond it is as good as this one.
        let permits = ask.permits().min(1 << 52);
        let mut arguments = vec![what.to_owned(), permits.to_string(), least.to_string()];
        arguments.extend(numbers(ask.plan()).iter().map(ToString::to_string));
        let key = self.keys.of(key);
        let script = &self.scripts.decide;
        let run = script.run::<Vec<i64>>(&self.connection, slice::from_ref(&key), arguments);
        let reply = deadline.run(phase, run).await?;
        let number = |at: usize| reply.get(at).copied().unwrap_or(0);
        let slots: Vec<Slot> = reply
            .get(2..)
            .unwrap_or_default()
            .chunks_exact(4)
            .map(|it| Slot {
                unit: it[0],
                seen: it[1],
                level: it[2],
                before: it[3],
            })
            .collect();
        let granted = u64::try_from(number(0)).unwrap_or(0);
        Ok(ask.answer(&slots, Micros::new(number(1)), granted))
    }

    async fn forget(&self, key: &Key, deadline: Deadline) -> Result<(), StoreError> {
        let mut connection = self.connection.clone();
        let mut delete = redis::cmd("DEL");
        delete.arg(self.keys.of(key));
        deadline
            .run(Phase::Statement, delete.query_async(&mut connection))
            .await
    }

    /// Nothing: keys expire.
    async fn prune(&self, _: u32, _: Deadline) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// The one bucket of a plan, if it is refilled evenly.
fn greedy(plan: &Plan) -> Option<&Bucket> {
    plan.single_bucket().filter(|bucket| bucket.length == 1)
}

/// Six numbers for each bandwidth.
fn numbers(plan: &Plan) -> Vec<i64> {
    let rules = plan.rules().iter();
    let numbers = rules.flat_map(|rule| {
        let [length, gain, most, ceiling, step] = match rule {
            Rule::Bucket { bucket, step } => [
                bucket.length,
                bucket.gain,
                bucket.most,
                bucket.ceiling,
                *step,
            ],
            Rule::Counter { counter, step } => [counter.window, 1, counter.permits, 1 << 52, *step],
            Rule::Log { counter } => [counter.window, 1, counter.permits, 1 << 52, 1],
        };
        [unit(rule)]
            .into_iter()
            .chain([length, gain, most, ceiling, step].map(signed))
    });
    numbers.collect()
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}
