//! ER-13: no key of AIP-193's metadata.

use buttress_error_envelope::ToProblem;

#[derive(Debug, thiserror::Error, ToProblem)]
enum OrderError {
    #[error("closed")]
    #[problem(code = "CLOSED", status = 400, message = "Closed.")]
    Closed {
        #[problem(extension = "VmType")]
        vm: u8,
    },
}

fn main() {}
