//! What happened between the instances of a fleet.

use std::{borrow::Cow, sync::Arc};

use buttress_store::StoreErrorKind;

/// Something that happened to a fleet, as this instance sees it. That a breaker opened or closed is
/// told by the breaker's own [`Event`](crate::Event), with the cause `Fleet`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetEvent {
    /// The fleet's name.
    pub fleet: Cow<'static, str>,
    /// What happened.
    pub kind: FleetEventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FleetEventKind {
    /// A round of exchanges went through.
    Exchanged,
    /// The board did not answer, or said no: each instance goes on alone. Told with each round.
    #[non_exhaustive]
    Failed {
        /// How.
        kind: StoreErrorKind,
    },
    /// A breaker here was opened because enough other instances are open.
    #[non_exhaustive]
    Opened {
        /// The breaker's name.
        name: Cow<'static, str>,
        /// Its key, when it is one of `CircuitBreakers`: data, and no metric's label.
        key: Option<Arc<str>>,
        /// How many instances had something to say.
        voters: u32,
        /// How many of them were open or saw failures.
        against: u32,
    },
    /// A breaker here that the others had opened may try again at once, for they are well.
    #[non_exhaustive]
    Hastened {
        /// The breaker's name.
        name: Cow<'static, str>,
        /// Its key, as above.
        key: Option<Arc<str>>,
    },
}
