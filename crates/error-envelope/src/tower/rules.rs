//! What the layer was told: which problem stands for which status, and for which error.

use std::{collections::HashMap, error::Error, fmt, sync::Arc};

use http::StatusCode;

use super::{BoxError, causes};
use crate::Problem;

/// Knows errors of the service, or says `None`.
pub(super) type ErrorRule = Arc<dyn Fn(&(dyn Error + 'static)) -> Option<Problem> + Send + Sync>;

/// What the layer was told.
#[derive(Clone, Default)]
pub(super) struct Rules {
    statuses: HashMap<StatusCode, Problem>,
    error: Option<ErrorRule>,
    faults: Vec<causes::Known>,
}

impl Rules {
    pub(super) fn add_status(&mut self, status: StatusCode, problem: Problem) {
        self.statuses.insert(status, problem);
    }

    pub(super) fn set_error(&mut self, rule: ErrorRule) {
        self.error = Some(rule);
    }

    pub(super) fn add_fault(&mut self, known: causes::Known) {
        self.faults.push(known);
    }

    pub(super) fn for_status(&self, status: StatusCode) -> Problem {
        match self.statuses.get(&status) {
            Some(problem) => problem.clone(),
            None => Problem::from_status(status),
        }
    }

    pub(super) fn for_error(&self, error: BoxError) -> Problem {
        let error = match error.downcast::<Problem>() {
            Ok(problem) => return *problem,
            Err(error) => error,
        };
        let told = |cause: &(dyn Error + 'static)| {
            let ruled = self.error.as_ref().and_then(|rule| rule(cause));
            ruled.or_else(|| causes::problem(cause, &self.faults))
        };
        let problem = causes::of(&*error).find_map(told);
        match problem {
            Some(problem) => problem.with_source(error),
            None => Problem::internal(error),
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("statuses", &self.statuses)
            .field("error", &self.error.is_some())
            .finish()
    }
}
