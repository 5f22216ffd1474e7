//! Redis: one atomic step a key, by the server's clock.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use buttress_store::{
    Deadline, Key, Phase, RedisConnection, RedisKeys, RedisPrefixError, Script, StoreError, Ttl,
};
use futures_util::future::{try_join, try_join_all};
use redis::RedisError;

use super::{
    CacheStore, FillToken, Held, Leased, LoadClaim, Looked, Marked, Marks, Missed, Reading, Record,
    Stamp, Watch,
};

/// An entry and how long it lives, in front of it.
const HEAD: usize = 16;
/// For how long a token stands after it was last given out: a loader that takes longer stores nothing.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// No entry lives longer, unless another bound is chosen.
const LONGEST_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// A second level on Redis, single or cluster.
///
/// An entry is `<prefix>:cache_aside:{<key>}`, its token the same with `:token` behind it, its lease with `:lease`, in one
/// slot. The marks
/// of a cache are one sorted set, `<prefix>:cache_aside-marks:{<cache>}`: it is evicted, flushed or lost as a whole
/// or not at all, and what was made before its loss is believed by nobody. Every key has a time to live. Scripts
/// that Redis has forgotten are sent again. No command looks through keys.
///
/// Give Redis a bound and `maxmemory-policy allkeys-lru` (or `-lfu`): this is a cache. While it is full under
/// `noeviction`, nothing new is stored, removals work, and a mark that does not fit removes all marks instead.
///
/// A failover that loses the last writes can bring an entry back that was invalidated just before: it lives as long
/// as it would have.
#[derive(Clone)]
pub struct RedisStore {
    connection: RedisConnection,
    keys: RedisKeys,
    spaces: RedisKeys,
    longest: Duration,
    scripts: Arc<Scripts>,
}

struct Scripts {
    claim: Script,
    fill: Script,
    expire: Script,
    marks: Script,
    lease: Script,
    let_go: Script,
}

impl RedisStore {
    /// A store on this connection, with keys that begin with `buttress`.
    #[must_use]
    pub fn new(connection: RedisConnection) -> Self {
        match Self::with_prefix(connection, "buttress") {
            Ok(store) => store,
            Err(_) => unreachable!("`buttress` is a valid prefix"),
        }
    }

    /// The same with another prefix. A new prefix is a new, empty store.
    ///
    /// # Errors
    ///
    /// [`RedisPrefixError`], when it cannot begin a key.
    pub fn with_prefix(
        connection: RedisConnection,
        prefix: &str,
    ) -> Result<Self, RedisPrefixError> {
        Ok(Self {
            connection,
            keys: RedisKeys::new(prefix, "cache_aside")?,
            spaces: RedisKeys::new(prefix, "cache_aside-marks")?,
            longest: LONGEST_LIFE,
            scripts: Arc::new(Scripts {
                claim: Script::new(include_str!("claim.lua")),
                fill: Script::new(include_str!("fill.lua")),
                expire: Script::new(include_str!("expire.lua")),
                marks: Script::new(include_str!("marks.lua")),
                lease: Script::new(include_str!("lease.lua")),
                let_go: Script::new(include_str!("let_go.lua")),
            }),
        })
    }

