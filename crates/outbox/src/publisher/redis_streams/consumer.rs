//! The consumer: a member of a group, which acknowledges when its handler's work is committed.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use buttress_store::{Key, RedisConnection, RedisKeys};
use futures_util::{FutureExt as _, future::Shared};
use redis::{RedisError, Value};
use tokio::time::{Sleep, sleep};

use super::{
    answer,
    entry::{self, Entry},
    publisher,
};
use crate::{
    PolicyError, Topic, policy,
    publisher::{Handled, Received},
};

/// How many entries are read at once, unless told otherwise.
const BATCH: u16 = 50;
/// After how long an entry that its consumer has not acknowledged is another's.
const LAPSE: Duration = Duration::from_secs(60);
/// How long a read waits for entries: less than a connection's own deadline for answers, which is
/// half a second by default.
const BLOCK: Duration = Duration::from_millis(250);
/// The wait after `Handled::Again`, and while Redis is away.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes messages of one topic's stream as a member of a group, and acknowledges each after its
/// handler has said [`Handled::Done`]. The group is made if it is not there, from the stream's start.
///
/// A message comes again if this process or Redis ends between the handler's commit and the
/// acknowledgement, or if the handler took longer than the lapse: take it through an
/// [`Inbox`](crate::Inbox). A consumer that starts again under its name has what it left; what one
/// leaves that does not come back is taken over by another of the group.
///
/// One consumer of a group takes messages in the stream's order, so the order of a key holds; of
/// several, each takes a part, and a key's messages may be handled side by side.
///
/// | the handler says | the message |
/// | --- | --- |
/// | `Done` | is acknowledged |
/// | `Again` | comes again after a pause, before all behind it |
/// | `Never`, or it is no event | is moved to the stream `<prefix>:stream:{<topic>}:dead`, which nobody trims |
///
/// What was trimmed before it was read or handled is gone: nobody says so.
///
/// Reads wait in the server, so the connection is for this consumer alone, and finds its way back:
/// a `ConnectionManager` of its own, not a clone of one that others use.
#[derive(Clone)]
pub struct RedisStreamConsumer {
    connection: RedisConnection,
    stream: Arc<[u8]>,
    dead: Arc<[u8]>,
    group: Arc<str>,
    name: Arc<str>,
    batch: u16,
    lapse: Duration,
    pause: Duration,
}

