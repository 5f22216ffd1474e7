//! Which step comes after which, while a definition is made.

use crate::machine::Before;

/// Which step comes after which. Steps come only after such as were added before them, so there are
/// no circles, and the order in which they were added is one in which they can be done.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// Of each step, those that it directly comes after.
    after: Vec<Vec<usize>>,
    /// What the next one comes after.
    ends: Vec<usize>,
    /// How many steps there were when the pivot was declared, and what it is.
    pivot: Option<(usize, Vec<usize>)>,
    /// A name that was none of a step.
    missed: Option<String>,
}

impl Graph {
    pub(crate) fn push(&mut self) {
        let place = self.after.len();
        self.after
            .push(std::mem::replace(&mut self.ends, vec![place]));
    }

    pub(crate) fn ends(&self) -> &[usize] {
        &self.ends
    }

    pub(crate) fn go_on_from(&mut self, ends: Vec<usize>) {
        self.ends = ends;
    }

    pub(crate) fn pivot(&mut self) {
        self.pivot = Some((self.after.len(), self.ends.clone()));
    }

    pub(crate) const fn has_pivot(&self) -> bool {
        self.pivot.is_some()
    }

    pub(crate) fn misses(&mut self, name: &str) {
        self.missed.get_or_insert_with(|| name.to_owned());
    }

    pub(crate) fn missed(&self) -> Option<&str> {
        self.missed.as_deref()
    }

    /// What a step directly comes after, unless that is the one that was added before it.
    pub(crate) fn unless_in_a_row(&self, place: usize) -> Option<&[usize]> {
        let after = self.after.get(place)?.as_slice();
        let in_a_row = match place.checked_sub(1) {
            Some(last) => after == [last],
            None => after.is_empty(),
        };
        (!in_a_row).then_some(after)
    }

    /// Of each step all that comes before it.
    pub(crate) fn before(&self) -> Before {
        let mut before: Vec<Vec<usize>> = Vec::with_capacity(self.after.len());
        for after in &self.after {
            let all = closed(after, &before);
            before.push(all);
        }
        before.into()
    }

    /// The first step behind the pivot, or one that may be done beside the pivot.
    pub(crate) fn forward_from(&self, before: &Before) -> Result<usize, usize> {
        let count = self.after.len();
        let Some((from, pivot)) = &self.pivot else {
            return Ok(count);
        };
        let until: Vec<usize> = (0..*from).collect();
        let with = closed(pivot, before);
        let missing = |all: &[usize]| {
            let is_missing = |it: &&usize| all.binary_search(it).is_err();
            until.iter().find(is_missing).copied()
        };
        if let Some(beside) = missing(&with) {
            return Err(beside);
        }
        match (*from..count).find(|place| missing(&before[*place]).is_some()) {
            Some(beside) => Err(beside),
            None => Ok(*from),
        }
    }
}

/// These, and all that come before them, in order.
fn closed(these: &[usize], before: &[Vec<usize>]) -> Vec<usize> {
    let mut all = these.to_vec();
    for it in these {
        all.extend(before.get(*it).into_iter().flatten());
    }
    all.sort_unstable();
    all.dedup();
    all
}
