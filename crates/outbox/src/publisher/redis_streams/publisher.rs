//! The publisher: a batch is one pipeline.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use buttress_store::{Key, RedisConnection, RedisKeys};
use redis::{Cmd, Pipeline, Value, aio::ConnectionLike as _};
use tokio::time::timeout;

use super::{answer, entry};
use crate::{Delivery, PolicyError, PublishError, Publisher, policy};

/// How long a batch may take, unless told otherwise: less than a relay gives it.
const PATIENCE: Duration = Duration::from_secs(8);

/// What of a stream is kept. Redis removes entries when more are added, **whether a consumer has
/// read them or not**: keep more than the longest outage of a consumer brings.
///
/// It removes whole nodes of its own (`~`), so some more are kept than is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trim {
    /// All of it: somebody else trims, or the memory fills.
    Nothing,
    /// Where it is longer than so many entries.
    Longer(u64),
    /// What is older than that, by this host's clock and the server's.
    Older(Duration),
}

/// Adds messages to the stream of their topic, `<prefix>:stream:{<topic>}`, a batch in one pipeline.
/// Cheap to clone.
///
/// | Redis | becomes |
/// | --- | --- |
/// | answers with the entry's id | delivered |
/// | has, of the replicas that are to be waited for, too few in time | unknown: its key waits, nothing counts |
/// | answers with an error: out of memory, read-only, loading, not a stream, not permitted | down |
/// | is not reached, or is silent for too long | down: what it has taken comes twice |
///
/// No error is about one message: all of a topic are in one stream.
///
/// Attributes are fields by their CloudEvents names, the ordering key is `partitionkey`, headers have
/// `header:` before their names, and `data` is the payload.
///
/// It may share the connection with others, unless it waits for replicas: that holds up what is sent
/// behind it.
#[derive(Clone)]
pub struct RedisStreamPublisher {
    connection: RedisConnection,
    keys: RedisKeys,
    trim: Trim,
    replicas: Option<(u16, Duration)>,
    patience: Duration,
}

impl RedisStreamPublisher {
    /// A publisher whose keys begin with `prefix`, on the user's connection: one that finds its
    /// way back, as a `ConnectionManager` does.
    ///
    /// # Errors
    ///
    /// When the prefix is not 1 to 64 of `A-Z a-z 0-9 _ - . : /`, or `trim` would keep nothing.
    pub fn new(
        connection: &RedisConnection,
        prefix: &str,
        trim: Trim,
    ) -> Result<Self, PolicyError> {
        if matches!(trim, Trim::Longer(0) | Trim::Older(Duration::ZERO)) {
            return Err(PolicyError::new("trim", "more than 0"));
        }
        Ok(Self {
            connection: connection.clone(),
            keys: keys(prefix)?,
            trim,
            replicas: None,
            patience: PATIENCE,
        })
    }

    /// The same, delivered only when so many replicas have it, for which it waits so long at most
    /// (Redis' `WAIT`). Replicas have it in memory; a failover to another one loses it. Not for a
    /// cluster's connection, which would ask any node.
    ///
    /// # Errors
    ///
    /// When it is not 1 to 100 replicas, or not 1 ms to 1 min.
    pub fn with_replicas(mut self, replicas: u16, wait: Duration) -> Result<Self, PolicyError> {
        if !(1..=100).contains(&replicas) {
            return Err(PolicyError::new("replicas", "1 to 100"));
        }
        let range = Duration::from_millis(1)..=Duration::from_secs(60);
        policy::time("wait", wait, range, "1 ms to 1 min")?;
        self.replicas = Some((replicas, wait));
        Ok(self)
    }

    /// The same with so long for a batch; 8 seconds by default. Give the relay's policy a longer
    /// publish deadline.
    ///
    /// # Errors
    ///
    /// When it is not 10 ms to 1 h.
    pub fn with_patience(mut self, patience: Duration) -> Result<Self, PolicyError> {
        let range = Duration::from_millis(10)..=Duration::from_secs(60 * 60);
        policy::time("patience", patience, range, "10 ms to 1 h")?;
        self.patience = patience;
        Ok(self)
    }

