//! The rules, as exact integers: they are told the time, and neither round in the caller's favour nor
//! overflow.

mod bucket;
mod carry;
mod counter;
mod gradient;
mod log;
mod penalty;
mod plan;
mod slot;

pub(crate) use self::{
    bucket::Bucket,
    counter::Counter,
    gradient::{Gradient2, Gradient2Rule},
    log::Log,
    penalty::{Penalty, PenaltyRule},
    plan::{Cell, Look, NEVER, Plan, Rule, Ruling, TickNanos},
    slot::Slot,
};
