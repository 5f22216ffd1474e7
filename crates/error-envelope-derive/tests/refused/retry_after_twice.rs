//! Two times to come back.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 400, message = "Closed.", retry_after = 3)]
    Closed {
        #[problem(retry_after)]
        hours: u64,
    },
}

fn main() {}
