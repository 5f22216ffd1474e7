//! The message names a field that there is not.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 404, message = "Closed for {days}.")]
    Closed { hours: u8 },
}

fn main() {}
