//! Leases: whatever is claimed is held for a time, under a fence, and the holder learns of its loss.

mod fence;
mod heartbeat;
mod machine;
mod terms;

pub use self::{
    fence::{Fence, Token},
    heartbeat::{Claim, Lease, LeaseLost},
    terms::{LeaseTerms, LeaseTermsError},
};
