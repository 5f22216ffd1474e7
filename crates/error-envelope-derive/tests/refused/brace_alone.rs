//! A brace that opens nothing.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 404, message = "Closed }.")]
    Closed,
}

fn main() {}
