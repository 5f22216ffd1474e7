//! The phases that work under a key has passed, as they are stored, and their order.

use std::fmt;

use bytes::Bytes;

/// The longest name of a phase.
const LONGEST_NAME: usize = 64;

/// A phase is passed: what is to be stored, and on what it stands.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// How many bytes were stored before. Anything else there says that the guard is wrong.
    pub before: usize,
    /// All that is to be stored. It begins with what was stored before.
    pub after: Bytes,
}

impl Checkpoint {
    /// From `before` bytes to these.
    #[must_use]
    pub const fn new(before: usize, after: Bytes) -> Self {
        Self { before, after }
    }
}

/// The lengths alone: the outputs are the user's data.
impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("before", &self.before)
            .field("after", &self.after.len())
            .finish()
    }
}

/// The program has other phases than the one that began this work. Nothing was done. Run the one
/// that began it, or the one that has its phases and then its own: new phases go to the end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("phase {number} of this work was {recorded:?}, and this program has {found:?} there")]
#[non_exhaustive]
pub struct PhaseChanged {
    /// Which phase it is, from one.
    pub number: usize,
    /// What it was called by the program that passed it; `None` when nothing was passed there.
    pub recorded: Option<String>,
    /// What this program calls it; `None` when it has none there.
    pub found: Option<String>,
}

/// Stored phases that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// What was passed, and how far this run has come in it. One line a phase: its name, a space, its
/// output without line ends (JSON, say). People who look into the table can read it.
#[derive(Clone)]
pub(crate) struct Progress {
    lines: Bytes,
    /// Up to where this run has been told what was passed.
    at: usize,
    number: usize,
    /// Where the last phase begins, while this run has passed it and not gone on. Its transaction
    /// may have been rolled back, and then it is passed again.
    last: Option<usize>,
}

#[cfg_attr(
    not(feature = "phases"),
    expect(dead_code, reason = "only phases move it")
)]
impl Progress {
    pub(crate) const fn new(lines: Bytes) -> Self {
        Self {
            lines,
            at: 0,
            number: 0,
            last: None,
        }
    }

    /// Whether a phase of this name was passed, and what came of it. `None`: it is to be done now.
    pub(crate) fn passed(&mut self, name: &str) -> Result<Option<Bytes>, Wrong> {
        if let Some(begin) = self.last {
            let (last, _) = self.line(begin)?.ok_or(Unreadable)?;
            if last == name {
                return Ok(None);
            }
            self.last = None;
        }
        let Some((recorded, output)) = self.line(self.at)? else {
            return Ok(None);
        };
        if recorded != name {
            return Err(self.changed(Some(recorded.to_owned()), Some(name)).into());
        }
        let begin = self.at + name.len() + 1;
        let end = begin + output.len();
        self.at = end + 1;
        self.number += 1;
        Ok(Some(self.lines.slice(begin..end)))
    }

    /// What is to be stored when this phase is passed, which comes after all that were.
    pub(crate) fn next(&self, name: &str, output: &[u8]) -> Result<Checkpoint, Wrong> {
        let mut stands_on = self.lines.len();
        if let Some(begin) = self.last {
            let (last, _) = self.line(begin)?.ok_or(Unreadable)?;
            if last == name {
                stands_on = begin;
            }
        } else if let Some((recorded, _)) = self.line(self.at)? {
            if recorded == name {
                return Err(Wrong::Passed);
            }
            let recorded = Some(recorded.to_owned());
            return Err(self.changed(recorded, Some(name)).into());
        }
        let after = [
            &self.lines[..stands_on],
            name.as_bytes(),
            b" ",
            output,
            b"\n",
        ]
        .concat();
        Ok(Checkpoint::new(stands_on, after.into()))
    }

    /// Whether the last phase that this run passed stands, for another was asked for since.
    pub(crate) const fn has_gone_on(&self) -> bool {
        self.last.is_none()
    }

    /// Whether it comes after all that were, and not in the place of the last.
    pub(crate) const fn stands_on_last(&self, checkpoint: &Checkpoint) -> bool {
        checkpoint.before == self.lines.len()
    }

    /// It is stored, unless the transaction in which it is gets rolled back.
    pub(crate) fn stored(&mut self, checkpoint: Checkpoint) {
        let again = self.last == Some(checkpoint.before);
        self.last = Some(checkpoint.before);
        self.at = checkpoint.after.len();
        self.lines = checkpoint.after;
        self.number += usize::from(!again);
    }

    /// At the end of the work: all that was passed must have been passed by this program too.
    pub(crate) fn finish(&self) -> Result<(), PhaseChanged> {
        if self.at >= self.lines.len() {
            return Ok(());
        }
        let recorded = self.line(self.at).ok().flatten();
        Err(self.changed(recorded.map(|(name, _)| name.to_owned()), None))
    }

