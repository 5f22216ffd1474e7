//! The error chain, printed once, at the edge.

use std::{error::Error, fmt};

/// More causes than this are cut: an error that is its own source must not print for ever.
const DEEPEST: usize = 32;

/// Prints an error and all its sources in one line, `what: because: because`.
///
/// Errors of the family never repeat their source in their own `Display`; this is where the whole
/// story is told, once, for the log. Errors of other libraries do repeat it, so a source whose
/// words its parent already ends with is left out.
///
/// The line is for operators, never for callers. Line breaks and other control characters are
/// escaped, so that one error is one line of a log.
///
/// ```
/// use buttress_core::Chain;
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("the order was not stored")]
/// struct NotStored(#[source] std::io::Error);
///
/// let error = NotStored(std::io::Error::other("disk full"));
/// assert_eq!(Chain(&error).to_string(), "the order was not stored: disk full");
/// ```
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a newtype around what is printed, and no more"
)]
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        write_line(f, &told)?;
        let mut cause = self.0.source();
        for _ in 0..DEEPEST {
            let Some(error) = cause else { return Ok(()) };
            let words = error.to_string();
            if !told.ends_with(&words) {
                f.write_str(": ")?;
                write_line(f, &words)?;
                told = words;
            }
            cause = error.source();
        }
        f.write_str(if cause.is_some() { ": …" } else { "" })
    }
}

fn write_line(f: &mut fmt::Formatter<'_>, words: &str) -> fmt::Result {
    for part in words.split_inclusive(char::is_control) {
        match part.char_indices().next_back() {
            Some((at, last)) if last.is_control() => {
                write!(f, "{}{}", &part[..at], last.escape_debug())?;
            }
            _ => f.write_str(part)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Link(&'static str, Option<Box<Link>>);

    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|link| link as _)
        }
    }

    fn linked(words: &[&'static str]) -> Link {
        let (first, rest) = words.split_first().expect("at least one word");
        Link(first, (!rest.is_empty()).then(|| Box::new(linked(rest))))
    }

    #[test]
    fn a_source_that_its_parent_already_told_is_told_once() {
        let chain = linked(&["query failed: timed out", "timed out", "deadline"]);
        assert_eq!(
            Chain(&chain).to_string(),
            "query failed: timed out: deadline"
        );
    }

    #[test]
    fn one_error_is_one_line() {
        let chain = linked(&["a\r\n{\"level\":\"fake\"}", "b\u{1b}[31m"]);
        assert_eq!(
            Chain(&chain).to_string(),
            "a\\r\\n{\"level\":\"fake\"}: b\\u{1b}[31m"
        );
    }

    #[derive(Debug, thiserror::Error)]
    #[error("round {0}")]
    struct Endless(u8);

    #[derive(Debug)]
    struct Loop(Endless);

    impl fmt::Display for Loop {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }

    impl Error for Loop {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            static SELF: Loop = Loop(Endless(1));
            Some(&SELF)
        }
    }

    #[test]
    fn an_error_that_is_its_own_source_ends() {
        assert_eq!(Chain(&Loop(Endless(0))).to_string(), "round 0: round 1: …");
        assert_eq!(Chain(&Endless(2)).to_string(), "round 2");
    }
}
