//! The rules by which writes wait: one for each key, the last; in the order in which they came; a few at once; again when
//! they fail, alone in the end, so that one that cannot be written keeps no other.
//!
//! No clock, no lock, no waiting: the time and the chances are arguments.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use buttress_core::Moment;

use crate::key::Key;

/// The numbers of the rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) batch: usize,
    pub(super) delay: Duration,
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    pub(super) give_up_after: Option<u32>,
}

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Queue<V> {
    rule: Rule,
    entries: HashMap<Key, Entry<V>>,
    /// Those that were not tried since they came, by when they are due.
    fresh: BTreeMap<Turn, Key>,
    /// Those that failed, by when they are tried again.
    failed: BTreeMap<Turn, Key>,
    /// The first version of each key that is not written yet.
    oldest: BTreeSet<u64>,
    last: u64,
    /// How many are written at once: fewer after a failure.
    size: usize,
    /// How many times in a row nothing was written.
    failures: u32,
    /// Before this nothing is tried.
    paused_until: Moment,
    /// What is being written had failed before.
    is_again: bool,
    /// What has not been tried comes before what has failed. The pause after one that fails alone is as long as its own:
    /// it is due whenever anything may be tried, and nothing else ever would be.
    fresh_first: bool,
}

/// When, and of two at once the one that came first: of what is fresh, the first version that is not written yet.
type Turn = (Moment, u64);

#[derive(Debug)]
struct Entry<V> {
    value: Option<V>,
    version: u64,
    /// The first version that is not written yet.
    oldest: u64,
    state: State,
    /// How many times it failed alone.
    attempts: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In one of the two lists.
    Waiting,
    /// This version is being written; and since when a newer one waits, and which came first.
    Writing {
        version: u64,
        newer: Option<(Moment, u64)>,
    },
}

/// A write that is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due<V> {
    pub(super) key: Key,
    pub(super) value: Option<V>,
    pub(super) version: u64,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next<V> {
    Write(Vec<Due<V>>),
    /// Nothing before this, unless something comes.
    Wait(Moment),
    /// Nothing waits.
    Idle,
}

