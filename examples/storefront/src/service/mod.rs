//! What the shop does, told without HTTP and without SQL.

mod catalogue;
mod ordering;
mod quoting;
mod relaying;
mod settlement;

pub(crate) use self::{
    catalogue::{Catalogue, ChangeRefused},
    ordering::Ordering,
    quoting::Quoting,
    relaying::relay,
    settlement::Settlement,
};
