//! Everything that can be seen from outside, a file per subject.