    fn line(&self, begin: usize) -> Result<Option<(&str, &[u8])>, Unreadable> {
        let rest = self.lines.get(begin..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if line.len() == rest.len() {
            return Err(Unreadable);
        }
        let space = line.iter().position(|byte| *byte == b' ');
        let (name, output) = line.split_at(space.ok_or(Unreadable)?);
        let name = std::str::from_utf8(name).map_err(|_| Unreadable)?;
        Ok(Some((name, &output[1..])))
    }

    fn changed(&self, recorded: Option<String>, found: Option<&str>) -> PhaseChanged {
        PhaseChanged {
            number: self.number + 1,
            recorded,
            found: found.map(str::to_owned),
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// What is wrong with what is stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Changed(PhaseChanged),
    /// It was passed by whoever had the key before, and would be done again.
    Passed,
    Unreadable,
}

impl From<PhaseChanged> for Wrong {
    fn from(changed: PhaseChanged) -> Self {
        Self::Changed(changed)
    }
}

impl From<Unreadable> for Wrong {
    fn from(Unreadable: Unreadable) -> Self {
        Self::Unreadable
    }
}

/// Whether a phase may be called so: 1 to 64 visible ASCII characters, no space.
#[cfg_attr(
    not(feature = "phases"),
    expect(dead_code, reason = "only phases have names")
)]
pub(crate) fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pass(progress: &mut Progress, name: &str, output: &str) {
        assert_eq!(progress.passed(name), Ok(None), "{name}");
        let next = progress.next(name, output.as_bytes()).unwrap();
        progress.stored(next);
    }

    fn changed(number: usize, recorded: Option<&str>, found: Option<&str>) -> PhaseChanged {
        PhaseChanged {
            number,
            recorded: recorded.map(str::to_owned),
            found: found.map(str::to_owned),
        }
    }

    #[test]
    fn a_program_with_other_phases_is_told_so() {
        let mut first = Progress::new(Bytes::new());
        pass(&mut first, "ride", "7");
        pass(&mut first, "charge", "{}");
        let again = || Progress::new(first.lines.clone());

        let mut renamed = again();
        let wrong = Wrong::from(changed(1, Some("ride"), Some("trip")));
        assert_eq!(renamed.passed("trip"), Err(wrong));

        let turned = again();
        let wrong = Wrong::from(changed(1, Some("ride"), Some("charge")));
        assert_eq!(turned.next("charge", b"1"), Err(wrong));

        assert_eq!(again().next("ride", b"1"), Err(Wrong::Passed));

        let mut shorter = again();
        assert_eq!(shorter.passed("ride"), Ok(Some("7".into())));
        assert_eq!(shorter.finish(), Err(changed(2, Some("charge"), None)));

        let mut longer = again();
        assert_eq!(longer.passed("ride"), Ok(Some("7".into())));
        assert_eq!(longer.passed("charge"), Ok(Some("{}".into())));
        assert_eq!(longer.finish(), Ok(()));
        pass(&mut longer, "receipt", "null");
        assert_eq!(longer.finish(), Ok(()));
    }

    #[test]
    fn a_phase_whose_transaction_was_rolled_back_stands_where_it_stood() {
        let mut progress = Progress::new(Bytes::new());
        pass(&mut progress, "ride", "7");
        pass(&mut progress, "charge", "1");
        let again = progress.next("charge", b"2").unwrap();
        assert_eq!(
            (again.before, &*again.after),
            (7, &b"ride 7\ncharge 2\n"[..])
        );
        progress.stored(again);
        assert_eq!(progress.number, 2);
        pass(&mut progress, "receipt", "3");
        assert_eq!(&*progress.lines, b"ride 7\ncharge 2\nreceipt 3\n");
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        for wrong in ["x", "x y", "\n", "xy\n", "\u{e4}"] {
            let mut progress = Progress::new(wrong.into());
            assert_eq!(progress.passed("x"), Err(Wrong::Unreadable), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_passed_is_told_after_a_crash_at_any_phase(
            outputs in prop::collection::vec("[^\n]{0,20}", 1..6),
            crash in 0_usize..6,
        ) {
            let mut first = Progress::new(Bytes::new());
            for (number, output) in outputs.iter().enumerate().take(crash) {
                pass(&mut first, &format!("phase{number}"), output);
            }
            let mut second = Progress::new(first.lines.clone());
            for (number, output) in outputs.iter().enumerate() {
                let name = format!("phase{number}");
                if number < crash {
                    prop_assert_eq!(second.passed(&name), Ok(Some(output.clone().into())));
                } else {
                    pass(&mut second, &name, output);
                }
            }
            prop_assert_eq!(second.finish(), Ok(()));
        }
    }
}
