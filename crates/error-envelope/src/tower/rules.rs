//! What the layer was told: which problem stands for which status, and for which error.

use std::{
    borrow::Cow,
    collections::HashMap,
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use http::{HeaderMap, StatusCode};

use super::{BoxError, causes};
use crate::{Format, Problem};

/// Knows errors of the service, or says `None`.
pub(super) type ErrorRule = Arc<dyn Fn(&(dyn Error + 'static)) -> Option<Problem> + Send + Sync>;

/// Whether a request with these headers asks for causes.
pub(super) type DebugRule = Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>;

/// What the layer was told.
#[derive(Clone, Default)]
pub(super) struct Rules {
    statuses: HashMap<StatusCode, Problem>,
    error: Option<ErrorRule>,
    faults: Vec<causes::Known>,
    domain: Option<Cow<'static, str>>,
    /// There only where the crate was built with the feature `debug-causes`.
    debug: Option<DebugRule>,
}

impl Rules {
    pub(super) fn add_status(&mut self, status: StatusCode, problem: Problem) {
        self.statuses.insert(status, problem);
    }

    pub(super) fn set_error(&mut self, rule: ErrorRule) {
        self.error = Some(rule);
    }

    pub(super) fn set_domain(&mut self, domain: Cow<'static, str>) {
        self.domain = Some(domain);
    }

    #[cfg(feature = "debug-causes")]
    pub(super) fn set_debug(&mut self, rule: DebugRule) {
        self.debug = Some(rule);
    }

    pub(super) fn shows_causes(&self, headers: &HeaderMap) -> bool {
        let asked = |rule: &DebugRule| catch_unwind(AssertUnwindSafe(|| rule(headers)));
        self.debug
            .as_ref()
            .is_some_and(|rule| asked(rule).unwrap_or(false))
    }

    /// The problem as it leaves: in the service's domain if it names none, where that is shown.
    pub(super) fn finish(&self, problem: Problem, format: Format, shows_causes: bool) -> Problem {
        let domain = self.domain.as_ref().filter(|_| format == Format::RpcStatus);
        let problem = match (domain, problem.domain()) {
            (Some(domain), None) => problem.with_domain(domain.clone()),
            _ => problem,
        };
        if shows_causes {
            problem.with_cause_shown()
        } else {
            problem
        }
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
            .field("domain", &self.domain)
            .field("debug", &self.debug.is_some())
            .finish()
    }
}
