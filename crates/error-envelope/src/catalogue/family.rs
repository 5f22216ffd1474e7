//! The codes of the family's own errors, and of several at once.

use std::sync::Arc;

use buttress_core::{CallError, Rejection};

use super::{CodeEntry, Codes, ProblemCodes};
use crate::FieldErrors;

impl ProblemCodes for Rejection {
    const OWN: &'static [CodeEntry] = &[
        CodeEntry::new("CIRCUIT_OPEN", 503)
            .with_message("A service behind this one is failing; calls to it are paused.")
            .with_retry_after(5)
            .shared(),
        CodeEntry::of_status(429).with_retry_after(1),
        CodeEntry::new("CONCURRENCY_LIMITED", 503)
            .with_message("Too many requests are being served at once.")
            .shared(),
        CodeEntry::new("DEADLINE_EXCEEDED", 504)
            .with_message("The time for this request was over before it was served.")
            .shared(),
        CodeEntry::of_status(503).with_retry_after(1),
    ];
}

impl<E: ProblemCodes> ProblemCodes for CallError<E> {
    const OWN: &'static [CodeEntry] = &[];
    const INNER: &'static [Codes] = &[Rejection::CODES, E::CODES];
}

impl<E: ProblemCodes + ?Sized> ProblemCodes for Arc<E> {
    const OWN: &'static [CodeEntry] = &[];
    const INNER: &'static [Codes] = &[E::CODES];
}

impl ProblemCodes for FieldErrors {
    const OWN: &'static [CodeEntry] = &[CodeEntry::of_status(422)];
}

macro_rules! several {
    ($($name:ident)+) => {
        impl<$($name: ProblemCodes),+> ProblemCodes for ($($name,)+) {
            const OWN: &'static [CodeEntry] = &[];
            const INNER: &'static [Codes] = &[$($name::CODES),+];
        }
    };
}

several!(A);
several!(A B);
several!(A B C);
several!(A B C D);
several!(A B C D E);
several!(A B C D E F);
several!(A B C D E F G);
several!(A B C D E F G H);

#[cfg(test)]
mod tests {
    use buttress_core::{Fault, RejectionKind};

    use super::*;

    #[test]
    fn the_codes_of_a_rejection_are_those_that_it_leaves_with() {
        use RejectionKind::{
            CircuitOpen, ConcurrencyLimited, DeadlineExceeded, RateLimited, Unavailable,
        };
        let kinds = [
            CircuitOpen,
            RateLimited,
            ConcurrencyLimited,
            DeadlineExceeded,
            Unavailable,
        ];
        assert_eq!(kinds.len(), Rejection::OWN.len());
        for (kind, entry) in kinds.into_iter().zip(Rejection::OWN) {
            let fault = Rejection::new(kind, "name");
            assert_eq!(entry.code(), fault.code());
            assert_eq!(entry.status(), fault.status());
            assert_eq!(entry.message(), fault.public_message());
        }
    }
}
