//! One code, two meanings.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 400, message = "Closed.")]
    Closed,
    #[error("shut")]
    #[problem(code = "CLOSED", status = 400, message = "Closed.")]
    Shut,
}

fn main() {}