    fn add(&self, delivery: &Delivery) -> Result<Cmd, PublishError> {
        let stream = stream(&self.keys, delivery.message().topic().as_str())
            .map_err(PublishError::refused_for_good)?;
        let mut add = redis::cmd("XADD");
        add.arg(stream);
        match self.trim {
            Trim::Nothing => {}
            Trim::Longer(entries) => {
                add.arg("MAXLEN").arg("~").arg(entries);
            }
            Trim::Older(age) => {
                add.arg("MINID").arg("~").arg(oldest(age));
            }
        }
        add.arg("*");
        entry::write(&mut add, delivery);
        Ok(add)
    }

    /// Sends the commands in one pipeline: one answer for each.
    async fn send(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, PublishError> {
        let sent = commands.len();
        let mut pipeline = Pipeline::with_capacity(sent + 1);
        for command in commands {
            pipeline.add_command(command);
        }
        if let Some((replicas, wait)) = self.replicas {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            pipeline.cmd("WAIT").arg(replicas).arg(millis);
        }
        let all = sent + usize::from(self.replicas.is_some());
        let mut connection = self.connection.clone();
        let answering = connection.req_packed_commands(&pipeline, 0, all);
        match timeout(self.patience, answering).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(error)) => Err(answer::of_error(&error)),
            Err(_) => Err(PublishError::down("no answer of Redis' in time")),
        }
    }

    /// Whether as many replicas have it as there should be.
    fn is_replicated(&self, answer: Option<Value>) -> bool {
        match (self.replicas, answer) {
            (None, _) => true,
            (Some((replicas, _)), Some(Value::Int(have))) => have >= i64::from(replicas),
            (Some(_), _) => false,
        }
    }
}

#[async_trait::async_trait]
impl Publisher for RedisStreamPublisher {
    async fn publish(&self, batch: &[Delivery]) -> Vec<Result<(), PublishError>> {
        let commands: Result<Vec<Cmd>, _> = batch.iter().map(|it| self.add(it)).collect();
        let answers = match commands {
            Ok(commands) => self.send(commands).await,
            Err(error) => Err(error),
        };
        let mut answers = match answers {
            Ok(answers) => answers,
            Err(error) => return batch.iter().map(|_| Err(error.clone())).collect(),
        };
        let wait = if answers.len() > batch.len() {
            answers.pop()
        } else {
            None
        };
        let replicated = self.is_replicated(wait);
        let judged = answers.into_iter().map(|answer| {
            answer::judge(answer)?;
            if replicated {
                Ok(())
            } else {
                Err(PublishError::unknown("too few replicas have it"))
            }
        });
        judged.collect()
    }
}

impl fmt::Debug for RedisStreamPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStreamPublisher")
            .field("trim", &self.trim)
            .field("replicas", &self.replicas)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

pub(crate) fn keys(prefix: &str) -> Result<RedisKeys, PolicyError> {
    let allowed = "1 to 64 of A-Z a-z 0-9 _ - . : /";
    RedisKeys::new(prefix, "stream").map_err(|_| PolicyError::new("prefix", allowed))
}

/// The stream of a topic: its name is the hash tag, so what else is kept for it is in its slot.
fn stream(keys: &RedisKeys, topic: &str) -> Result<Vec<u8>, &'static str> {
    let topic = Key::new(topic).map_err(|_| "its topic can be no key")?;
    Ok(keys.of(&topic))
}

/// The least id to be kept: ids begin with the milliseconds of the server's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the stream's ids are of the wall clock, and a little more or less is kept anyhow"
)]
fn oldest(age: Duration) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = now.unwrap_or_default().saturating_sub(age).as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX)
}
