//! Every store passes one suite.

use std::sync::Arc;

use buttress_saga::{store::MemoryStore, testing::conformance};

use crate::stand;

type Tested = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn memory_conforms() -> Tested {
    Ok(conformance(Arc::new(MemoryStore::new())).await?)
}

#[tokio::test]
async fn postgres_conforms() -> Tested {
    if let Some(stand) = stand::postgres().await? {
        conformance(stand.store.clone()).await?;
        stand.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn mysql_conforms() -> Tested {
    if let Some(stand) = stand::mysql().await? {
        conformance(stand.store.clone()).await?;
        stand.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn sqlite_conforms() -> Tested {
    let stand = stand::sqlite().await?;
    Ok(conformance(stand.store.clone()).await?)
}
