//! What can go wrong, and what the caller should do.

mod message;
mod outbox;
mod policy;
mod publish;

pub use self::{
    message::MessageError,
    outbox::OutboxError,
    policy::PolicyError,
    publish::{PublishError, PublishErrorKind},
};
