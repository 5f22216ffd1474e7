//! The search for an order: Wing and Gong's, with Lowe's memory of what was tried.

use std::{collections::HashSet, fmt};

use super::{Model, Recorder, history::Operation};

/// How many steps are tried for one key before the search gives up.
const STEPS: u32 = 5_000_000;
/// How many calls of a history a failure shows, before the place at which no order goes on.
const SHOWN: usize = 20;

/// No object that does one thing at a time could have given these answers, or none was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotLinearizable {
    /// There is no order.
    #[error(
        "key {key}: no order of its calls explains their answers; the longest that does is\n{longest}then none of these can be next:\n{then}"
    )]
    NoOrder {
        /// The key.
        key: String,
        /// The longest order that explains, its last calls.
        longest: String,
        /// What it leaves over.
        then: String,
    },
    /// The history is too concurrent for the bound: neither is known.
    #[error(
        "key {key}: given up after {steps} steps; fewer clients or shorter histories are decided"
    )]
    TooHard {
        /// The key.
        key: String,
        /// How many steps were tried.
        steps: u32,
    },
}

/// Looks at each key of a history on its own, and returns how many calls were explained.
///
/// The memory that it takes grows with the number of calls that overlap; calls with unknown
/// outcome overlap with all that follow. The search is bounded, and says so when it gives up.
///
/// # Errors
///
/// [`NotLinearizable`], for the first key that is not.
pub fn check<K, M>(
    model: &M,
    history: &Recorder<K, M::Call, M::Return>,
) -> Result<usize, NotLinearizable>
where
    K: Clone + Ord + fmt::Debug,
    M: Model,
{
    check_within(STEPS, model, history)
}

fn check_within<K, M>(
    steps: u32,
    model: &M,
    history: &Recorder<K, M::Call, M::Return>,
) -> Result<usize, NotLinearizable>
where
    K: Clone + Ord + fmt::Debug,
    M: Model,
{
    let mut explained = 0;
    for (key, operations) in history.by_key() {
        let key = format!("{key:?}");
        match search(model, &operations, steps) {
            Found::Order => explained += operations.len(),
            Found::GivenUp => return Err(NotLinearizable::TooHard { key, steps }),
            Found::None { longest, then } => {
                let tell = |numbers: &[usize]| {
                    let operations = numbers.iter().map(|number| &operations[*number]);
                    operations.map(told).collect::<String>()
                };
                return Err(NotLinearizable::NoOrder {
                    key,
                    longest: tell(&longest),
                    then: tell(&then),
                });
            }
        }
    }
    Ok(explained)
}

fn told<C: fmt::Debug, R: fmt::Debug>(operation: &Operation<C, R>) -> String {
    let Operation { call, called, .. } = operation;
    match &operation.returned {
        Some((at, returned)) => format!("  {call:?} at {called}, {returned:?} at {at}\n"),
        None => format!("  {call:?} at {called}, outcome unknown\n"),
    }
}

enum Found {
    Order,
    None {
        longest: Vec<usize>,
        then: Vec<usize>,
    },
    GivenUp,
}

/// A step back: the call that was put last, and what was before it.
struct Step<S> {
    number: usize,
    state: S,
}

fn search<M: Model>(
    model: &M,
    operations: &[Operation<M::Call, M::Return>],
    mut steps: u32,
) -> Found {
    let mut wanted = operations.iter().filter(|it| it.returned.is_some()).count();
    let mut placed = Placed::new(operations.len());
    let mut state = model.initial();
    let mut order: Vec<Step<M::State>> = Vec::new();
    let mut tried: HashSet<(Bits, M::State)> = HashSet::new();
    let mut longest: (Vec<usize>, Vec<usize>) = Default::default();
    let mut longest_length = 0;
    // The first call that is worth a try at this place.
    let mut from = 0;
    loop {
        if wanted == 0 {
            return Found::Order;
        }
        if order.len() >= longest_length {
            longest_length = order.len();
            let shown = &order[order.len().saturating_sub(SHOWN)..];
            let numbers = shown.iter().map(|step| step.number).collect();
            longest = (numbers, placed.next(operations, 0).collect());
        }
        let mut next = None;
        for number in placed.next(operations, from) {
            if steps == 0 {
                return Found::GivenUp;
            }
            steps -= 1;
            let Operation { call, returned, .. } = &operations[number];
            let returned = returned.as_ref().map(|(_, it)| it);
            if let Some(after) = model.step(&state, call, returned) {
                let place = (placed.and(number), after.clone());
                if tried.insert(place) {
                    next = Some((number, after));
                    break;
                }
            }
        }
        if let Some((number, after)) = next {
            placed.flip(number);
            wanted -= usize::from(operations[number].returned.is_some());
            let before = std::mem::replace(&mut state, after);
            order.push(Step {
                number,
                state: before,
            });
            from = 0;
        } else if let Some(step) = order.pop() {
            placed.flip(step.number);
            wanted += usize::from(operations[step.number].returned.is_some());
            state = step.state;
            from = step.number + 1;
        } else {
            let (longest, then) = longest;
            return Found::None { longest, then };
        }
    }
}