impl<V: Clone> Queue<V> {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            size: rule.batch,
            rule,
            entries: HashMap::new(),
            fresh: BTreeMap::new(),
            failed: BTreeMap::new(),
            oldest: BTreeSet::new(),
            last: 0,
            failures: 0,
            paused_until: Moment::START,
            is_again: false,
            fresh_first: false,
        }
    }

    /// How many keys wait, those included that are being written.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.entries.contains_key(key)
    }

    /// The value that waits to be written: `None` inside for a removal.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<V>> {
        self.entries.get(key).map(|entry| entry.value.clone())
    }

    /// Whether this version is the last of its key, and waits still.
    pub(super) fn is_newest(&self, key: &[u8], version: u64) -> bool {
        let entry = self.entries.get(key);
        entry.is_some_and(|entry| entry.version == version)
    }

    /// The version that came last.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Whether nothing waits that came up to this version.
    pub(super) fn is_done_to(&self, version: u64) -> bool {
        self.oldest.first().is_none_or(|oldest| *oldest > version)
    }

    /// A write comes; the version it gets. It takes the place of one that waits for the same key.
    pub(super) fn put(&mut self, key: &Key, value: Option<V>, now: Moment) -> u64 {
        self.last += 1;
        let version = self.last;
        match self.entries.get_mut(&**key) {
            Some(entry) => {
                entry.value = value;
                entry.version = version;
                entry.attempts = 0;
                if let State::Writing { newer, .. } = &mut entry.state
                    && newer.is_none()
                {
                    *newer = Some((now, version));
                }
            }
            None => {
                let turn = (now.saturating_add(self.rule.delay), version);
                self.fresh.insert(turn, Key::clone(key));
                self.oldest.insert(version);
                let entry = Entry {
                    value,
                    version,
                    oldest: version,
                    state: State::Waiting,
                    attempts: 0,
                };
                self.entries.insert(Key::clone(key), entry);
            }
        }
        version
    }

    /// What is to be done now; what came up to the version `hurry_to` waits for no more to come. What it gives out is being
    /// written until [`written`](Self::written) or [`failed`](Self::failed) says otherwise.
    pub(super) fn next(&mut self, now: Moment, hurry_to: u64) -> Next<V> {
        if now < self.paused_until && !self.entries.is_empty() {
            return Next::Wait(self.paused_until);
        }
        let is_full = self.fresh.len() >= self.rule.batch;
        // Those that failed are not joined by others, so that what cannot be written is alone in the end.
        for again in [!self.fresh_first, self.fresh_first] {
            let keys = match again {
                true => take(&mut self.failed, self.size, |(at, _)| at <= now),
                false => take(&mut self.fresh, self.size, |(at, version)| {
                    is_full || version <= hurry_to || at <= now
                }),
            };
            if !keys.is_empty() {
                self.is_again = again;
                return Next::Write(self.begin(keys));
            }
        }
        let first = |turns: &BTreeMap<Turn, Key>| turns.first_key_value().map(|((at, _), _)| *at);
        let soonest = first(&self.fresh).into_iter().chain(first(&self.failed));
        soonest.min().map_or(Next::Idle, Next::Wait)
    }

    fn begin(&mut self, keys: Vec<Key>) -> Vec<Due<V>> {
        let due = keys.into_iter().filter_map(|key| {
            let entry = self.entries.get_mut(&*key)?;
            entry.state = State::Writing {
                version: entry.version,
                newer: None,
            };
            Some(Due {
                value: entry.value.clone(),
                version: entry.version,
                key,
            })
        });
        due.collect()
    }

    /// All of these were written, or will never be; how many keys wait no more.
    pub(super) fn written(&mut self, keys: &[(Key, u64)]) -> usize {
        self.failures = 0;
        self.fresh_first = false;
        self.size = self.size.saturating_mul(2).min(self.rule.batch);
        keys.iter().filter(|(key, _)| self.is_over(key)).count()
    }

    /// It waits no more, unless a newer one came.
    fn is_over(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.get_mut(&**key) else {
            return false;
        };
        let State::Writing { newer, .. } = entry.state else {
            return false;
        };
        self.oldest.remove(&entry.oldest);
        match newer {
            None => {
                self.entries.remove(&**key);
                true
            }
            Some((since, oldest)) => {
                entry.oldest = oldest;
                self.oldest.insert(entry.oldest);
                let turn = (since.saturating_add(self.rule.delay), oldest);
                entry.state = State::Waiting;
                self.fresh.insert(turn, Key::clone(key));
                false
            }
        }
    }

    /// None of these was written, as far as is known; the one that is given up, if it is.
    pub(super) fn failed(
        &mut self,
        keys: &[(Key, u64)],
        now: Moment,
        chance: f64,
    ) -> Option<Due<V>> {
        self.failures = self.failures.saturating_add(1);
        self.size = (keys.len() / 2).max(1);
        self.paused_until = now.saturating_add(self.pause(self.failures, chance));
        let alone = keys.len() == 1;
        self.fresh_first = alone && self.is_again;
        for (key, _) in keys {
            let Some(entry) = self.entries.get_mut(&**key) else {
                continue;
            };
            let State::Writing { version, .. } = entry.state else {
                continue;
            };
            let mut again = now;
            // What a newer value has is its own chance.
            if alone && version == entry.version {
                entry.attempts = entry.attempts.saturating_add(1);
                let attempts = entry.attempts;
                if self.rule.give_up_after.is_some_and(|most| attempts >= most) {
                    let entry = self.entries.remove(&**key)?;
                    self.oldest.remove(&entry.oldest);
                    return Some(Due {
                        key: Key::clone(key),
                        value: entry.value,
                        version: entry.version,
                    });
                }
                again = now.saturating_add(self.pause(attempts, chance));
            }
            if let Some(entry) = self.entries.get_mut(&**key) {
                let turn = (again, entry.version);
                entry.state = State::Waiting;
                self.failed.insert(turn, Key::clone(key));
            }
        }
        None
    }

    /// Twice as long each time; half of it by chance, so that instances do not all try at once.
    fn pause(&self, failures: u32, chance: f64) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
        let doubled = doubled.filter(|_| failures <= 20).unwrap_or(1 << 20);
        let pause = self.rule.first_pause.saturating_mul(doubled);
        let pause = pause.min(self.rule.longest_pause);
        pause.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }

    /// All that waits, in the order in which it came. Nothing waits any more.
    pub(super) fn drain(&mut self) -> Vec<Due<V>> {
        self.fresh.clear();
        self.failed.clear();
        self.oldest.clear();
        let left = self.entries.drain();
        let mut left: Vec<_> = left
            .map(|(key, entry)| Due {
                key,
                value: entry.value,
                version: entry.version,
            })
            .collect();
        left.sort_unstable_by_key(|due| due.version);
        left
    }
}

