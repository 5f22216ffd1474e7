//! The opaque 500 always says the same.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(internal, message = "Oops.")]
    Closed,
}

fn main() {}
