#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod error;
mod message;
pub mod publisher;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "webhook")]
pub mod webhook;

pub use self::{
    error::{MessageError, OutboxError, PolicyError, PublishError, PublishErrorKind},
    message::{Message, MessageBuilder, Topic},
    publisher::{Delivery, PublishOrder, Publisher},
};
