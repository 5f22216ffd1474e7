//! Where messages come from, on the other side of a broker: what hands them to whoever takes them.

pub mod nats;
