//! The user's connection to Redis, whatever its type.

use std::{fmt, sync::Arc};

use redis::{Cmd, Pipeline, RedisFuture, Value, aio::ConnectionLike};

/// A connection to Redis that the user made: a `ConnectionManager`, a `MultiplexedConnection`, a
/// cluster's. Its type is forgotten, so a handle needs no type parameter. Clones share it.
///
/// It is used as any connection of the redis crate's. Dropping a future on it leaves it usable:
/// such connections sort out answers by themselves; the command may have been done.
#[derive(Clone)]
pub struct RedisConnection {
    inner: Arc<dyn Erased>,
}

impl RedisConnection {
    /// Takes any connection that is shared by cloning it.
    pub fn new<C>(connection: C) -> Self
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        Self {
            inner: Arc::new(connection),
        }
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection").finish_non_exhaustive()
    }
}

trait Erased: Send + Sync {
    /// A clone: the trait's methods want `&mut`, and commands go side by side.
    fn another(&self) -> Box<dyn ConnectionLike + Send + Sync>;

    fn database(&self) -> i64;
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Erased for C {
    fn another(&self) -> Box<dyn ConnectionLike + Send + Sync> {
        Box::new(self.clone())
    }

    fn database(&self) -> i64 {
        self.get_db()
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let mut connection = self.inner.another();
        Box::pin(async move { connection.req_packed_command(command).await })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let mut connection = self.inner.another();
        Box::pin(async move {
            let answers = connection.req_packed_commands(pipeline, offset, count);
            answers.await
        })
    }

    fn get_db(&self) -> i64 {
        self.inner.database()
    }
}
