//! What a user of the crate can count on.
