//! The errors of other services, read back: JSON envelope, RFC 9457 and google.rpc as one type.

#[cfg(feature = "client")]
mod body;
mod google;
mod problem;
mod read;
#[cfg(feature = "reqwest")]
pub mod reqwest;
mod verdict;

#[cfg(feature = "client")]
pub use self::body::check;
pub use self::{
    problem::{MAX_REMOTE_BODY, RemoteForm, RemoteProblem},
    verdict::ByRemote,
};