    /// The same with another bound on the life of entries: seven days unless chosen. What is to live longer lives as
    /// long as this. Marks are kept for twice the time, so it is the same in all instances.
    ///
    /// # Errors
    ///
    /// [`RedisStoreError`], when it is not between a second and a year.
    pub fn with_longest_life(mut self, longest: Duration) -> Result<Self, RedisStoreError> {
        let allowed = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);
        if !allowed.contains(&longest) {
            return Err(RedisStoreError { longest });
        }
        self.longest = longest;
        Ok(self)
    }

    fn slot(&self, key: &Key) -> [Vec<u8>; 2] {
        [self.keys.of(key), self.keys.part(key, "token")]
    }

    /// A record as it is kept, and for how long.
    fn written(&self, record: Record<'_>) -> (Vec<u8>, Ttl) {
        let life = Ttl::from(record.life.min(self.longest));
        let fresh = Ttl::from(record.fresh).as_millis().min(life.as_millis());
        let mut written = Vec::with_capacity(HEAD + record.bytes.len());
        written.extend_from_slice(&life.as_millis().to_be_bytes());
        written.extend_from_slice(&fresh.to_be_bytes());
        written.extend_from_slice(record.bytes);
        (written, life)
    }

    /// The hot path: a hit is one trip, and no script.
    async fn look(&self, key: &Key) -> Result<Looked, RedisError> {
        let mut connection = self.connection.clone();
        let whole = self.keys.of(key);
        // The life first: should somebody replace the entry in between, it is taken for older than it is.
        let mut both = redis::pipe();
        both.cmd("PTTL").arg(&whole).cmd("GET").arg(&whole);
        let (left, entry): (i64, Option<Vec<u8>>) = both.query_async(&mut connection).await?;
        match entry.and_then(|entry| held(left, entry)) {
            Some(held) => Ok(Looked::Held(held)),
            None => self.take(key, "r").await,
        }
    }

    /// The entry, or a token for it, in one step.
    async fn take(&self, key: &Key, what: &'static str) -> Result<Looked, RedisError> {
        let new = FillToken::random();
        let slot = self.slot(key);
        let run = self.scripts.claim.run::<(i64, Vec<u8>, Option<i64>)>(
            &self.connection,
            &slot,
            (what, &new.as_bytes()[..], Ttl::from(TOKEN_LIFE)),
        );
        let (left, bytes, since) = run.await?;
        if let Some(since) = since {
            let token = bytes.try_into().map_or(new, FillToken::of_bytes);
            let since = u64::try_from(since).ok().map(Duration::from_millis);
            return Ok(Looked::Missed(Missed { token, since }));
        }
        match held(left, bytes) {
            Some(held) => Ok(Looked::Held(held)),
            // It is not ours, or older than we are: nothing that can be used, and so it is replaced.
            None => Box::pin(self.take(key, "c")).await,
        }
    }

    async fn claimed(&self, key: &Key) -> Result<Missed, RedisError> {
        match self.take(key, "c").await? {
            Looked::Missed(missed) => Ok(missed),
            Looked::Held(_) => Err(strange()),
        }
    }

    /// The marks, without a script where there are any.
    async fn seen(&self, watch: Watch<'_>) -> Result<Marks, RedisError> {
        let mut connection = self.connection.clone();
        let mut read = redis::cmd("ZMSCORE");
        read.arg(self.spaces.of(watch.space))
            .arg(&["e", "s", "f"][..]);
        for tag in watch.tags {
            read.arg([b"t", tag.as_bytes()].concat());
        }
        let scores: Vec<Option<f64>> = read.query_async(&mut connection).await?;
        let whole = scores.iter().take(3).all(Option::is_some) && scores.len() > 2;
        if !whole {
            return self.run_marks(watch.space, "read", watch.tags).await;
        }
        let number = |score: &Option<f64>| score.map_or(0, whole_number);
        Ok(Marks {
            now: Stamp {
                epoch: number(&scores[0]),
                sequence: number(&scores[1]),
            },
            floor: number(&scores[2]),
            tags: scores[3..].iter().map(number).collect(),
        })
    }

    async fn run_marks(&self, space: &Key, what: &str, tags: &[Key]) -> Result<Marks, RedisError> {
        let longest = Ttl::from(self.longest).as_millis().to_string();
        let epoch = (rand::random::<u64>() >> 11).to_string();
        let mut arguments: Vec<&[u8]> = vec![longest.as_bytes(), epoch.as_bytes(), what.as_bytes()];
        arguments.extend(tags.iter().map(Key::as_bytes));
        let set = [self.spaces.of(space)];
        let run = self
            .scripts
            .marks
            .run::<Vec<u64>>(&self.connection, &set, arguments);
        let numbers = run.await?;
        let [epoch, sequence, floor, tags @ ..] = &numbers[..] else {
            return Err(strange());
        };
        Ok(Marks {
            now: Stamp {
                epoch: *epoch,
                sequence: *sequence,
            },
            floor: *floor,
            tags: tags.to_vec(),
        })
    }
}

#[async_trait]
impl CacheStore for RedisStore {
    async fn read(
        &self,
        keys: &[Key],
        watch: Option<Watch<'_>>,
        deadline: Deadline,
    ) -> Result<Reading, StoreError> {
        let looked = async {
            match keys {
                [key] => Ok(vec![self.look(key).await?]),
                keys => try_join_all(keys.iter().map(|key| self.take(key, "r"))).await,
            }
        };
        let marks = async {
            match watch {
                Some(watch) => self.seen(watch).await.map(Some),
                None => Ok(None),
            }
        };
        // Sent together: the connection writes what it is given at once.
        let both = try_join(looked, marks);
        let (keys, marks) = deadline.run(Phase::Read, both).await?;
        Ok(Reading { keys, marks })
    }

    async fn claim(&self, keys: &[Key], deadline: Deadline) -> Result<Vec<Missed>, StoreError> {
        let claims = try_join_all(keys.iter().map(|key| self.claimed(key)));
        deadline.run(Phase::Read, claims).await
    }

    async fn marks(&self, watch: Watch<'_>, deadline: Deadline) -> Result<Marks, StoreError> {
        // By the script, which lets them live on: this is asked before something is made.
        let read = self.run_marks(watch.space, "read", watch.tags);
        deadline.run(Phase::Read, read).await
    }

    async fn fill(
        &self,
        key: &Key,
        token: &FillToken,
        record: Record<'_>,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        let (written, life) = self.written(record);
        let slot = self.slot(key);
        let arguments = (&token.as_bytes()[..], written, life);
        let run = self
            .scripts
            .fill
            .run::<bool>(&self.connection, &slot, arguments);
        deadline.run(Phase::Statement, run).await
    }

