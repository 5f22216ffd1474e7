//! At least a second.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 400, message = "Closed.", retry_after = 0)]
    Closed,
}

fn main() {}
