//! What every store on Redis needs: the user's connection, keys of one slot, scripts that last.

mod connection;
mod keys;
mod script;
mod ttl;

pub use self::{
    connection::RedisConnection,
    keys::{RedisKeys, RedisPrefixError},
    script::Script,
    ttl::Ttl,
};
