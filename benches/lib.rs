//! Nothing: the benchmarks stand beside this file, one a crate. `cargo bench -p buttress-benches`.
