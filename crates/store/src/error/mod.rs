//! What can go wrong: in a store, and with its tables.

mod migrate;
mod store;

pub use self::{
    migrate::MigrateError,
    store::{DriverError, StoreError},
};
