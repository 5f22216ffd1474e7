//! Redis Streams: messages of a topic's stream, as a member of a group.
//!
//! ```no_run
//! use buttress_outbox::consumer::{Handled, redis_streams::RedisStreamConsumer};
//! use buttress_store::RedisConnection;
//!
//! # async fn run(connection: RedisConnection) -> Result<(), buttress_outbox::PolicyError> {
//! RedisStreamConsumer::new(&connection, "shop", "orders", "billing", "host-1")?
//!     .run_until(std::future::pending(), |message| async move {
//!         println!("{}", message.event_type());
//!         Handled::Done
//!     })
//!     .await;
//! # Ok(()) }
//! ```
//!
//! # Order
//!
//! One consumer of a group takes messages in the stream's order, so the order of a key holds; of
//! several, each takes a part, and a key's messages may be handled side by side.

use std::{collections::VecDeque, fmt, pin::Pin, sync::Arc, time::Duration};

use buttress_store::{Key, RedisConnection, RedisKeys};
use futures_util::FutureExt as _;
use redis::{Cmd, ErrorKind, RedisError, Value};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::{
    Handled, Received, Terms,
    run::{self, Incoming, Settled, Source},
};
use crate::{
    PolicyError, PublishError, Topic, policy,
    publisher::redis_streams::{Entry, entries, keys, of_error},
};

/// After how long an entry that its consumer has not acknowledged is another's.
const LAPSE: Duration = Duration::from_secs(60);
/// How long a read waits for entries: less than a connection's own deadline for answers, which is
/// half a second by default.
const BLOCK: Duration = Duration::from_millis(250);
/// How long an answer may take, whatever the connection allows.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often at least it is looked for what others have left.
const LOOK: Duration = Duration::from_secs(1);
/// So many entries are taken over at once; Redis looks at ten times as many for them.
const TAKEN_OVER: u16 = 10;
/// As old as an entry is made that is given back: older than any lapse.
const GIVEN_BACK: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Takes messages of one topic's stream as a member of a group, [as every consumer
/// does](super#what-all-of-them-do). The group is made if it is not there, from the stream's start.
///
/// A consumer that starts again under its name has what it left. What one leaves that does not come
/// back is another's of the group after the lapse, or within a second if it was stopped. While a message is
/// handled, it and those fetched behind it are made young again each third of the lapse. A message
/// that is put aside is moved to the stream `<prefix>:stream:{<topic>}:dead`, which nobody trims.
///
/// What was trimmed before it was read or handled is gone: nobody says so.
///
/// Reads wait in the server, so the connection is for this consumer alone, and finds its way back:
/// a `ConnectionManager` of its own, not a clone of one that others use.
#[derive(Clone)]
pub struct RedisStreamConsumer {
    connection: RedisConnection,
    topic: Arc<str>,
    stream: Arc<[u8]>,
    dead: Arc<[u8]>,
    group: Arc<str>,
    name: Arc<str>,
    lapse: Duration,
    terms: Terms,
}

impl RedisStreamConsumer {
    /// A consumer of `topic`'s stream under a publisher's `prefix`. `name` is its own in the group,
    /// and the same again when it starts again: a host's name, a number of an instance.
    ///
    /// # Errors
    ///
    /// When prefix or topic cannot be one, or a name is not 1 to 255 bytes long.
    pub fn new(
        connection: &RedisConnection,
        prefix: &str,
        topic: &str,
        group: &str,
        name: &str,
    ) -> Result<Self, PolicyError> {
        let wrong = PolicyError::new("topic", "1 to 100 of A-Z a-z 0-9 . _ -");
        let topic = Topic::new(topic).map_err(|_| wrong)?;
        let key = Key::new(topic.as_str()).map_err(|_| wrong)?;
        for (field, text) in [("group", group), ("name", name)] {
            if !(1..=255).contains(&text.len()) {
                return Err(PolicyError::new(field, "1 to 255 bytes"));
            }
        }
        let keys: RedisKeys = keys(prefix)?;
        Ok(Self {
            connection: connection.clone(),
            topic: topic.as_str().into(),
            stream: keys.of(&key).into(),
            dead: keys.part(&key, "dead").into(),
            group: group.into(),
            name: name.into(),
            lapse: LAPSE,
            terms: Terms::new(),
        })
    }

