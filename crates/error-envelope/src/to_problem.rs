//! How an error becomes what leaves the service.

use std::error::Error;

use buttress_core::{CallError, Fault};

use crate::Problem;

/// Says what a caller sees of an error.
///
/// Every [`Fault`] says so already. Implement this instead of `Fault` for an error that shows more
/// than a code and a sentence: field errors, extensions, headers.
///
/// A `Problem` is made of every such error by `?`, with the error as its private source:
///
/// ```
/// use buttress_error_envelope::{Problem, ToProblem};
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("account {account} has {balance}, needs {cost}")] // for the log
/// struct OutOfCredit { account: u64, balance: u32, cost: u32 }
///
/// impl ToProblem for OutOfCredit {
///     fn to_problem(&self) -> Problem {
///         Problem::new(403, "OUT_OF_CREDIT", "The balance does not cover the cost.")
///             .with_extension("balance", self.balance)
///     }
/// }
///
/// fn handler() -> Result<(), Problem> {
///     Err(OutOfCredit { account: 7, balance: 30, cost: 50 })?
/// }
/// assert_eq!(handler().unwrap_err().extensions()["balance"], 30);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what a caller sees of it",
    note = "implement `buttress_error_envelope::ToProblem` or `buttress_core::Fault`",
    note = "or hide it: `.map_err(Problem::internal)?` makes it the opaque 500"
)]
pub trait ToProblem {
    /// What a caller sees. All of it is public.
    fn to_problem(&self) -> Problem;
}

impl<F: Fault + ?Sized> ToProblem for F {
    fn to_problem(&self) -> Problem {
        let message = self.public_message().into_owned();
        let problem = Problem::new(self.status(), self.code(), message);
        match self.retry_after() {
            Some(wait) => problem.with_retry_after(wait),
            None => problem,
        }
    }
}

/// Keeps the error as the private source, so that the log tells the whole story and
/// [`Error::source`] gives the error back by type.
impl<T: ToProblem + Error + Send + Sync + 'static> From<T> for Problem {
    fn from(error: T) -> Self {
        error.to_problem().with_source(error)
    }
}

impl Problem {
    /// What a wrapped call failed with: the rejection, or the call's own error. For an error that
    /// is a `ToProblem` and no `Fault`; one that is a `Fault` leaves by `?`.
    pub fn from_call<E: ToProblem + Error + Send + Sync + 'static>(error: CallError<E>) -> Self {
        let problem = match &error {
            CallError::Rejected(rejection) => rejection.to_problem(),
            CallError::Failed(failed) => failed.to_problem(),
        };
        problem.with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buttress_core::{Rejection, RejectionKind};

    use super::*;

    #[test]
    fn a_fault_leaves_by_a_question_mark_and_is_kept_as_the_source() {
        fn handler() -> Result<(), Problem> {
            let open = Rejection::new(RejectionKind::CircuitOpen, "internal-name")
                .with_retry_after(Duration::from_millis(1500));
            Err(CallError::<Rejection>::from(open))?
        }
        let problem = handler().unwrap_err();
        assert_eq!(problem.to_string(), "CIRCUIT_OPEN (503)");
        assert_eq!(problem.retry_after(), Some(Duration::from_secs(2).into()));
        let source = problem.source().unwrap();
        assert!(source.downcast_ref::<CallError<Rejection>>().is_some());
    }

    #[test]
    fn a_fault_whose_status_is_no_error_leaves_as_500() {
        #[derive(Debug, thiserror::Error)]
        #[error("odd")]
        struct Odd(u16);
        impl Fault for Odd {
            fn code(&self) -> &'static str {
                "ODD"
            }
            fn status(&self) -> u16 {
                self.0
            }
            fn public_message(&self) -> std::borrow::Cow<'_, str> {
                "Odd.".into()
            }
        }
        for status in [0, 99, 200, 399, 600, 999, u16::MAX] {
            assert_eq!(Problem::from(Odd(status)).status(), 500, "{status}");
        }
        assert_eq!(Problem::from(Odd(599)).status(), 599);
    }
}
