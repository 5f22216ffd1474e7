//! Records in Redis, alone or a cluster.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_store::{
    Deadline, Fence, Gate, Phase, RedisConnection, RedisKeys, RedisPrefixError, Script, StoreError,
    Ttl,
};
use bytes::Bytes;
use redis::{FromRedisValue, Value};

use super::{Answer, Checkpoint, Keeps, Request, Store, Unfinished, corrupt};
use crate::{Fingerprint, ScopedKey};

/// Records in Redis, on a connection of yours: one hash a key, one script an operation, a time to
/// live on each.
///
/// Redis can forget: a FLUSHALL, a failover before the replica had it, an eviction. Then the work
/// is done again. What must never be done twice belongs in SQL, in the transaction of its effect.
#[derive(Clone)]
pub struct RedisStore {
    connection: RedisConnection,
    gate: Gate,
    keys: RedisKeys,
    scripts: Arc<Scripts>,
}

struct Scripts {
    claim: Script,
    extend: Script,
    complete: Script,
    end: Script,
    checkpoint: Script,
}

/// Redis' own clock, and the fence.
macro_rules! script {
    ($($part:literal),*) => {
        concat!(
            "local key = KEYS[1]
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function keep(millis)
    if redis.call('PTTL', key) < tonumber(millis) then redis.call('PEXPIRE', key, millis) end
end
",
            $($part),*
        )
    };
    (fenced $($part:literal),*) => {
        script!(
            "local held = redis.call('HMGET', key, 'epoch', 'token', 'state')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return 0 end
",
            $($part),*
        )
    };
}

/// token, fingerprint, lease, lease and retention. What it returns is read by `answer`.
const CLAIM: &str = script!(
    "local held = redis.call('HMGET', key, 'epoch', 'token', 'fingerprint', 'state', 'lease_until')
local epoch = 1
if held[1] then
    if held[3] ~= ARGV[2] and string.byte(held[3], 1) == string.byte(ARGV[2], 1) then
        return {'mismatch'}
    end
    if held[4] == 'done' then
        return {'done', redis.call('HGET', key, 'outcome')}
    end
    if held[4] ~= 'running' and held[4] ~= 'unknown' then
        return {'corrupt'}
    end
    if held[2] == ARGV[1] then
        return {'claimed', tonumber(held[1]), redis.call('HGET', key, 'progress') or ''}
    end
    local remaining = tonumber(held[5]) - now()
    if remaining > 0 then
        return {held[4], remaining}
    end
    epoch = tonumber(held[1]) + 1
end
redis.call('HSET', key, 'epoch', epoch, 'token', ARGV[1], 'fingerprint', ARGV[2],
    'state', 'running', 'lease_until', now() + tonumber(ARGV[3]))
redis.call('PEXPIRE', key, ARGV[4])
return {'claimed', epoch, redis.call('HGET', key, 'progress') or ''}"
);

/// epoch, token, lease, lease and retention.
const EXTEND: &str = script!(fenced
    "if held[3] == 'done' then return 0 end
redis.call('HSET', key, 'state', 'running', 'lease_until', now() + tonumber(ARGV[3]))
keep(ARGV[4])
return 1"
);

/// epoch, token, outcome, retention.
const COMPLETE: &str = script!(fenced
    "redis.call('HSET', key, 'state', 'done', 'outcome', ARGV[3])
redis.call('HDEL', key, 'progress')
keep(ARGV[4])
return 1"
);

/// epoch, token, whether it is to be released.
const END: &str = script!(fenced
    "if held[3] == 'done' then return 0 end
if ARGV[3] == '0' then
    redis.call('HSET', key, 'state', 'unknown')
elseif held[1] == '1' and redis.call('HEXISTS', key, 'progress') == 0 then
    redis.call('DEL', key)
else
    redis.call('HSET', key, 'state', 'unknown', 'lease_until', now())
end
return 1"
);

/// epoch, token, how long what was passed is, what it is from now on.
const CHECKPOINT: &str = script!(fenced
    "if held[3] == 'done' then return 0 end
local passed = redis.call('HGET', key, 'progress') or ''
if #passed ~= tonumber(ARGV[3]) and passed ~= ARGV[4] then return 0 end
redis.call('HSET', key, 'progress', ARGV[4])
return 1"
);

impl RedisStore {
    /// Records under `buttress:idempotency:…`, on a connection that is shared by cloning it.
    ///
    /// # Panics
    ///
    /// Never: the default prefix fits.
    #[must_use]
    pub fn new(connection: RedisConnection) -> Self {
        Self::with_prefix(connection, "buttress").expect("the default prefix fits")
    }