/// What is placed: how many full words come first, and the others up to the last that is not empty.
/// So it is short, however long the history, when calls are placed about as they began.
type Bits = (usize, Vec<u64>);

/// Which calls have their place in the order already.
struct Placed {
    bits: Vec<u64>,
}

impl Placed {
    fn new(length: usize) -> Self {
        Self {
            bits: vec![0; length.div_ceil(64)],
        }
    }

    fn has(&self, number: usize) -> bool {
        self.bits[number / 64] >> (number % 64) & 1 == 1
    }

    fn flip(&mut self, number: usize) {
        self.bits[number / 64] ^= 1 << (number % 64);
    }

    /// What is placed when `number` is as well.
    fn and(&self, number: usize) -> Bits {
        let (at, bit) = (number / 64, 1 << (number % 64));
        let full = self.full_words();
        let last = self.bits.iter().rposition(|bits| *bits != 0);
        let end = last.map_or(0, |last| last + 1).max(at + 1);
        let mut words = self.bits[full..end].to_vec();
        words[at - full] |= bit;
        let now_full = words.iter().take_while(|bits| **bits == u64::MAX).count();
        words.drain(..now_full);
        (full + now_full, words)
    }

    fn full_words(&self) -> usize {
        self.bits
            .iter()
            .take_while(|bits| **bits == u64::MAX)
            .count()
    }

