//! The private source, shown to whoever develops: only where the crate was built so.

use crate::Problem;

impl Problem {
    /// The same with its source's chain shown: as the member `debug`, and in google.rpc.Status as
    /// `DebugInfo`.
    ///
    /// What is private leaves by this. It exists only with the feature `debug-causes`, which a service in
    /// production must not be built with; cargo turns a feature on for all when one crate asks.
    #[must_use]
    pub fn with_debug(self) -> Self {
        self.with_cause_shown()
    }
}
