//! Outbox relay and saga runner as a process of their own. The README says how to run it.

pub mod cli;
mod database;
mod fleet;
mod fulfilment;
mod probes;
mod sink;
mod worker;
