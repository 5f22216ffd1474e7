//! What users of the crate see.

mod backlog;
mod base;
mod conformance;
mod crash;
mod lab;
mod planted;
mod trouble;
mod webhook;
