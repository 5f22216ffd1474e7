//! NATS JetStream, the real server: published to, consumed from, killed.

mod consume;
mod killed;
mod publish;
pub(crate) mod stand;
mod verdicts;
