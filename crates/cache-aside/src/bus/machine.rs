//! The rules by which an instance knows up to when it has heard everything.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use buttress_core::Moment;

use super::message::Sender;

/// The most senders that are known at once; one that is forgotten is a gap when it speaks again.
const SENDERS: usize = 4096;
/// The most beats that are under way.
const BEATS: usize = 64;

/// What a message's count says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// All of this sender's were heard.
    Whole,
    /// One of its was lost.
    Gap,
}

/// Counts what each sender says, and times one's own beats.
#[derive(Debug)]
pub(super) struct Machine {
    me: Sender,
    listening: bool,
    senders: HashMap<Sender, Known>,
    beats: VecDeque<(u64, Moment)>,
    last_beat: u64,
    heard: Option<Moment>,
}

#[derive(Debug)]
struct Known {
    count: u64,
    at: Moment,
}

impl Machine {
    pub(super) fn new(me: Sender) -> Self {
        Self {
            me,
            listening: false,
            senders: HashMap::new(),
            beats: VecDeque::new(),
            last_beat: 0,
            heard: None,
        }
    }

    /// From now on everything is heard. Beats that went before say nothing: what was sent after them may have been
    /// sent before now.
    pub(super) fn listen(&mut self) {
        self.listening = true;
        self.beats.clear();
        self.heard = None;
    }

    /// From now on nothing is.
    pub(super) fn stop(&mut self) {
        self.listening = false;
        self.beats.clear();
    }

    /// The number of the beat that is sent now.
    pub(super) fn beat(&mut self, now: Moment) -> u64 {
        self.last_beat += 1;
        if self.listening {
            if self.beats.len() == BEATS {
                self.beats.pop_front();
            }
            self.beats.push_back((self.last_beat, now));
        }
        self.last_beat
    }

    /// A message was heard, and what it says has been done.
    pub(super) fn hear(&mut self, from: Sender, count: u64, beat: u64, now: Moment) -> Counted {
        if from == self.me {
            // What was sent before this beat was sent has been heard: one server keeps the order.
            while let Some((number, sent)) = self.beats.front().copied() {
                if number > beat {
                    break;
                }
                self.beats.pop_front();
                if number == beat {
                    self.heard = Some(sent);
                }
            }
            return Counted::Whole;
        }
        let new = !self.senders.contains_key(&from);
        if new && self.senders.len() >= SENDERS {
            let oldest = self.senders.iter().min_by_key(|(_, known)| known.at);
            if let Some(oldest) = oldest.map(|(sender, _)| *sender) {
                self.senders.remove(&oldest);
            }
        }
        // One that is not known has said nothing yet, or what it said was not heard.
        let known = self
            .senders
            .entry(from)
            .or_insert(Known { count: 0, at: now });
        known.at = now;
        // A beat repeats the count; a message with news has the next one.
        let counted = if count > known.count.saturating_add(u64::from(beat == 0)) {
            Counted::Gap
        } else {
            Counted::Whole
        };
        known.count = known.count.max(count);
        counted
    }

    /// Up to when everything was heard.
    pub(super) const fn heard(&self) -> Option<Moment> {
        self.heard
    }

    /// Whether a connection made at `since` is to be taken for lost.
    pub(super) fn is_silent(&self, since: Moment, silence: Duration, now: Moment) -> bool {
        let last = self.heard.map_or(since, |heard| heard.max(since));
        now.saturating_since(last) > silence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Sender = [1; 16];
    const OTHER: Sender = [2; 16];

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_count_that_jumps_is_a_gap_and_no_other() {
        for (counts, gaps) in [
            // (count, beat): news have the next count, beats repeat it.
            (&[(1, 0), (1, 1), (2, 0), (2, 2)][..], &[][..]),
            (&[(0, 1), (0, 2), (1, 0)], &[]),
            (&[(2, 0)], &[0]),
            (&[(1, 1)], &[0]),
            (&[(1, 0), (3, 0), (4, 0)], &[1]),
            (&[(1, 0), (2, 3)], &[1]),
            (&[(1, 0), (1, 0), (2, 0)], &[]),
            (&[(3, 1), (2, 0), (4, 0)], &[0]),
        ] {
            let mut machine = Machine::new(ME);
            machine.listen();
            let found: Vec<usize> = counts
                .iter()
                .enumerate()
                .filter(|(_, (count, beat))| {
                    machine.hear(OTHER, *count, *beat, at(0)) == Counted::Gap
                })
                .map(|(place, _)| place)
                .collect();
            assert_eq!(found, gaps, "{counts:?}");
        }
    }

    #[test]
    fn what_was_heard_is_as_old_as_the_last_beat_that_came_back() {
        let mut machine = Machine::new(ME);
        let early = machine.beat(at(0));
        machine.listen();
        assert_eq!(machine.heard(), None);
        let first = machine.beat(at(10));
        let second = machine.beat(at(20));
        machine.hear(ME, 0, early, at(25));
        assert_eq!(machine.heard(), None, "it was sent before anybody listened");
        machine.hear(ME, 0, first, at(30));
        assert_eq!(machine.heard(), Some(at(10)), "when it was sent");
        machine.hear(ME, 0, second, at(500));
        assert_eq!(machine.heard(), Some(at(20)));
        machine.hear(ME, 0, first, at(600));
        assert_eq!(machine.heard(), Some(at(20)), "it does not go back");
        let third = machine.beat(at(700));
        machine.stop();
        assert_eq!(machine.heard(), Some(at(20)), "that much was heard");
        machine.listen();
        machine.hear(ME, 0, third, at(800));
        assert_eq!(machine.heard(), None, "of the connection of before");
    }

    #[test]
    fn a_connection_on_which_no_beat_comes_back_is_lost() {
        let mut machine = Machine::new(ME);
        let silence = Duration::from_millis(100);
        machine.listen();
        assert!(!machine.is_silent(at(50), silence, at(150)));
        assert!(machine.is_silent(at(50), silence, at(151)));
        let beat = machine.beat(at(60));
        machine.hear(ME, 0, beat, at(90));
        assert!(!machine.is_silent(at(50), silence, at(160)));
        assert!(machine.is_silent(at(50), silence, at(161)));
        // Others that speak are no proof that our own words get there.
        machine.hear(OTHER, 1, 0, at(161));
        assert!(machine.is_silent(at(50), silence, at(162)));
    }

    #[test]
    fn a_sender_that_was_forgotten_is_a_gap_when_it_speaks_again() {
        let mut machine = Machine::new(ME);
        machine.listen();
        assert_eq!(machine.hear(OTHER, 1, 0, at(0)), Counted::Whole);
        for number in 0..u32::try_from(SENDERS).unwrap() {
            let mut sender = [9; 16];
            sender[..4].copy_from_slice(&number.to_be_bytes());
            machine.hear(sender, 0, 1, at(1));
        }
        assert_eq!(machine.senders.len(), SENDERS);
        assert_eq!(machine.hear(OTHER, 2, 0, at(2)), Counted::Gap);
    }
}