    async fn take_over(&self, key: &Key, deadline: Deadline) -> Result<FillToken, StoreError> {
        let looked = deadline.run(Phase::Statement, self.take(key, "w")).await?;
        match looked {
            Looked::Missed(missed) => Ok(missed.token),
            Looked::Held(_) => Err(StoreError::of_redis(strange(), Phase::Statement)),
        }
    }

    async fn invalidate(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        let removals = keys.iter().map(async |key| {
            let mut connection = self.connection.clone();
            let mut delete = redis::cmd("DEL");
            delete.arg(&self.slot(key)[..]);
            delete.query_async::<()>(&mut connection).await
        });
        let all = deadline.run(Phase::Statement, try_join_all(removals));
        all.await.map(drop)
    }

    async fn expire(&self, keys: &[Key], deadline: Deadline) -> Result<(), StoreError> {
        let expiries = keys.iter().map(async |key| {
            let slot = self.slot(key);
            let run = self
                .scripts
                .expire
                .run::<()>(&self.connection, &slot, &[0_u8; 0][..]);
            run.await
        });
        let all = deadline.run(Phase::Statement, try_join_all(expiries));
        all.await.map(drop)
    }

    async fn mark(
        &self,
        space: &Key,
        what: Marked<'_>,
        deadline: Deadline,
    ) -> Result<Stamp, StoreError> {
        let (what, tags) = match what {
            Marked::All => ("all", &[][..]),
            Marked::Tags(tags) => ("tags", tags),
        };
        let run = self.run_marks(space, what, tags);
        match deadline.run(Phase::Statement, run).await {
            // Full: but there is always room for less. Without marks a new epoch begins.
            Err(error) if error.code() == Some("OOM") => {
                let mut connection = self.connection.clone();
                let mut delete = redis::cmd("DEL");
                delete.arg(self.spaces.of(space));
                let removed = delete.query_async::<()>(&mut connection);
                deadline.run(Phase::Statement, removed).await?;
                Ok(Stamp {
                    epoch: 0,
                    sequence: 0,
                })
            }
            marks => Ok(marks?.now),
        }
    }

    async fn lease(
        &self,
        key: &Key,
        claim: &LoadClaim,
        term: Duration,
        deadline: Deadline,
    ) -> Result<Leased, StoreError> {
        let slot = [self.keys.part(key, "token"), self.keys.part(key, "lease")];
        let arguments = (
            &claim.token().as_bytes()[..],
            &claim.holder()[..],
            Ttl::from(term),
            Ttl::from(TOKEN_LIFE),
        );
        let run = self
            .scripts
            .lease
            .run::<i64>(&self.connection, &slot, arguments);
        Ok(match deadline.run(Phase::Statement, run).await? {
            -1 => Leased::Ours,
            -3 => Leased::Open,
            left => match u64::try_from(left) {
                Ok(left) => Leased::Taken {
                    left: Duration::from_millis(left.max(1)),
                },
                Err(_) => Leased::Ended,
            },
        })
    }

    async fn let_go(
        &self,
        key: &Key,
        claim: &LoadClaim,
        open: Option<Duration>,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let lease = [self.keys.part(key, "lease")];
        let open = open.map_or(0, |open| Ttl::from(open).as_millis());
        let arguments = (
            &claim.token().as_bytes()[..],
            &claim.holder()[..],
            open.to_string(),
        );
        let run = self
            .scripts
            .let_go
            .run::<()>(&self.connection, &lease, arguments);
        deadline.run(Phase::Statement, run).await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// A bound on the life of entries that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("longest life: {longest:?} is not between 1 s and 365 d")]
#[non_exhaustive]
pub struct RedisStoreError {
    /// What was given.
    pub longest: Duration,
}

/// What is left of an entry that has `left` milliseconds to live; `None` for what is none.
fn held(left: i64, mut entry: Vec<u8>) -> Option<Held> {
    let left = u64::try_from(left).ok()?;
    let (head, _) = entry.split_first_chunk::<HEAD>()?;
    let [life, fresh] = [0, 8].map(|at| {
        let mut number = [0; 8];
        number.copy_from_slice(&head[at..at + 8]);
        u64::from_be_bytes(number)
    });
    if fresh > life {
        return None;
    }
    let left = left.min(life);
    let age = life - left;
    entry.drain(..HEAD);
    Some(Held {
        bytes: entry,
        fresh: Duration::from_millis(fresh.saturating_sub(age)),
        life: Duration::from_millis(left),
        age: Duration::from_millis(age),
    })
}

/// Scores are whole numbers below 2^53.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a score is one of ours, and whole; another is cut, and believed by nobody"
)]
const fn whole_number(score: f64) -> u64 {
    score as u64
}

fn strange() -> RedisError {
    let what = "the script did not answer as it does";
    RedisError::from((redis::ErrorKind::UnexpectedReturnType, what))
}