    /// Records under another prefix.
    ///
    /// # Errors
    ///
    /// [`RedisPrefixError`], when it has bytes that a prefix may not have.
    pub fn with_prefix(
        connection: RedisConnection,
        prefix: &str,
    ) -> Result<Self, RedisPrefixError> {
        Ok(Self {
            connection,
            gate: Gate::redis(),
            keys: RedisKeys::new(prefix, "idempotency")?,
            scripts: Arc::new(Scripts {
                claim: Script::new(CLAIM),
                extend: Script::new(EXTEND),
                complete: Script::new(COMPLETE),
                end: Script::new(END),
                checkpoint: Script::new(CHECKPOINT),
            }),
        })
    }

    /// The same behind this gate: of another deadline, or shared with other stores on the server.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        key: &ScopedKey,
        arguments: &[&[u8]],
    ) -> Result<T, StoreError> {
        let keys = [self.keys.of(key.as_key())];
        self.gate
            .run(async |deadline: Deadline| {
                let run = script.run(&self.connection, &keys, arguments);
                deadline.run(Phase::Statement, run).await
            })
            .await
    }

    /// A script that begins with the fence, and says whether it held.
    async fn fenced(
        &self,
        script: &Script,
        key: &ScopedKey,
        fence: Fence,
        rest: &[&[u8]],
    ) -> Result<bool, StoreError> {
        let epoch = fence.epoch().to_string();
        let mut arguments: Vec<&[u8]> = vec![epoch.as_bytes(), fence.token().as_bytes()];
        arguments.extend_from_slice(rest);
        self.run(script, key, &arguments).await
    }
}

/// Milliseconds, as an argument; at least one.
fn millis(duration: Duration) -> String {
    Ttl::from(duration).as_millis().to_string()
}

fn answer(said: Vec<Value>, request: &Request<'_>) -> Result<Answer, StoreError> {
    let mut said = said.into_iter();
    let (Some(word), with) = (said.next(), said.next()) else {
        return Err(corrupt());
    };
    let word: Vec<u8> = read(word)?;
    let with = || with.ok_or_else(corrupt);
    match &*word {
        b"claimed" => {
            let fence = Fence::new(read(with()?)?, request.token);
            let passed: Vec<u8> = read(said.next().ok_or_else(corrupt)?)?;
            Ok(Answer::claimed(fence, passed.into()))
        }
        b"done" => {
            let outcome: Option<Vec<u8>> = read(with()?)?;
            Ok(Answer::Done(outcome.ok_or_else(corrupt)?.into()))
        }
        b"mismatch" => Ok(Answer::Mismatch),
        b"running" | b"unknown" => {
            let remaining = Duration::from_millis(read(with()?)?);
            Ok(Answer::in_flight(remaining, *word == *b"unknown"))
        }
        _ => Err(corrupt()),
    }
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    T::from_redis_value(value).map_err(|_| corrupt())
}

#[async_trait]
impl Store for RedisStore {
    async fn claim(&self, request: &Request<'_>) -> Result<Answer, StoreError> {
        let fingerprint: [u8; Fingerprint::LENGTH] = request.fingerprint.to_bytes();
        let lease = millis(request.lease);
        let whole = millis(request.lease.saturating_add(request.retention));
        let arguments: [&[u8]; 4] = [
            request.token.as_bytes(),
            &fingerprint,
            lease.as_bytes(),
            whole.as_bytes(),
        ];
        let said = self.run(&self.scripts.claim, request.key, &arguments);
        answer(said.await?, request)
    }

    async fn extend(
        &self,
        key: &ScopedKey,
        fence: Fence,
        lease: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let whole = millis(lease.saturating_add(retention));
        let lease = millis(lease);
        let rest = [lease.as_bytes(), whole.as_bytes()];
        self.fenced(&self.scripts.extend, key, fence, &rest).await
    }

    async fn complete(
        &self,
        key: &ScopedKey,
        fence: Fence,
        outcome: &Bytes,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let retention = millis(retention);
        let rest = [&outcome[..], retention.as_bytes()];
        self.fenced(&self.scripts.complete, key, fence, &rest).await
    }

    async fn release(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.fenced(&self.scripts.end, key, fence, &[b"1"]).await
    }

    async fn doubt(&self, key: &ScopedKey, fence: Fence) -> Result<bool, StoreError> {
        self.fenced(&self.scripts.end, key, fence, &[b"0"]).await
    }

    /// Nothing: each record has a time to live.
    async fn reap(&self, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn keeps(&self) -> Keeps {
        Keeps::Progress
    }

    async fn checkpoint(
        &self,
        key: &ScopedKey,
        fence: Fence,
        checkpoint: &Checkpoint,
    ) -> Result<bool, StoreError> {
        let before = checkpoint.before.to_string();
        let rest = [before.as_bytes(), &checkpoint.after[..]];
        self.fenced(&self.scripts.checkpoint, key, fence, &rest)
            .await
    }

    /// Nothing: it would have to look at every key that Redis has.
    async fn unfinished(&self, _: Duration, _: u32) -> Result<Vec<Unfinished>, StoreError> {
        Ok(Vec::new())
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
