//! What the shop does, told without HTTP and without SQL.

mod catalogue;
mod ordering;
mod quoting;
mod rate;
mod relaying;
mod settlement;

pub(crate) use self::{
    catalogue::{Catalogue, ChangeRefused, Listing},
    ordering::Ordering,
    quoting::Quoting,
    rate::OrderRate,
    relaying::{relay, webhooks},
    settlement::Settlement,
};
