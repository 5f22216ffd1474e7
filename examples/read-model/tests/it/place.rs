//! A fresh database, and the program beside it.

use std::{any::Any, time::Duration};

use buttress_testkit::{
    child::{Child, Spawn},
    eventually::eventually_as,
    postgres,
};
use read_model::{
    commands::Shop,
    database::Database,
    queries::{Customers, Queries},
    traffic::Traffic,
};

/// The program reads it.
pub(crate) const URL: &str = "READ_MODEL_DATABASE_URL";

pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) database: Database,
    pub(crate) queries: Queries,
    _keep: Box<dyn Any + Send>,
}

impl Place {
    async fn at(url: String, keep: Box<dyn Any + Send>) -> Self {
        let database = Database::connect(&url).await.unwrap();
        Self {
            url,
            queries: Queries::new(database.clone()),
            database,
            _keep: keep,
        }
    }

    pub(crate) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        Self::at(url, Box::new(folder)).await
    }

    pub(crate) async fn on_postgres() -> Option<Self> {
        let fresh = postgres::fresh_database().await?;
        Some(Self::at(fresh.url().to_owned(), Box::new(fresh)).await)
    }

    pub(crate) fn shop(&self) -> Shop {
        Shop::new(self.database.clone())
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic::new(self.shop())
    }

    /// The program, told to do this.
    pub(crate) fn program(&self, command: &str) -> Spawn {
        Child::program(command, env!("CARGO_BIN_EXE_read-model"))
            .argument(command)
            .environment(URL, &self.url)
    }

    /// Waits until the read model has taken all events, and says what it has.
    pub(crate) async fn caught_up(&self) -> Customers {
        let patience = Duration::from_secs(60);
        eventually_as("it has caught up", patience, async || {
            match self.queries.lag().await.unwrap().events {
                0 => Ok(()),
                events => Err(format!("{events} events behind")),
            }
        })
        .await;
        self.queries.customers().await.unwrap()
    }
}

/// What several did together.
pub(crate) fn sum<'t>(all: impl IntoIterator<Item = &'t Traffic>) -> Customers {
    let mut sum = Customers::new();
    for (name, customer) in all.into_iter().flat_map(Traffic::folded) {
        let entry = sum.entry(name.clone()).or_default();
        entry.open += customer.open;
        entry.shipped += customer.shipped;
        entry.cancelled += customer.cancelled;
        entry.spent += customer.spent;
    }
    sum
}
