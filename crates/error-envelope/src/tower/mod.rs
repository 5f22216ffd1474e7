//! One layer, outermost in the stack: a request id for every request, every error in one shape,
//! no panic past it.

mod body;
mod causes;
#[cfg(feature = "debug-causes")]
mod debug;
mod exchange;
mod future;
mod layer;
mod log;
mod request_id;
mod rules;
mod verbatim;

pub use self::{
    body::ResponseBody,
    future::ResponseFuture,
    layer::{EnvelopeLayer, EnvelopeService},
    request_id::RequestId,
    verbatim::Verbatim,
};

/// An error of whatever type, as tower passes it on.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