/// The first of them, as long as they are due.
fn take(turns: &mut BTreeMap<Turn, Key>, most: usize, is_due: impl Fn(Turn) -> bool) -> Vec<Key> {
    let mut taken = Vec::new();
    while taken.len() < most
        && let Some(first) = turns.first_entry()
        && is_due(*first.key())
    {
        taken.push(first.remove());
    }
    taken
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rule(batch: usize) -> Rule {
        Rule {
            batch,
            delay: SECOND,
            first_pause: Duration::from_millis(100),
            longest_pause: 2 * SECOND,
            give_up_after: None,
        }
    }

    fn at(millis: u64) -> Moment {
        Moment::START.saturating_add(Duration::from_millis(millis))
    }

    fn key(number: u8) -> Key {
        Key::from(&[number][..])
    }

    fn keys(due: &[Due<u32>]) -> Vec<(Key, u64)> {
        due.iter()
            .map(|it| (Key::clone(&it.key), it.version))
            .collect()
    }

    fn writes(next: Next<u32>) -> Vec<(u8, Option<u32>)> {
        match next {
            Next::Write(due) => due.iter().map(|it| (it.key[0], it.value)).collect(),
            next => panic!("{next:?}"),
        }
    }

    #[test]
    fn what_comes_waits_for_others_and_the_last_of_a_key_wins() {
        let mut queue = Queue::new(rule(3));
        assert_eq!(queue.next(at(0), 0), Next::Idle);
        queue.put(&key(1), Some(10), at(0));
        queue.put(&key(2), Some(20), at(500));
        queue.put(&key(1), Some(11), at(900));
        assert_eq!(queue.next(at(999), 0), Next::Wait(at(1000)));
        assert_eq!(writes(queue.next(at(1000), 0)), [(1, Some(11))]);
        assert_eq!(
            writes(queue.next(at(1000), u64::MAX)),
            [(2, Some(20))],
            "in a hurry"
        );
        // With a batch's worth of them it is time.
        let mut queue = Queue::new(rule(3));
        for number in 1..=4 {
            queue.put(&key(number), None, at(0));
        }
        let expected = [(1, None), (2, None), (3, None)];
        assert_eq!(writes(queue.next(at(0), 0)), expected);
        assert_eq!(queue.next(at(0), 0), Next::Wait(at(1000)));
    }

    #[test]
    fn what_comes_while_it_is_written_is_written_after_it() {
        let mut queue = Queue::new(rule(3));
        let first = queue.put(&key(1), Some(1), at(0));
        let Next::Write(due) = queue.next(at(0), u64::MAX) else {
            panic!("it is in a hurry");
        };
        let second = queue.put(&key(1), Some(2), at(10));
        queue.put(&key(1), Some(3), at(20));
        assert_eq!(queue.next(at(5000), u64::MAX), Next::Idle, "one at a time");
        assert_eq!(queue.get(&key(1)), Some(Some(3)));
        assert!(!queue.is_done_to(first));
        assert_eq!(queue.written(&keys(&due)), 0);
        assert!(queue.is_done_to(first) && !queue.is_done_to(second));
        assert_eq!(queue.next(at(20), 0), Next::Wait(at(1010)));
        assert_eq!(writes(queue.next(at(1010), 0)), [(1, Some(3))]);
        assert_eq!(queue.written(&[(key(1), 3)]), 1);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn one_that_cannot_be_written_is_alone_in_the_end_and_keeps_no_other() {
        let mut queue = Queue::new(Rule {
            give_up_after: Some(3),
            ..rule(8)
        });
        for number in 0..8 {
            queue.put(&key(number), Some(u32::from(number)), at(0));
        }
        let (mut now, mut written, mut given_up) = (at(0), Vec::new(), None);
        let mut rounds = 0;
        while given_up.is_none() {
            rounds += 1;
            assert!(rounds < 50, "{written:?}");
            match queue.next(now, u64::MAX) {
                Next::Write(due) if due.iter().any(|it| it.key[0] == 5) => {
                    given_up = queue.failed(&keys(&due), now, 1.0);
                }
                Next::Write(due) => {
                    written.extend(due.iter().map(|it| it.key[0]));
                    queue.written(&keys(&due));
                }
                Next::Wait(until) => now = until,
                Next::Idle => panic!("one is left"),
            }
        }
        written.sort_unstable();
        assert_eq!(written, [0, 1, 2, 3, 4, 6, 7]);
        assert_eq!(given_up.unwrap().value, Some(5));
        assert_eq!((queue.len(), queue.next(now, u64::MAX)), (0, Next::Idle));
    }

    #[test]
    fn one_that_can_never_be_written_keeps_none_that_come_after_it() {
        for (hurry_to, batch) in [(0, 8), (u64::MAX, 8), (0, 1)] {
            let mut queue = Queue::new(rule(batch));
            queue.put(&key(0), Some(0), at(0));
            let (mut now, mut written, mut tried) = (at(0), Vec::new(), 0);
            for round in 0..200_u8 {
                if round.is_multiple_of(20) {
                    queue.put(&key(1 + round), Some(1), now);
                }
                match queue.next(now, hurry_to) {
                    Next::Write(due) if due.iter().any(|it| it.key[0] == 0) => {
                        tried += 1;
                        assert_eq!(queue.failed(&keys(&due), now, 1.0), None);
                    }
                    Next::Write(due) => {
                        written.extend(due.iter().map(|it| it.key[0]));
                        queue.written(&keys(&due));
                    }
                    Next::Wait(until) => now = until,
                    Next::Idle => panic!("one is left"),
                }
            }
            written.sort_unstable();
            let expected: Vec<u8> = (0..10).map(|number| 1 + number * 20).collect();
            assert_eq!(written, expected, "{hurry_to} {batch}");
            assert!(tried > 20, "{tried}: it is not forgotten either");
        }
    }

    #[test]
    fn a_flush_hurries_nothing_that_comes_after_it() {
        let mut queue = Queue::new(rule(8));
        let flushed = queue.put(&key(0), Some(0), at(0));
        let tried = |queue: &mut Queue<u32>, millis| {
            let Next::Write(due) = queue.next(at(millis), flushed) else {
                panic!("it is in a hurry");
            };
            assert_eq!(due[0].key[0], 0, "at {millis}");
            queue.failed(&keys(&due), at(millis), 1.0);
        };
        tried(&mut queue, 0);
        queue.put(&key(1), Some(1), at(50));
        for millis in [100, 300, 700] {
            tried(&mut queue, millis);
        }
        assert_eq!(writes(queue.next(at(1500), flushed)), [(1, Some(1))]);
    }

    /// Neither starves the other, while all that comes fails as well.
    #[test]
    fn what_failed_is_tried_again_while_others_come_and_fail() {
        let mut queue = Queue::new(rule(4));
        let (mut now, mut tried) = (at(0), [0; 2]);
        for round in 0..200_u8 {
            queue.put(&key(round), None, now);
            match queue.next(now, u64::MAX) {
                Next::Write(due) => {
                    tried[usize::from(due.iter().any(|it| it.key[0] == 0))] += 1;
                    queue.failed(&keys(&due), now, 1.0);
                }
                Next::Wait(until) => now = until,
                Next::Idle => panic!("all are left"),
            }
        }
        assert!(tried[0] > 20 && tried[1] >= 2, "{tried:?}");
    }

    #[test]
    fn while_the_source_is_down_it_is_tried_ever_more_seldom() {
        let mut queue = Queue::new(rule(4));
        for number in 0..100 {
            queue.put(&key(number), Some(0), at(0));
        }
        let (mut now, mut tries) = (at(0), 0);
        while now < at(60_000) {
            match queue.next(now, u64::MAX) {
                Next::Write(due) => {
                    tries += 1;
                    assert_eq!(queue.failed(&keys(&due), now, 1.0), None);
                }
                Next::Wait(until) => now = until,
                Next::Idle => panic!("all of them are left"),
            }
        }
        assert!((30..=40).contains(&tries), "every two seconds: {tries}");
        assert_eq!(queue.len(), 100);
        // And when it is back, all of them are written without a pause between them.
        let (mut back, mut left) = (now, 100);
        while left > 0 {
            match queue.next(back, u64::MAX) {
                Next::Write(due) => left -= queue.written(&keys(&due)),
                Next::Wait(until) => back = until,
                Next::Idle => panic!("{left} are left"),
            }
        }
        assert!(back.saturating_since(now) <= 4 * SECOND);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u32),
        Pass(u64),
        Written,
        Failed,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => (0..6_u8, any::<u32>()).prop_map(|(key, value)| Step::Put(key, value)),
            3 => (0..1500_u64).prop_map(Step::Pass),
            4 => Just(Step::Written),
            2 => Just(Step::Failed),
        ];
        prop::collection::vec(step, 0..120)
    }

    proptest! {
        /// Beside a map that says what a read must show, and a source that notes what is written.
        #[test]
        fn no_older_write_comes_after_a_newer_one_and_none_is_lost(
            batch in 1..5_usize,
            hurry_to in prop_oneof![Just(0), 1..40_u64, Just(u64::MAX)],
            chance in 0.0..1.0_f64,
            steps in steps(),
        ) {
            let mut queue: Queue<u32> = Queue::new(rule(batch));
            let (mut now, mut flying) = (at(0), None::<Vec<Due<u32>>>);
            let mut puts: HashMap<u8, (u64, u32)> = HashMap::new();
            let mut source: HashMap<u8, (u64, u32)> = HashMap::new();
            let ends = [Step::Written, Step::Pass(10_000), Step::Written];
            let drains = ends.iter().cycle().take(90);
            for step in steps.iter().chain(drains) {
                match step {
                    Step::Put(number, value) => {
                        let version = queue.put(&key(*number), Some(*value), now);
                        puts.insert(*number, (version, *value));
                    }
                    Step::Pass(millis) => {
                        now = now.saturating_add(Duration::from_millis(*millis));
                    }
                    end => {
                        let Some(due) = flying.take() else {
                            if let Next::Write(due) = queue.next(now, hurry_to) {
                                prop_assert!(!due.is_empty() && due.len() <= batch);
                                let distinct: HashSet<_> = due.iter().map(|it| &it.key).collect();
                                prop_assert_eq!(distinct.len(), due.len());
                                flying = Some(due);
                            }
                            continue;
                        };
                        if matches!(end, Step::Failed) {
                            prop_assert_eq!(queue.failed(&keys(&due), now, chance), None);
                            continue;
                        }
                        for it in &due {
                            let before = source.insert(it.key[0], (it.version, it.value.unwrap()));
                            let before = before.map_or(0, |(version, _)| version);
                            prop_assert!(before < it.version, "{} after {before}", it.version);
                        }
                        queue.written(&keys(&due));
                    }
                }
                // A read sees what was put last, from the queue or else from the source.
                for (number, (_, value)) in &puts {
                    let read = queue.get(&key(*number)).flatten();
                    let read = read.or_else(|| source.get(number).map(|(_, value)| *value));
                    prop_assert_eq!(read, Some(*value));
                }
                let turns = queue.fresh.len() + queue.failed.len();
                let flying = flying.as_ref().map_or(0, Vec::len);
                prop_assert_eq!(turns + flying, queue.len());
                prop_assert_eq!(queue.oldest.len(), queue.len());
            }
            prop_assert_eq!(queue.len(), 0, "all of it is written in the end");
            prop_assert_eq!(source, puts);
        }
    }
}
