//! What the derive writes warns of nothing and needs nothing in scope.

#![deny(warnings, unused_qualifications)]
#![no_implicit_prelude]

use ::std::{assert, assert_eq};

/// With names that the derived code uses itself.
#[derive(::std::fmt::Debug, ::buttress_error_envelope::ToProblem)]
pub(crate) enum Problem {
    #[problem(code = "CLOSED", status = 400, message = "{problem} {code} {a0}", retry_after = *wait)]
    Closed {
        #[problem(extension)]
        problem: u8,
        #[problem(public)]
        code: u8,
        #[problem(public)]
        a0: u8,
        wait: u64,
    },
    #[problem(internal)]
    Shut(::std::string::String),
}

#[test]
fn names_of_ours_are_free_and_no_prelude_is_needed() {
    use ::buttress_error_envelope::ToProblem;
    let closed = Problem::Closed {
        problem: 1,
        code: 2,
        a0: 3,
        wait: 4,
    };
    assert_eq!(closed.to_problem().message(), "1 2 3");
    let shut = Problem::Shut(::std::string::String::new());
    assert!(shut.to_problem().status().is_server_error());
}

mod house {
    pub(super) use ::buttress_error_envelope as errors;
}

#[derive(::std::fmt::Debug, house::errors::ToProblem)]
#[problem(crate = house::errors, code = "CLOSED", status = 400, message = "Closed.")]
struct Elsewhere;

#[test]
fn the_library_may_be_known_by_another_name() {
    assert_eq!(
        house::errors::ToProblem::to_problem(&Elsewhere).code(),
        "CLOSED"
    );
}