    /// The same on these terms.
    #[must_use]
    pub fn with_terms(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    /// The same with so long until what a consumer has read and not acknowledged is taken over by
    /// another; 1 minute by default. Each consumer of a group judges by its own.
    ///
    /// # Errors
    ///
    /// When it is not 1 ms to 1 day.
    pub fn with_lapse(mut self, lapse: Duration) -> Result<Self, PolicyError> {
        let range = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
        policy::time("lapse", lapse, range, "1 ms to 1 day")?;
        self.lapse = lapse;
        Ok(self)
    }

    /// Hands message after message to `handle` until `shutdown` is ready, and the one in work is
    /// done. What dropping the future means is said [above](super#what-all-of-them-do).
    pub async fn run_until<H, Fut>(&self, shutdown: impl Future<Output = ()> + Send, handle: H)
    where
        H: Fn(Received) -> Fut + Send + Sync,
        Fut: Future<Output = Handled> + Send,
    {
        let read = Read {
            of: self,
            entries: VecDeque::new(),
            claim: None,
            stale: None,
            left: true,
        };
        run::run(read, &self.terms, shutdown, &handle).await;
    }

    async fn ask(&self, command: &Cmd) -> Result<Value, RedisError> {
        let mut connection = self.connection.clone();
        let answer = timeout(PATIENCE, command.query_async(&mut connection));
        let late = |_| Err((ErrorKind::Io, "no answer in time").into());
        answer.await.unwrap_or_else(late)
    }

    /// A command to this group of this stream.
    fn to_group(&self, name: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(&*self.stream).arg(&*self.group);
        command
    }

    /// What was left under our name, one entry; or what nobody has read yet.
    async fn read(&self, left: bool, most: u16) -> Result<Value, RedisError> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&*self.group).arg(&*self.name);
        if left {
            read.arg("COUNT").arg(1);
        } else {
            read.arg("COUNT").arg(most);
            read.arg("BLOCK").arg(millis(BLOCK));
        }
        read.arg("STREAMS").arg(&*self.stream);
        read.arg(if left { "0" } else { ">" });
        self.ask(&read).await
    }

    /// Makes the group if need be.
    async fn make(&self) -> Result<(), RedisError> {
        let mut make = redis::cmd("XGROUP");
        make.arg("CREATE").arg(&*self.stream).arg(&*self.group);
        make.arg("0").arg("MKSTREAM");
        match self.ask(&make).await {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes over what the group's consumers have left for too long. Whether there was anything.
    async fn claim(&self) -> Result<bool, RedisError> {
        let strange = (ErrorKind::Parse, "an answer that is none to XAUTOCLAIM");
        let begin = b"0-0".to_vec();
        let mut from = begin.clone();
        loop {
            let mut claim = self.to_group("XAUTOCLAIM");
            claim
                .arg(&*self.name)
                .arg(millis(self.lapse))
                .arg(&from[..]);
            let many = self.terms.batch.max(TAKEN_OVER);
            claim.arg("COUNT").arg(many).arg("JUSTID");
            let Value::Array(parts) = self.ask(&claim).await? else {
                return Err(strange.into());
            };
            // Where it is to be gone on from: behind what others have in work, perhaps.
            let mut parts = parts.into_iter();
            let (Some(Value::BulkString(next)), Some(Value::Array(ids))) =
                (parts.next(), parts.next())
            else {
                return Err(strange.into());
            };
            if !ids.is_empty() || next == begin {
                return Ok(!ids.is_empty());
            }
            from = next;
        }
    }

    /// How often an entry was given out, this time with it.
    async fn deliveries(&self, id: &[u8]) -> Result<u32, RedisError> {
        let mut pending = self.to_group("XPENDING");
        pending.arg(id).arg(id).arg(1);
        let answer = self.ask(&pending).await?;
        let count = match answer {
            Value::Array(mut entries) => match entries.pop() {
                Some(Value::Array(mut parts)) => parts.pop(),
                _ => None,
            },
            _ => None,
        };
        Ok(match count {
            Some(Value::Int(count)) => u32::try_from(count).unwrap_or(u32::MAX),
            _ => 1,
        })
    }

    /// Makes entries so old, without counting it as another delivery.
    async fn age<'a>(
        &self,
        ids: impl Iterator<Item = &'a [u8]> + Send,
        age: Duration,
    ) -> Result<(), RedisError> {
        let mut claim = self.to_group("XCLAIM");
        claim.arg(&*self.name).arg(0);
        let mut some = false;
        for id in ids {
            claim.arg(id);
            some = true;
        }
        if !some {
            return Ok(());
        }
        claim.arg("IDLE").arg(millis(age)).arg("JUSTID");
        self.ask(&claim).await.map(drop)
    }
}

/// What was read and not handled.
struct Read<'a> {
    of: &'a RedisStreamConsumer,
    entries: VecDeque<Entry>,
    /// Until when nobody looks for what others have left. `None`: it is not known whether there is
    /// a group.
    claim: Option<Pin<Box<Sleep>>>,
    /// From when on another may have taken what was read.
    stale: Option<Instant>,
    /// Whether there may be entries that were read under our name and not acknowledged: from before
    /// we began, from a read whose answer was lost, from others.
    left: bool,
}

