//! `Debug` shows how a field is built.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 404, message = "Closed for {0:?}.")]
    Closed(#[problem(public)] u8),
}

fn main() {}
