//! The atomics that the cell and the windows are made of: loom's, when loom looks at them.

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicU8, AtomicU64, Ordering, fence},
};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU8, AtomicU64, Ordering, fence},
};
