//! Shared, but not the same.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 400, message = "Closed.", shared)]
    Closed,
    #[error("shut")]
    #[problem(code = "CLOSED", status = 409, message = "Shut.", shared)]
    Shut,
}

fn main() {}
