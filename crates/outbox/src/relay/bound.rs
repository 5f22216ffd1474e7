//! From which id on a lane must be read, where ids are not committed in the order in which they
//! are given.

use crate::store::Sighting;

/// Below or at its word every id is decided: committed and to be seen by whoever looks now, or
/// never to be committed. Told by looks at who writes into the table.
///
/// Who is given an id writes into the table, and is seen to do so from before that until his
/// transaction ends and can be seen by all. So: the greatest id of one look, and all writers of
/// the next one. When none of these is there any more, all ids up to that one are decided. How the
/// two are read within one look is of no account, for they are of two looks.
#[derive(Debug, Default)]
pub(super) struct Bound {
    decided: i64,
    /// The greatest id that was given away, as of the last look.
    given: i64,
    /// As the server said it.
    said: Option<i64>,
    /// Ids up to this one are decided when these writers are gone.
    asked: Option<(i64, Vec<String>)>,
}

impl Bound {
    /// What was given away before the look that is about to be taken: [`saw`](Self::saw) is told it
    /// again, for what is read meanwhile may have been given after the look.
    pub(super) const fn given(&self) -> i64 {
        self.given
    }

    /// All ids up to this one are decided.
    pub(super) const fn decided(&self) -> i64 {
        self.decided
    }

    /// This id was read, so it was given away.
    pub(super) fn read(&mut self, id: i64) {
        self.given = self.given.max(id);
    }

    /// A look. `before`: what was given away when it began.
    pub(super) fn saw(&mut self, before: i64, sighting: &Sighting) {
        let less = |given| before > given;
        let went_back = self.said > sighting.given || sighting.given.is_some_and(less);
        if !sighting.in_order || went_back {
            // Ids that begin anew: nothing that was believed is true.
            *self = Self::default();
            return;
        }
        let gone = |writers: &[String]| {
            let back = |writer: &String| sighting.writers.contains(writer);
            !sighting.prepared && !writers.iter().any(back)
        };
        if let Some((id, writers)) = &self.asked
            && gone(writers)
        {
            self.decided = self.decided.max(*id);
            self.asked = None;
        }
        if sighting.writers.is_empty() {
            self.decided = self.decided.max(before);
            self.asked = None;
        } else if self.asked.is_none() && before > self.decided {
            self.asked = Some((before, sighting.writers.clone()));
        }
        self.said = sighting.given;
        self.given = self.given.max(sighting.given.unwrap_or_default());
    }

    /// Nothing is known.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn look(given: i64, writers: &[&str]) -> Sighting {
        Sighting {
            in_order: true,
            given: Some(given),
            prepared: writers.iter().any(|it| it.starts_with("-1/")),
            writers: writers.iter().map(ToString::to_string).collect(),
        }
    }

    fn look_at(bound: &mut Bound, sighting: &Sighting) {
        bound.saw(bound.given(), sighting);
    }

    #[test]
    fn what_was_given_by_one_look_is_decided_when_the_writers_of_the_next_are_gone() {
        let mut bound = Bound::default();
        for (given, writers, decided) in [
            (7, &[][..], 0),
            (9, &["3/1", "4/1"], 0),
            (12, &["4/1", "5/1"], 0),
            (15, &["5/2"], 7),
            (15, &["6/1"], 12),
            (15, &[], 15),
            (15, &[], 15),
        ] {
            look_at(&mut bound, &look(given, writers));
            assert_eq!(bound.decided(), decided, "{given} {writers:?}");
        }
    }

    #[test]
    fn a_prepared_transaction_has_another_name_and_is_waited_for() {
        let mut bound = Bound::default();
        for (writers, decided) in [
            (&["3/1"][..], 0),
            (&["3/1"], 0),
            (&["-1/800"], 0),
            (&["-1/800", "4/1"], 0),
            (&[], 5),
        ] {
            look_at(&mut bound, &look(5, writers));
            assert_eq!(bound.decided(), decided, "{writers:?}");
        }
    }

    #[test]
    fn ids_that_begin_anew_or_are_given_out_of_order_are_not_bounded() {
        let mut bound = Bound::default();
        look_at(&mut bound, &look(5, &[]));
        look_at(&mut bound, &look(5, &[]));
        assert_eq!(bound.decided(), 5);
        look_at(&mut bound, &look(2, &[]));
        assert_eq!(bound.decided(), 0);
        look_at(&mut bound, &look(4, &[]));
        look_at(&mut bound, &look(4, &[]));
        assert_eq!(bound.decided(), 4);
        look_at(
            &mut bound,
            &Sighting {
                in_order: false,
                ..look(9, &[])
            },
        );
        assert_eq!(bound.decided(), 0);
        bound.read(7);
        // Who may not ask for the last id has only what he read.
        let blind = Sighting {
            given: None,
            ..look(0, &[])
        };
        look_at(&mut bound, &blind);
        assert_eq!(bound.decided(), 7);
    }

    /// What happens in a database, one thing at a time.
    #[derive(Clone, Copy, Debug)]
    enum Deed {
        /// A writer that is idle begins to write; one that writes is given an id; see `End`.
        Write(usize),
        End(usize),
        /// The two halves of a look that was sent, in either order.
        LookIds,
        LookWriters,
        /// A look is sent; its halves come after.
        Look,
        /// The relay reads the greatest id that is committed.
        Read,
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            4 => (0_usize..4).prop_map(Deed::Write),
            2 => (0_usize..4).prop_map(Deed::End),
            2 => Just(Deed::Look),
            2 => Just(Deed::Read),
            2 => Just(Deed::LookIds),
            2 => Just(Deed::LookWriters),
        ]
    }

    proptest! {
        /// In whichever order writers write and end, and whichever half of a look is taken first:
        /// no id that is still held is at or below the bound.
        #[test]
        fn no_id_that_may_yet_be_committed_is_below_the_bound(deeds in vec(deed(), 1..120)) {
            let mut bound = Bound::default();
            let mut last = 0;
            let mut turn = [0_u32; 4];
            let mut open: [Option<Vec<i64>>; 4] = Default::default();
            let mut committed = 0;
            let (mut before, mut ids, mut writers) = (None, None, None);
            for deed in deeds {
                match deed {
                    Deed::Write(who) => match &mut open[who] {
                        None => {
                            turn[who] += 1;
                            open[who] = Some(Vec::new());
                        }
                        Some(held) => {
                            last += 1;
                            held.push(last);
                        }
                    },
                    Deed::End(who) => {
                        let held = open[who].take().unwrap_or_default();
                        committed = held.into_iter().fold(committed, i64::max);
                    }
                    Deed::Read => bound.read(committed),
                    Deed::Look => before = before.or(Some(bound.given())),
                    Deed::LookIds if before.is_some() => ids = ids.or(Some(last)),
                    Deed::LookWriters if before.is_some() => {
                        let now = (0..4).filter(|who| open[*who].is_some());
                        let now = now.map(|who| format!("{who}/{}", turn[who])).collect();
                        writers = writers.or(Some(now));
                    }
                    Deed::LookIds | Deed::LookWriters => {}
                }
                if let (Some(sent), Some(given), Some(_)) = (before, ids, &writers) {
                    let sighting = Sighting {
                        in_order: true,
                        given: Some(given),
                        prepared: false,
                        writers: writers.take().unwrap_or_default(),
                    };
                    (before, ids) = (None, None);
                    bound.saw(sent, &sighting);
                    let held = open.iter().flatten().flatten().min();
                    prop_assert!(held.is_none_or(|held| *held > bound.decided()));
                }
            }
        }
    }
}
