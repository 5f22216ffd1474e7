//! Small objects with a bug to order: each checker must find its own, or it proves nothing.
//!
//! Each has its bugs as an enum, with `None` among them: the right one, which must pass. All are
//! in memory, and yield where a store would wait for its server, so that others come between.

mod claims;
mod permits;
mod register;
mod transfer;

pub use self::{
    claims::{ClaimBug, Claims},
    permits::{Permit, PermitBug, Permits},
    register::{RegisterBug, SharedRegister},
    transfer::{Accounts, AccountsError, TransferBug},
};
