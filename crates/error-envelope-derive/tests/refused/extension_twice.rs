//! Two extensions of one name.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 400, message = "Closed.")]
    Closed {
        #[problem(extension)]
        hours: u8,
        #[problem(extension = "hours")]
        days: u8,
    },
}

fn main() {}
