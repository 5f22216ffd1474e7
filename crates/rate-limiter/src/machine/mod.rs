//! The rules, as exact integers: they are told the time, and neither round in the caller's favour nor
//! overflow.

mod aimd;
mod bucket;
mod carry;
mod counter;
mod gradient;
mod log;
mod penalty;
mod plan;
mod slot;
mod vegas;

pub(crate) use self::{
    aimd::{Aimd, AimdRule},
    bucket::Bucket,
    counter::Counter,
    gradient::{Gradient2, Gradient2Rule},
    log::Log,
    penalty::{Penalty, PenaltyRule},
    plan::{Cell, Look, NEVER, Plan, Rule, Ruling, TickNanos},
    slot::Slot,
    vegas::{Shrink, Vegas, VegasRule},
};
