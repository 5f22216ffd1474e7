//! `transparent` is said or not.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(transparent = true)]
    Closed(u8),
}

fn main() {}