    /// Those that can be next, from the number `from` on: that began before any of the others
    /// that are left returned. Calls are numbered as they began.
    fn next<'a, C, R>(
        &'a self,
        operations: &'a [Operation<C, R>],
        from: usize,
    ) -> impl Iterator<Item = usize> + use<'a, C, R> {
        let full = self
            .bits
            .iter()
            .take_while(|bits| **bits == u64::MAX)
            .count()
            * 64;
        let mut first_return = u64::MAX;
        for (number, operation) in operations.iter().enumerate().skip(full) {
            if operation.called > first_return {
                break;
            }
            if let (false, Some((at, _))) = (self.has(number), &operation.returned) {
                first_return = first_return.min(*at);
            }
        }
        (full.max(from)..operations.len())
            .take_while(move |number| operations[*number].called < first_return)
            .filter(|number| !self.has(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linearizability::{Access, Accessed, Claim, ClaimCall, Pending, Register};

    type Book = Recorder<u8, Access<u8>, Accessed<u8>>;

    const OK: Accessed<u8> = Accessed::Done;

    fn write(book: &Book, value: u8) -> Pending<u8, Access<u8>, Accessed<u8>> {
        book.call(1, Access::Write(value))
    }

    fn read(book: &Book, value: u8) {
        book.call(1, Access::Read).returned(Accessed::Value(value));
    }

    fn holds(book: &Book) -> bool {
        match check(&Register::new(0), book) {
            Ok(_) => true,
            Err(NotLinearizable::NoOrder { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_one_client_reads_is_what_was_written_last() {
        let book = Book::new();
        read(&book, 0);
        write(&book, 1).returned(OK);
        write(&book, 2).returned(OK);
        read(&book, 2);
        assert!(holds(&book));
        read(&book, 1);
        assert!(!holds(&book));
    }

    #[test]
    fn overlapping_writes_may_come_in_either_order_but_only_in_one() {
        for (first, then, right) in [(1, 1, true), (2, 2, true), (1, 2, false), (0, 0, false)] {
            let book = Book::new();
            let (one, other) = (write(&book, 1), write(&book, 2));
            one.returned(OK);
            other.returned(OK);
            read(&book, first);
            read(&book, then);
            assert_eq!(holds(&book), right, "{first} {then}");
        }
    }

    #[test]
    fn a_read_during_a_write_sees_the_old_or_the_new_and_never_the_old_after_the_new() {
        for (first, then, right) in [(0, 0, true), (0, 1, true), (1, 1, true), (1, 0, false)] {
            let book = Book::new();
            let writing = write(&book, 1);
            read(&book, first);
            read(&book, then);
            writing.returned(OK);
            assert_eq!(holds(&book), right, "{first} {then}");
        }
    }

    #[test]
    fn an_unknown_outcome_may_happen_late_or_never_but_only_once() {
        for (reads, right) in [
            (&[0, 0][..], true),
            (&[0, 1, 1], true),
            (&[1, 1], true),
            (&[1, 0], false),
            (&[0, 1, 0], false),
        ] {
            let book = Book::new();
            drop(write(&book, 1));
            for value in reads {
                read(&book, *value);
            }
            assert_eq!(holds(&book), right, "{reads:?}");
        }
        let book = Book::new();
        read(&book, 1);
        drop(write(&book, 1));
        assert!(!holds(&book), "not before it began");
        let book = Book::new();
        write(&book, 1).did_not_happen();
        read(&book, 1);
        assert!(!holds(&book), "nor when it did not");
    }

    #[test]
    fn of_two_that_compare_and_set_the_same_one_succeeds() {
        let swap = |to| Access::CompareAndSet { from: 0, to };
        for (one_set, other_set, end, right) in [
            (true, false, 1, true),
            (false, true, 2, true),
            (true, true, 2, false),
            (false, false, 0, false),
        ] {
            let book = Book::new();
            let (one, other) = (book.call(1, swap(1)), book.call(1, swap(2)));
            one.returned(Accessed::Set(one_set));
            other.returned(Accessed::Set(other_set));
            read(&book, end);
            assert_eq!(holds(&book), right, "{one_set} {other_set} {end}");
        }
    }

    #[test]
    fn keys_are_looked_at_each_on_its_own_and_the_wrong_one_is_named() {
        let book = Book::new();
        book.call(1, Access::Write(7)).returned(OK);
        book.call(2, Access::Read).returned(Accessed::Value(0));
        assert_eq!(check(&Register::new(0), &book), Ok(2));
        book.call(2, Access::Read).returned(Accessed::Value(7));
        let error = check(&Register::new(0), &book).unwrap_err().to_string();
        assert_eq!(
            error,
            "key 2: no order of its calls explains their answers; the longest that does is\n  \
             Read at 3, Value(0) at 4\nthen none of these can be next:\n  \
             Read at 5, Value(7) at 6\n"
        );
    }

    #[test]
    fn a_claim_is_one_mans_until_it_lapses() {
        use ClaimCall::{Claim as Take, Complete, Lapse, Release};
        let history = |calls: &[(ClaimCall<u8>, Option<bool>)]| {
            let book = Recorder::new();
            for (call, returned) in calls {
                let pending = book.call("job", *call);
                if let Some(returned) = returned {
                    pending.returned(*returned);
                }
            }
            check(&Claim::default(), &book).is_ok()
        };
        let (yes, no) = (Some(true), Some(false));
        assert!(history(&[
            (Take(1), yes),
            (Take(2), no),
            (Complete(1), yes),
            (Take(2), no)
        ]));
        assert!(history(&[
            (Take(1), yes),
            (Release(1), yes),
            (Take(2), yes)
        ]));
        assert!(!history(&[(Take(1), yes), (Take(2), yes)]), "double grant");
        assert!(
            !history(&[(Take(1), yes), (Complete(2), yes)]),
            "a stranger's"
        );
        assert!(!history(&[(Complete(1), yes)]), "without a claim");
        // A lapse is a call whose outcome nobody learns: from now on it may come.
        assert!(history(&[
            (Take(1), yes),
            (Lapse(1), None),
            (Take(2), yes),
            (Complete(1), no)
        ]));
        assert!(!history(&[
            (Take(1), yes),
            (Lapse(1), None),
            (Take(2), yes),
            (Complete(1), yes)
        ]));
        assert!(history(&[
            (Take(1), None),
            (Take(2), no),
            (Complete(1), yes)
        ]));
    }

    #[test]
    fn what_is_too_hard_is_said_and_not_guessed() {
        let book = Book::new();
        let writes: Vec<_> = (0..12).map(|value| write(&book, value)).collect();
        for pending in writes {
            pending.returned(OK);
        }
        read(&book, 99);
        let given_up = check_within(1000, &Register::new(0), &book).unwrap_err();
        assert_eq!(
            given_up,
            NotLinearizable::TooHard {
                key: "1".into(),
                steps: 1000
            }
        );
        assert!(!holds(&book), "with more steps it is decided");
    }

    #[test]
    fn long_histories_of_few_clients_are_decided() {
        let book = Book::new();
        for round in 0..5_000_u32 {
            let value = u8::try_from(round % 251).unwrap();
            let writing = write(&book, value);
            let other = book.call(1, Access::Read);
            writing.returned(OK);
            other.returned(Accessed::Value(value));
        }
        assert!(holds(&book));
    }
}
