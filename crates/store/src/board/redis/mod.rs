//! A board on Redis: a hash for each page, one script an exchange, by the server's clock.

use std::{fmt, slice, sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::FromRedisValue;

use super::{Board, Member, Notice, Page, Post};
use crate::{
    Deadline, Key, Micros, Phase, RedisConnection, RedisKeys, RedisPrefixError, Script, StoreError,
    Ttl,
};

const EXCHANGE: &str = include_str!("exchange.lua");

/// A [`Board`] on Redis, single or cluster.
///
/// A page is the hash `<prefix>:board:{<page>}`, in one slot, which lives as long as the notice on
/// it that lives longest. Dead members' notices go with the next exchange of a living one.
#[derive(Clone)]
pub struct RedisBoard {
    connection: RedisConnection,
    keys: RedisKeys,
    script: Arc<Script>,
}

impl RedisBoard {
    /// A board on this connection, with keys that begin with `buttress`.
    #[must_use]
    pub fn new(connection: RedisConnection) -> Self {
        let keys = RedisKeys::new("buttress", "board");
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
        Ok(Self::of(connection, RedisKeys::new(prefix, "board")?))
    }

    fn of(connection: RedisConnection, keys: RedisKeys) -> Self {
        Self {
            connection,
            keys,
            script: Arc::new(Script::new(EXCHANGE)),
        }
    }
}

/// Who, how many microseconds ago, and what.
type Row = (String, i64, Vec<u8>);

#[async_trait]
impl Board for RedisBoard {
    async fn exchange(
        &self,
        page: &Key,
        post: Option<&Post>,
        deadline: Deadline,
    ) -> Result<Page, StoreError> {
        let key = self.keys.of(page);
        let arguments = post.map(arguments).unwrap_or_default();
        let phase = match post {
            Some(_) => Phase::Statement,
            None => Phase::Read,
        };
        let run = self
            .script
            .run::<Answer>(&self.connection, slice::from_ref(&key), arguments);
        let Answer(now, taken, rows) = deadline.run(phase, run).await?;
        let mut notices: Vec<_> = rows.into_iter().filter_map(notice).collect();
        // The script does not send back what it was just given.
        if let Some(post) = post.filter(|_| taken == 1) {
            notices.retain(|it| it.member != post.member);
            if !post.life.is_zero() {
                notices.push(Notice::new(post.member, Duration::ZERO, post.body.clone()));
            }
        }
        Ok(Page::new(Micros::new(now), taken == 1, notices))
    }
}

struct Answer(i64, i64, Vec<Row>);

impl FromRedisValue for Answer {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        let (now, taken, rows) = FromRedisValue::from_redis_value(value)?;
        Ok(Self(now, taken, rows))
    }
}

fn arguments(post: &Post) -> Vec<Vec<u8>> {
    let life = match post.life {
        Duration::ZERO => 0,
        life => Ttl::from(life).as_millis(),
    };
    vec![
        name(post.member).into_bytes(),
        post.number.to_string().into_bytes(),
        post.not_after.get().to_string().into_bytes(),
        life.to_string().into_bytes(),
        post.body.clone(),
        Post::MOST.to_string().into_bytes(),
    ]
}

/// What a member is called on a page.
fn name(member: Member) -> String {
    format!("{:032x}", member.get())
}

/// `None` for what no member of ours has written. A number can be written in many ways, and a
/// member would have a voice for each.
fn notice((called, age, body): Row) -> Option<Notice> {
    let member = Member::new(u128::from_str_radix(&called, 16).ok()?);
    if called != name(member) {
        return None;
    }
    let age = Duration::from_micros(u64::try_from(age).ok()?);
    Some(Notice::new(member, age, body))
}

impl fmt::Debug for RedisBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBoard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_read_by_the_one_name_that_it_writes() {
        let read = |called: &str| notice((called.to_owned(), 7, b"one".to_vec()));
        let member = Member::new(0xa);
        let own = name(member);
        assert_eq!(
            read(&own),
            Some(Notice::new(
                member,
                Duration::from_micros(7),
                b"one".to_vec()
            ))
        );
        let upper = own.to_uppercase();
        let longer = format!("0{own}");
        for other in ["a", "+a", "0a", "", "no number", &upper, &longer] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }
}