impl Read<'_> {
    /// Reads entries, and whether they had been read before.
    async fn fetch(&mut self, alone: bool) -> Result<(Vec<Entry>, bool), RedisError> {
        let wait = self.claim.as_mut();
        if wait.is_none_or(|wait| wait.as_mut().now_or_never().is_some()) {
            if self.claim.take().is_none() {
                self.of.make().await?;
            }
            self.left |= self.of.claim().await?;
            self.claim = Some(Box::pin(sleep(LOOK.min(self.of.lapse / 2))));
        }
        let most = if alone { 1 } else { self.of.terms.batch };
        // Ended in the middle of it, the entries are ours and not here.
        let left = std::mem::replace(&mut self.left, true);
        let read = self.of.read(left, most).await;
        if read.is_err() {
            // The group may be gone with what Redis forgot.
            self.claim = None;
        }
        let entries = entries(read?).ok_or((ErrorKind::Parse, "an answer that is no stream's"))?;
        self.left = left && !entries.is_empty();
        self.fresh();
        Ok((entries, left))
    }

    fn fresh(&mut self) {
        self.stale = Some(sleep(self.of.lapse).deadline());
    }

    /// Whether the lapse has passed since the entries were last made young, as when this process
    /// stood still.
    fn is_stale(&self) -> bool {
        let now = sleep(Duration::ZERO).deadline();
        self.stale.is_some_and(|stale| stale <= now)
    }
}

impl Source for Read<'_> {
    type Token = Entry;

    const BROKER: &'static str = "Redis";

    async fn next(&mut self, alone: bool) -> Result<Option<Incoming<Entry>>, PublishError> {
        let mut again = false;
        if !self.entries.is_empty() && self.is_stale() {
            self.entries.clear();
            self.left = true;
        }
        if self.entries.is_empty() {
            let (entries, left) = self.fetch(alone).await.map_err(away)?;
            self.entries = entries.into();
            again = left;
        }
        let Some(entry) = self.entries.front() else {
            return Ok(None);
        };
        let attempt = match again {
            false => 1,
            true => match self.of.deliveries(&entry.id).await {
                Ok(attempt) => attempt,
                Err(error) => {
                    // It is read again.
                    self.entries.clear();
                    self.left = true;
                    return Err(away(error));
                }
            },
        };
        let Some(entry) = self.entries.pop_front() else {
            return Ok(None);
        };
        if entry.is_gone() {
            self.settle(entry, Settled::Done, alone).await?;
            return Ok(None);
        }
        Ok(Some(Incoming {
            received: entry.read(&self.of.topic, attempt),
            token: entry,
        }))
    }

    /// What is put aside is copied first: who dies in between copies it again, and loses nothing.
    async fn settle(
        &mut self,
        entry: Entry,
        settled: Settled,
        _alone: bool,
    ) -> Result<(), PublishError> {
        if settled == Settled::Aside {
            let mut copy = redis::cmd("XADD");
            copy.arg(&*self.of.dead).arg("*");
            entry.write(&mut copy);
            self.of.ask(&copy).await.map_err(away)?;
        }
        let mut acknowledge = self.of.to_group("XACK");
        acknowledge.arg(&entry.id[..]);
        self.of.ask(&acknowledge).await.map_err(away)?;
        Ok(())
    }

    async fn give_back(&mut self, entry: Option<Entry>, wait: Duration) {
        self.left = true;
        // The group may be gone with what Redis forgot.
        self.claim = None;
        let entries: Vec<Entry> = entry.into_iter().chain(self.entries.drain(..)).collect();
        if wait.is_zero() && !self.is_stale() {
            // At a stop others have them at once. Unheard, they are theirs after the lapse.
            let ids = entries.iter().map(|entry| &entry.id[..]);
            let _ = self.of.age(ids, GIVEN_BACK).await;
        }
    }

    fn keeps_every(&self) -> Option<Duration> {
        Some((self.of.lapse / 3).max(Duration::from_millis(1)))
    }

    async fn keep(&mut self, entry: &Entry) {
        if self.is_stale() {
            return;
        }
        let ids = std::iter::once(entry).chain(&self.entries);
        let ids = ids.map(|entry| &entry.id[..]);
        // Unheard, they come again, and the inbox knows them.
        if self.of.age(ids, Duration::ZERO).await.is_ok() {
            self.fresh();
        }
    }
}

impl fmt::Debug for RedisStreamConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStreamConsumer")
            .field("group", &self.group)
            .field("name", &self.name)
            .field("lapse", &self.lapse)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it maps an error")]
fn away(error: RedisError) -> PublishError {
    of_error(&error)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
