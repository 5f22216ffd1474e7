//! What sqlx returns, judged: by the tables of [`buttress_store::class`].

pub use buttress_store::{
    Judgement, Phase, StoreErrorKind,
    class::{BySqlx, ByStore, of_sqlx},
};
