//! What can be seen from outside, a file per subject.

mod canary;
mod extractors;
mod garde;
mod layer;
mod layer_twice;
mod log;
mod over_tcp;
mod render;
mod stack;
mod vectors;
