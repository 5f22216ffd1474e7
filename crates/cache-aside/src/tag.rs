//! Tags: an invalidation is one number, whatever it hits.
//!
//! There is one counter. A load begins with its last number; an invalidation takes the next, and writes it
//! into the tag's cell (or, for all entries, into a cell that every read looks at). An entry whose number is
//! smaller than that of one of its cells is of the past. So nothing is searched, and a load that is under
//! way is hit as well: it finds the cells of its tags when it ends.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use crate::machine::is_fenced;

/// Fewer cells than this are never swept.
const FEW: usize = 1024;

/// What is known of one tag.
pub(crate) struct TagCell {
    name: Box<str>,
    invalidated: AtomicU64,
}

impl TagCell {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether what was born then was invalidated by this tag.
    #[inline]
    pub(crate) fn fences(&self, born: u64) -> bool {
        is_fenced(born, self.invalidated.load(SeqCst))
    }
}

impl fmt::Debug for TagCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name is the user's data.
        f.debug_struct("TagCell").finish_non_exhaustive()
    }
}

/// All tags of a cache.
pub(crate) struct Tags {
    counter: AtomicU64,
    /// What was born before this is of the past, whatever its tags.
    cleared: AtomicU64,
    table: Mutex<Table>,
}

struct Table {
    cells: HashMap<Box<str>, Arc<TagCell>, foldhash::quality::RandomState>,
    /// No cell that was forgotten said more than this. A new cell begins with it.
    floor: u64,
    sweep_at: usize,
}

impl Tags {
    pub(crate) fn new() -> Self {
        Self {
            counter: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
            table: Mutex::new(Table {
                cells: HashMap::default(),
                floor: 0,
                sweep_at: FEW,
            }),
        }
    }

    /// The number with which a load or a write begins.
    pub(crate) fn now(&self) -> u64 {
        self.counter.load(SeqCst)
    }

    /// Everything that was born before is of the past.
    pub(crate) fn clear(&self) {
        let number = self.next();
        self.cleared.fetch_max(number, SeqCst);
    }

    /// Whether what was born then was cleared.
    #[inline]
    pub(crate) fn is_cleared(&self, born: u64) -> bool {
        is_fenced(born, self.cleared.load(SeqCst))
    }

    /// Everything of this tag that was born before is of the past.
    pub(crate) fn invalidate(&self, name: &str) {
        let mut table = self.table();
        let number = self.next();
        let cell = table.cell(name);
        cell.invalidated.fetch_max(number, SeqCst);
    }

    /// The cells of these tags; an entry keeps them.
    pub(crate) fn cells(&self, names: &[Box<str>]) -> Box<[Arc<TagCell>]> {
        if names.is_empty() {
            return Box::default();
        }
        let mut table = self.table();
        names.iter().map(|name| table.cell(name)).collect()
    }

    /// How many tags are known.
    pub(crate) fn known(&self) -> usize {
        self.table().cells.len()
    }

    fn next(&self) -> u64 {
        self.counter.fetch_add(1, SeqCst) + 1
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn cell(&mut self, name: &str) -> Arc<TagCell> {
        if let Some(cell) = self.cells.get(name) {
            return Arc::clone(cell);
        }
        if self.cells.len() >= self.sweep_at {
            self.sweep();
        }
        let cell = Arc::new(TagCell {
            name: name.into(),
            invalidated: AtomicU64::new(self.floor),
        });
        self.cells.insert(name.into(), Arc::clone(&cell));
        cell
    }

    /// Forgets the cells that no entry keeps. What they said is kept as the floor: a load that began before
    /// it and brings an unknown tag is taken for outdated, which costs a load and is never wrong.
    fn sweep(&mut self) {
        let mut floor = self.floor;
        self.cells.retain(|_, cell| {
            let is_kept = Arc::strong_count(cell) > 1;
            if !is_kept {
                floor = floor.max(cell.invalidated.load(SeqCst));
            }
            is_kept
        });
        self.floor = floor;
        self.sweep_at = (self.cells.len() * 2).max(FEW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Vec<Box<str>> {
        vec![name.into()]
    }

    #[test]
    fn a_load_under_way_is_hit_by_a_tag_that_nobody_knew() {
        let tags = Tags::new();
        let born = tags.now();
        tags.invalidate("x");
        let after = tags.now();
        let cells = tags.cells(&named("x"));
        assert!(cells[0].fences(born));
        assert!(!cells[0].fences(after));
    }

    #[test]
    fn clearing_hits_what_was_born_before_it_only() {
        let tags = Tags::new();
        let born = tags.now();
        tags.clear();
        assert!(tags.is_cleared(born));
        assert!(!tags.is_cleared(tags.now()));
    }

    #[test]
    fn a_flood_of_tags_is_forgotten_and_what_they_fenced_stays_fenced() {
        let tags = Tags::new();
        let kept = tags.cells(&named("kept"));
        let born = tags.now();
        for number in 0..10 * FEW {
            tags.invalidate(&format!("made up {number}"));
        }
        assert!(tags.known() <= 2 * FEW, "{}", tags.known());
        // The first was certainly forgotten, and is remembered by the floor.
        assert!(tags.cells(&named("made up 0"))[0].fences(born));
        assert!(!tags.cells(&named("made up 0"))[0].fences(tags.now()));
        // One that is in use was not forgotten, and was never invalidated.
        assert!(!tags.cells(&named("kept"))[0].fences(born));
        assert!(Arc::ptr_eq(&kept[0], &tags.cells(&named("kept"))[0]));
    }
}
