//! Why a definition cannot work.

use crate::PolicyError;

/// A definition that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// A name is none.
    #[error("the name of {of} must be 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.'")]
    Name {
        /// Whose.
        of: &'static str,
    },
    /// There is no step.
    #[error("a saga needs a step")]
    NoSteps,
    /// Two steps have one name; the journal tells them apart by it.
    #[error("two steps are called {name}")]
    Twice {
        /// Which.
        name: String,
    },
    /// A step is to come after one that is not there.
    #[error("no step called {name} was added before the one that is to come after it")]
    After {
        /// Which.
        name: String,
    },
    /// A step may be done beside the pivot, and nobody could say whether it is to be undone.
    #[error("step {name} may be done beside the pivot: it must come before it, or after")]
    Pivot {
        /// Which.
        name: String,
    },
    /// A child has a point of no return, behind which it cannot be undone, and may have to be.
    #[error("child {step} has a pivot: it must be this saga's pivot, or come behind it")]
    ChildPivot {
        /// Whose.
        step: String,
    },
    /// A child that is the pivot, and has one itself, cannot be given up when a time is over.
    #[error("child {step} decides for both whether there is a way back: it has no time limit")]
    ChildPivotTimed {
        /// Whose.
        step: String,
    },
    /// Sagas are nested too deep.
    #[error("with child {step} more than eight sagas are nested")]
    Depth {
        /// Whose.
        step: String,
    },
    /// What it is to return is no output of its own.
    #[error("what the saga is to return is the output of another definition")]
    Returns,
    /// It may run nowhere.
    #[error("concurrency must be from 1")]
    Concurrency,
    /// A step's policy cannot work.
    #[error("the policy of step {step} cannot work")]
    Policy {
        /// Whose.
        step: String,
        /// Why.
        source: PolicyError,
    },
}
