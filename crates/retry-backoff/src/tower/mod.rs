//! One layer around a service: requests are sent again by the handle's policy.

#[cfg(feature = "http")]
mod body;
mod future;
mod hedge;
mod held;
#[cfg(feature = "http")]
mod http;
mod layer;
mod replay;
mod split;

#[cfg(feature = "http")]
pub use self::{
    body::ReplayBody,
    http::{HttpReplay, SavedRequest},
};
pub use self::{
    future::ResponseFuture,
    hedge::{HedgeLayer, HedgeService, Requests, Sent},
    layer::{RetryLayer, RetryService},
    replay::{Cloned, Replay},
    split::{Own, Split, Unwrapped},
};
