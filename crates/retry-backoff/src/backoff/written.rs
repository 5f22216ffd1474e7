//! A backoff as a configuration file writes it, and the checks on the way in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Backoff, Jitter, shape::Shape};
use crate::PolicyError;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    shape: WrittenShape,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jitter: Option<Jitter>,
    #[serde(
        default,
        rename = "cap_ms",
        skip_serializing_if = "Option::is_none",
        with = "crate::policy::millis::optional"
    )]
    cap: Option<Duration>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum WrittenShape {
    Constant {
        #[serde(rename = "delay_ms", with = "crate::policy::millis")]
        delay: Duration,
    },
    Linear {
        #[serde(rename = "first_ms", with = "crate::policy::millis")]
        first: Duration,
        #[serde(rename = "step_ms", with = "crate::policy::millis")]
        step: Duration,
    },
    Exponential {
        #[serde(rename = "first_ms", with = "crate::policy::millis")]
        first: Duration,
        #[serde(default = "two")]
        factor: f64,
    },
    Fibonacci {
        #[serde(rename = "first_ms", with = "crate::policy::millis")]
        first: Duration,
    },
    /// A function cannot be written down; this says that there was one, and is refused when read.
    Custom,
}

const fn two() -> f64 {
    2.0
}

impl TryFrom<Written> for Backoff {
    type Error = PolicyError;

    fn try_from(written: Written) -> Result<Self, PolicyError> {
        let mut backoff = match written.shape {
            WrittenShape::Constant { delay } => Self::constant(delay),
            WrittenShape::Linear { first, step } => Self::linear(first, step),
            WrittenShape::Exponential { first, factor } => {
                Self::exponential(first).with_factor(factor)
            }
            WrittenShape::Fibonacci { first } => Self::fibonacci(first),
            WrittenShape::Custom => {
                return Err(PolicyError::new(
                    "backoff.shape",
                    "constant, linear, exponential or fibonacci: a function is given in code",
                ));
            }
        };
        if let Some(jitter) = written.jitter {
            backoff.jitter = jitter;
        }
        if let Some(cap) = written.cap {
            backoff.cap = cap;
        }
        backoff.check()?;
        Ok(backoff)
    }
}

impl From<Backoff> for Written {
    fn from(backoff: Backoff) -> Self {
        let shape = match backoff.shape {
            Shape::Constant { delay } => WrittenShape::Constant { delay },
            Shape::Linear { first, step } => WrittenShape::Linear { first, step },
            Shape::Exponential { first, factor } => WrittenShape::Exponential { first, factor },
            Shape::Fibonacci { first } => WrittenShape::Fibonacci { first },
            Shape::Custom(_) => WrittenShape::Custom,
        };
        Self {
            shape,
            jitter: Some(backoff.jitter),
            cap: Some(backoff.cap),
        }
    }
}
