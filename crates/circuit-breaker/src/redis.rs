//! What the redis crate returns, judged: by the tables of [`buttress_store::class`].

pub use buttress_store::{
    Judgement, Phase, StoreErrorKind,
    class::{ByRedis, ByStore, of_redis},
};
