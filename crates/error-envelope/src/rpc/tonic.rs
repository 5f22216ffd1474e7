//! A problem as what a gRPC service of tonic's returns.

use std::collections::HashMap;

use ::tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt as _};

use super::{RpcCode, RpcDetail, RpcStatus};
use crate::Problem;

/// Details travel in a header field, as base64, and message in two: together they stay below the
/// 8 KiB that gRPC's implementations take for all of them.
const MOST: usize = 4096;

/// `Err(problem)?` in a method of a tonic service. The source stays here; log it before.
impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        Self::from(&problem)
    }
}

impl From<&Problem> for Status {
    fn from(problem: &Problem) -> Self {
        Self::from(&RpcStatus::within(problem, MOST))
    }
}

impl From<&RpcStatus> for Status {
    fn from(status: &RpcStatus) -> Self {
        let mut details = ErrorDetails::new();
        for detail in status.details() {
            match detail {
                RpcDetail::ErrorInfo(info) => {
                    let metadata = info.metadata().clone();
                    let metadata: HashMap<_, _> = metadata.into_iter().collect();
                    details.set_error_info(info.reason(), info.domain(), metadata);
                }
                RpcDetail::BadRequest(bad) => {
                    let violations = bad.violations.iter();
                    let violations =
                        violations.map(|it| FieldViolation::new(&it.field, &it.description));
                    details.set_bad_request(violations.collect::<Vec<_>>());
                }
                RpcDetail::RetryInfo(retry) => {
                    details.set_retry_info(Some(retry.delay));
                }
                RpcDetail::PreconditionFailure(failure) => {
                    let violations = failure.violations.iter();
                    let violations = violations.map(|it| {
                        PreconditionViolation::new(&it.kind, &it.subject, &it.description)
                    });
                    details.set_precondition_failure(violations.collect::<Vec<_>>());
                }
                RpcDetail::DebugInfo(debug) => {
                    details.set_debug_info(Vec::<String>::new(), &debug.detail);
                }
            }
        }
        Self::with_error_details(status.code().into(), status.message(), details)
    }
}

impl From<RpcCode> for Code {
    fn from(code: RpcCode) -> Self {
        Self::from_i32(code.number())
    }
}
