//! Which types of events a subscriber wants.

use crate::PolicyError;

/// Which types of events a subscriber wants. Types are compared to the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Types {
    /// `None` is all of them.
    patterns: Option<Vec<Pattern>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(Box<str>),
    /// With its full stop at the end.
    Under(Box<str>),
}

impl Types {
    /// All of them.
    #[must_use]
    pub const fn all() -> Self {
        Self { patterns: None }
    }

    /// These: each a type, as `order.placed`, or all that begins so, as `order.*`.
    ///
    /// # Errors
    ///
    /// When there are none or more than 256, one is empty, or has a `*` at another place than after
    /// a last full stop.
    pub fn of<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, PolicyError> {
        let patterns: Option<Vec<_>> = patterns
            .into_iter()
            .take(257)
            .map(|it| Pattern::read(it.as_ref()))
            .collect();
        match patterns {
            Some(patterns) if (1..=256).contains(&patterns.len()) => Ok(Self {
                patterns: Some(patterns),
            }),
            _ => Err(PolicyError::new("types", "1 to 256 of `a.b` or `a.*`")),
        }
    }

    /// Whether it wants this type.
    #[must_use]
    pub fn want(&self, event_type: &str) -> bool {
        let patterns = self.patterns.as_deref();
        patterns.is_none_or(|patterns| patterns.iter().any(|it| it.fits(event_type)))
    }
}

impl Pattern {
    fn read(text: &str) -> Option<Self> {
        if let Some(under) = text.strip_suffix('*') {
            let is_prefix = under.len() > 1 && under.ends_with('.') && !under.contains('*');
            return is_prefix.then(|| Self::Under(under.into()));
        }
        let is_type = !text.is_empty() && !text.contains('*');
        is_type.then(|| Self::Exactly(text.into()))
    }

    fn fits(&self, event_type: &str) -> bool {
        match self {
            Self::Exactly(text) => **text == *event_type,
            Self::Under(prefix) => event_type.starts_with(&**prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_gets_what_he_asked_for_and_no_more() {
        let types = Types::of(["order.placed", "invoice.*"]).unwrap();
        for (event_type, wanted) in [
            ("order.placed", true),
            ("order.placed.late", false),
            ("order.Placed", false),
            ("order", false),
            ("invoice.paid", true),
            ("invoice.paid.late", true),
            ("invoice", false),
            ("invoices.paid", false),
        ] {
            assert_eq!(types.want(event_type), wanted, "{event_type}");
            assert!(Types::all().want(event_type));
        }
    }

    #[test]
    fn patterns_that_say_something_else_do_not_build() {
        for pattern in [
            "",
            "*",
            ".*",
            "order*",
            "*.placed",
            "order.*.late",
            "order.**",
        ] {
            assert!(Types::of([pattern]).is_err(), "{pattern}");
        }
        assert!(Types::of([""; 0]).is_err());
        assert!(Types::of(std::iter::repeat("a")).is_err());
    }
}
