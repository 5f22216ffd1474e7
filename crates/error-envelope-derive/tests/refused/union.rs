//! A union says nothing.

use buttress_error_envelope::ToProblem;

#[derive(ToProblem)]
union OrderError {
    one: u8,
    other: i8,
}

fn main() {}
