//! Who has a message already that not all have.

use std::collections::{HashMap, HashSet, VecDeque};

/// Messages that some of several endpoints have taken, and others have not yet. Bounded: the
/// oldest are forgotten, and then sent to all once more.
#[derive(Debug)]
pub(super) struct Partly {
    taken: HashMap<String, HashSet<u64>>,
    order: VecDeque<String>,
    most: usize,
}

impl Partly {
    pub(super) fn new(most: usize) -> Self {
        Self {
            taken: HashMap::new(),
            order: VecDeque::new(),
            most,
        }
    }

    pub(super) fn has(&self, message: &str, endpoint: u64) -> bool {
        let endpoints = self.taken.get(message);
        endpoints.is_some_and(|endpoints| endpoints.contains(&endpoint))
    }

    pub(super) fn note(&mut self, message: &str, endpoint: u64) {
        if !self.taken.contains_key(message) {
            self.order.push_back(message.to_owned());
        }
        let endpoints = self.taken.entry(message.to_owned()).or_default();
        endpoints.insert(endpoint);
        // Those that were forgotten in between are still in the order, and count for nothing.
        while self.order.len() > self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.taken.remove(&oldest);
            }
        }
    }

    pub(super) fn forget(&mut self, message: &str) {
        if self.taken.remove(message).is_some() {
            self.order.retain(|it| it != message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_so_many_and_no_more() {
        let mut partly = Partly::new(2);
        for message in ["a", "b", "b", "c"] {
            partly.note(message, 1);
        }
        partly.note("c", 2);
        let found = ["a", "b", "c"].map(|message| partly.has(message, 1));
        assert_eq!(found, [false, true, true]);
        assert!(partly.has("c", 2) && !partly.has("b", 2));
        partly.forget("b");
        partly.note("d", 1);
        assert!(partly.has("c", 1) && partly.has("d", 1) && !partly.has("b", 1));
        assert_eq!(partly.order.len(), partly.taken.len());
    }
}