/// Why the messages that were read are not all handled.
enum Stopped {
    /// The handler wants to see one again.
    Again,
    /// Redis.
    Away,
    /// Shutdown.
    Shutdown,
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
        let topic = Key::new(topic.as_str()).map_err(|_| wrong)?;
        for (field, text) in [("group", group), ("name", name)] {
            if !(1..=255).contains(&text.len()) {
                return Err(PolicyError::new(field, "1 to 255 bytes"));
            }
        }
        let keys: RedisKeys = publisher::keys(prefix)?;
        Ok(Self {
            connection: connection.clone(),
            stream: keys.of(&topic).into(),
            dead: keys.part(&topic, "dead").into(),
            group: group.into(),
            name: name.into(),
            batch: BATCH,
            lapse: LAPSE,
            pause: PAUSE,
        })
    }

    /// The same with so many entries read at once, 1 to 10,000; 50 by default. All of them are in
    /// memory, and handled before the others' lapse.
    ///
    /// # Errors
    ///
    /// When it is out of its range.
    pub fn with_batch(mut self, entries: u16) -> Result<Self, PolicyError> {
        if !(1..=10_000).contains(&entries) {
            return Err(PolicyError::new("batch", "1 to 10000"));
        }
        self.batch = entries;
        Ok(self)
    }

    /// The same with so long until what a consumer has read and not acknowledged is taken over by
    /// another; 1 minute by default. Longer than the handler takes for a batch.
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

    /// The same with this wait after [`Handled::Again`], and while Redis is away; 1 s by default.
    ///
    /// # Errors
    ///
    /// When it is not 1 ms to 1 h.
    pub fn with_pause(mut self, pause: Duration) -> Result<Self, PolicyError> {
        let range = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
        policy::time("pause", pause, range, "1 ms to 1 h")?;
        self.pause = pause;
        Ok(self)
    }

    /// Consumes until `shutdown` is ready; then the message that is being handled is finished. While
    /// Redis is away it asks again after each pause.
    ///
    /// Dropping the future drops the handler where it is. If its work was not committed, the message
    /// comes again and is new; if it was, it comes again and the inbox knows it.
    pub async fn run_until<S, H, Fut>(&self, shutdown: S, handle: H)
    where
        S: Future<Output = ()> + Send,
        H: Fn(Received) -> Fut + Send + Sync,
        Fut: Future<Output = Handled> + Send,
    {
        let shutdown = shutdown.shared();
        // Until when nobody looks for what others have left: none, now.
        let mut claim = None;
        // Whether there may be entries that were read under our name and not acknowledged: from
        // before we began, from a read whose answer was lost.
        let mut left = true;
        loop {
            match self.round(&shutdown, &handle, &mut claim, &mut left).await {
                Ok(()) => {}
                Err(Stopped::Shutdown) => return,
                Err(stopped) => {
                    left = true;
                    if matches!(stopped, Stopped::Away) {
                        // The group may be gone with what Redis forgot.
                        claim = None;
                    }
                    tokio::select! {
                        biased;
                        () = shutdown.clone() => return,
                        () = sleep(self.pause) => {}
                    }
                }
            }
        }
    }

    /// Reads once, what was left first, and handles what was read.
    async fn round<S, H, Fut>(
        &self,
        shutdown: &Shared<S>,
        handle: &H,
        claim: &mut Option<Pin<Box<Sleep>>>,
        left: &mut bool,
    ) -> Result<(), Stopped>
    where
        S: Future<Output = ()> + Send,
        H: Fn(Received) -> Fut + Send + Sync,
        Fut: Future<Output = Handled> + Send,
    {
        let reading = async {
            let wait = claim.as_mut();
            if wait.is_none_or(|wait| wait.as_mut().now_or_never().is_some()) {
                *left |= self.claim().await?;
                *claim = Some(Box::pin(sleep(self.lapse / 2)));
            }
            self.read(*left).await
        };
        let entries = tokio::select! {
            biased;
            () = shutdown.clone() => return Err(Stopped::Shutdown),
            entries = reading => entries.map_err(away)?,
        };
        let Some(entries) = entry::entries(entries) else {
            tracing::warn!("Redis: an answer that is no stream's");
            return Err(Stopped::Away);
        };
        let again = *left;
        *left &= !entries.is_empty();
        for entry in &entries {
            if shutdown.clone().now_or_never().is_some() {
                return Err(Stopped::Shutdown);
            }
            let handled = match entry.read(again) {
                _ if entry.is_gone() => Handled::Done,
                Some(received) => handle(received).await,
                None => Handled::Never,
            };
            if handled == Handled::Again {
                return Err(Stopped::Again);
            }
            let settled = self.settle(entry, handled).await;
            settled.map_err(away)?;
        }
        Ok(())
    }

    /// What was left under our name, or what nobody has read yet.
    async fn read(&self, left: bool) -> Result<Value, RedisError> {
        let mut connection = self.connection.clone();
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&*self.group).arg(&*self.name);
        read.arg("COUNT").arg(self.batch);
        if !left {
            read.arg("BLOCK").arg(millis(BLOCK));
        }
        read.arg("STREAMS").arg(&*self.stream);
        read.arg(if left { "0" } else { ">" });
        read.query_async(&mut connection).await
    }

    /// Makes the group if need be, and takes over what its consumers have left for too long. Whether
    /// there was anything.
    async fn claim(&self) -> Result<bool, RedisError> {
        let mut connection = self.connection.clone();
        let mut make = redis::cmd("XGROUP");
        make.arg("CREATE").arg(&*self.stream).arg(&*self.group);
        make.arg("0").arg("MKSTREAM");
        match make.query_async::<Value>(&mut connection).await {
            Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
            _ => {}
        }
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim.arg(&*self.stream).arg(&*self.group).arg(&*self.name);
        claim.arg(millis(self.lapse)).arg("0-0");
        claim.arg("COUNT").arg(self.batch).arg("JUSTID");
        let answer: Value = claim.query_async(&mut connection).await?;
        let claimed = match &answer {
            Value::Array(parts) => parts.get(1),
            _ => None,
        };
        Ok(matches!(claimed, Some(Value::Array(ids)) if !ids.is_empty()))
    }

    /// Acknowledges an entry. What will never be handled is copied first: who dies in between copies
    /// it again, and loses nothing.
    async fn settle(&self, entry: &Entry, handled: Handled) -> Result<(), RedisError> {
        let mut connection = self.connection.clone();
        if handled == Handled::Never {
            let mut copy = redis::cmd("XADD");
            copy.arg(&*self.dead).arg("*");
            entry.write(&mut copy);
            copy.query_async::<Value>(&mut connection).await?;
        }
        let mut acknowledge = redis::cmd("XACK");
        acknowledge.arg(&*self.stream).arg(&*self.group);
        acknowledge.arg(&entry.id[..]);
        acknowledge.query_async::<Value>(&mut connection).await?;
        Ok(())
    }
}

impl fmt::Debug for RedisStreamConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStreamConsumer")
            .field("group", &self.group)
            .field("name", &self.name)
            .field("batch", &self.batch)
            .field("lapse", &self.lapse)
            .finish_non_exhaustive()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it maps an error")]
fn away(error: RedisError) -> Stopped {
    let error = answer::of_error(&error);
    tracing::warn!(reason = error.reason(), "Redis: no messages for now");
    Stopped::Away
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
