//! google.rpc.Status, as AIP-193 asks for it: the gRPC code, and details by type.

mod code;
mod detail;
mod of_problem;
mod status;
#[cfg(feature = "tonic")]
mod tonic;

pub use self::{
    code::RpcCode,
    detail::{
        BadRequest, DebugInfo, ErrorInfo, FieldViolation, InvalidErrorInfo, PreconditionFailure,
        PreconditionViolation, RetryInfo,
    },
    status::{DetailTwice, RpcDetail, RpcStatus},
};
