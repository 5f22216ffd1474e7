//! How a request is had a second time.

use crate::Deadline;

/// Keeps of a request what sending it again needs.
pub trait Replay<Req> {
    /// What the inner service is given.
    type Request;
    /// What is kept between attempts.
    type Saved;

    /// Whether the request may be sent twice with one effect.
    fn is_idempotent(&self, request: &Req) -> bool;

    /// The first attempt's request, and what is kept of it. `None`: it cannot be had again.
    fn first(&self, request: Req) -> (Self::Request, Option<Self::Saved>);

    /// Whether [`Replay::again`] can give one now, the attempt before being over.
    fn is_there(&self, saved: &Self::Saved) -> bool;

    /// The next attempt's request.
    fn again(&self, saved: &mut Self::Saved) -> Option<Self::Request>;

    /// Until when the one who sent the request waits, where it says so. The call takes no longer,
    /// whatever the policy allows.
    fn deadline(&self, request: &Req) -> Option<Deadline> {
        let _ = request;
        None
    }

    /// Tells an attempt's request when the attempt will be dropped. Called only where something
    /// limits it; it is `deadline` that reads the clock.
    fn limit(&self, request: &mut Self::Request, deadline: impl FnOnce() -> Deadline) {
        let _ = (request, deadline);
    }
}

/// Clones the request: for requests that are cheap to clone, of whatever protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cloned {
    pub(super) idempotent: bool,
}

impl<Req: Clone> Replay<Req> for Cloned {
    type Request = Req;
    type Saved = Req;

    fn is_idempotent(&self, _: &Req) -> bool {
        self.idempotent
    }

    fn first(&self, request: Req) -> (Req, Option<Req>) {
        (request.clone(), Some(request))
    }

    fn is_there(&self, _: &Req) -> bool {
        true
    }

    fn again(&self, saved: &mut Req) -> Option<Req> {
        Some(saved.clone())
    }
}
