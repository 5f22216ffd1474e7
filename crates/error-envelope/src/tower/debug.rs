//! Causes shown to whoever develops: only where the crate was built so, and only when asked.

use std::sync::Arc;

use http::HeaderMap;

use super::EnvelopeLayer;

impl EnvelopeLayer {
    /// The same, with the chain of an error's source shown (see [`Problem::with_debug`]) in answer
    /// to each request of which `is_asked` says so: by a header that only developers send, say.
    ///
    /// Only with the feature `debug-causes`. `is_asked` is given the request's headers; when it panics, the
    /// answer is no.
    ///
    /// [`Problem::with_debug`]: crate::Problem::with_debug
    #[must_use]
    pub fn with_debug_when(
        mut self,
        is_asked: impl Fn(&HeaderMap) -> bool + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.rules).set_debug(Arc::new(is_asked));
        self
    }
}
