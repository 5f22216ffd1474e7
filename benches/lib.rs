//! The benchmarks stand beside this file, one a crate. `cargo bench -p buttress-benches`.

/// Whether the command line leaves it in: a word is a part of the names that are wanted.
#[must_use]
pub fn wanted(name: &str) -> bool {
    let mut words = std::env::args()
        .skip(1)
        .filter(|it| !it.starts_with('-'))
        .peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word))
}
