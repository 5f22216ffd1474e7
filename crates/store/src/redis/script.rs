//! Scripts that outlive what Redis remembers of them.

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, ToRedisArgs};

use super::RedisConnection;

/// A Lua script: atomic, sent by its hash, and as a whole where Redis has forgotten it (a restart,
/// a failover, SCRIPT FLUSH).
///
/// It is sent as a whole by EVAL, not by SCRIPT LOAD and another EVALSHA: Redis may forget it again
/// in between. Every script of ours writes last and gives each key it writes a time to live.
#[derive(Clone, Debug)]
pub struct Script {
    source: &'static str,
    hash: String,
}

impl Script {
    /// The script with this source.
    #[must_use]
    pub fn new(source: &'static str) -> Self {
        let hash = redis::Script::new(source).get_hash().to_owned();
        Self { source, hash }
    }

    /// Runs it on `keys`, which are of one slot, with `arguments`.
    ///
    /// Dropping the future may leave it run or not run. It goes through
    /// [`Deadline::run`](crate::Deadline::run), with [`Phase::Statement`](crate::Phase::Statement)
    /// if it writes.
    ///
    /// # Errors
    ///
    /// Redis' own, to be judged by its phase.
    pub async fn run<T: FromRedisValue>(
        &self,
        connection: &RedisConnection,
        keys: &[Vec<u8>],
        arguments: impl ToRedisArgs,
    ) -> Result<T, RedisError> {
        let mut connection = connection.clone();
        let known = self.command("EVALSHA", &self.hash, keys, &arguments);
        match known.query_async(&mut connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let whole = self.command("EVAL", self.source, keys, &arguments);
                whole.query_async(&mut connection).await
            }
            result => result,
        }
    }

    fn command(
        &self,
        name: &str,
        script: &str,
        keys: &[Vec<u8>],
        arguments: &impl ToRedisArgs,
    ) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
        command
    }
}
