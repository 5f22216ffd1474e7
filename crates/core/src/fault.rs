//! What a failure lets the outside know.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

/// An error that knows how to leave a service: under which code and status, with which words, and
/// when the caller may come back.
///
/// Every error of the family implements it, so one renderer (`buttress-error-envelope`) serves
/// them all without knowing any. Implement it for your own errors to send them the same way.
///
/// What these methods return is public. The error's own `Display` and its sources are not: they
/// are for the log.
///
/// ```
/// use std::borrow::Cow;
/// use buttress_core::Fault;
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("no row {id} in products_v2")] // for the log
/// struct NoSuchProduct { id: u64 }
///
/// impl Fault for NoSuchProduct {
///     fn code(&self) -> &'static str { "PRODUCT_NOT_FOUND" }
///     fn status(&self) -> u16 { 404 }
///     fn public_message(&self) -> Cow<'_, str> { "There is no such product.".into() }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how it leaves the service",
    note = "implement `buttress_core::Fault`: code, status, public message, retry-after"
)]
pub trait Fault: Error {
    /// A stable name for this kind of failure, `SCREAMING_SNAKE_CASE`. Clients match on it.
    fn code(&self) -> &'static str;

    /// The HTTP status: 400 to 599. A renderer takes anything else for 500.
    fn status(&self) -> u16;

    /// One sentence for the caller. Nothing internal: no SQL, no path, no type name.
    fn public_message(&self) -> Cow<'_, str>;

    /// How long the caller should wait before he tries again; `None` when it would not help or is
    /// not known.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// A fault that several callers share is the same fault for each.
impl<F: Fault + ?Sized> Fault for Arc<F> {
    fn code(&self) -> &'static str {
        (**self).code()
    }

    fn status(&self) -> u16 {
        (**self).status()
    }

    fn public_message(&self) -> Cow<'_, str> {
        (**self).public_message()
    }

    fn retry_after(&self) -> Option<Duration> {
        (**self).retry_after()
    }
}

/// What a [`Fault`] lets the outside know, as a value: for where the fault itself cannot be kept.
///
/// A layer that answers a request itself puts it into the extensions of its response. Who renders
/// errors further out finds it there, and needs to know neither the layer nor its errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicFault {
    code: &'static str,
    status: u16,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
}

impl PublicFault {
    /// What this fault lets the outside know.
    pub fn of<F: Fault + ?Sized>(fault: &F) -> Self {
        Self {
            code: fault.code(),
            status: fault.status(),
            message: fault.public_message().into_owned().into(),
            retry_after: fault.retry_after(),
        }
    }
}

impl fmt::Display for PublicFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code, self.status)
    }
}

impl Error for PublicFault {}

impl Fault for PublicFault {
    fn code(&self) -> &'static str {
        self.code
    }

    fn status(&self) -> u16 {
        self.status
    }

    fn public_message(&self) -> Cow<'_, str> {
        (&*self.message).into()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rejection, RejectionKind};

    #[test]
    fn what_is_public_is_kept_and_nothing_else() {
        let wait = Duration::from_secs(3);
        let fault = Rejection::new(RejectionKind::RateLimited, "c4n4ry").with_retry_after(wait);
        let fault = PublicFault::of(&fault);
        assert_eq!((fault.code(), fault.status()), ("RATE_LIMITED", 429));
        assert_eq!(fault.public_message(), "Too many requests.");
        assert_eq!(Fault::retry_after(&fault), Some(wait));
        assert!(!format!("{fault} {fault:?}").contains("c4n4ry"));
        assert_eq!(PublicFault::of(&fault as &dyn Fault), fault);
    }

    #[test]
    fn is_dyn_compatible() {
        fn _takes(_: &dyn Fault) {}
    }
}
