//! What happened between the instances of a fleet.

use std::borrow::Cow;

use buttress_store::StoreErrorKind;

/// Something that happened to a [`BudgetFleet`](crate::BudgetFleet), as this instance sees it.
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
    /// The board did not answer, or said no: each instance goes on with its part. Told with each
    /// round.
    #[non_exhaustive]
    Failed {
        /// How.
        kind: StoreErrorKind,
    },
}
