//! Money that moves in two operations of a store.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::fault::{Injected, Plan};

/// What is wrong with a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferBug {
    /// Nothing: what it is about to do is written first, and done again by who finds it.
    None,
    /// It takes, and then gives: between the two the money is nowhere.
    HalfDone,
    /// An error is taken for "not done", and done again.
    BlindRetry,
}

/// The store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountsError {
    /// It was told to.
    #[error("injected: {0:?}")]
    Injected(Injected),
    /// It is a file.
    #[error("the file failed")]
    File(#[from] io::Error),
}

/// Two accounts and a note, each a file in a folder, so that they outlive a process. The first has
/// 10 at the beginning, the other nothing.
#[derive(Debug)]
pub struct Accounts {
    bug: TransferBug,
    folder: PathBuf,
    plan: Plan<AccountsError>,
}

impl Accounts {
    /// Those in `folder`, with this bug. Each write is an operation of `plan`.
    #[must_use]
    pub fn new(bug: TransferBug, folder: &Path, plan: Plan<AccountsError>) -> Self {
        Self {
            bug,
            folder: folder.to_path_buf(),
            plan,
        }
    }

    /// Moves 1 from the first account to the other. Dropped, or failed, it may have happened or
    /// not, and [`recover`](Self::recover) brings it to an end.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn transfer(&self) -> Result<(), AccountsError> {
        let (first, other) = (self.first()? - 1, self.other()? + 1);
        match self.bug {
            TransferBug::None => {
                self.write("note", &format!("{first} {other}")).await?;
                self.recover().await
            }
            TransferBug::HalfDone => {
                self.write("first", &first.to_string()).await?;
                self.write("other", &other.to_string()).await
            }
            TransferBug::BlindRetry => {
                if self.add("first", -1).await.is_err() {
                    self.add("first", -1).await?;
                }
                self.add("other", 1).await
            }
        }
    }

    /// Ends what was begun.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn recover(&self) -> Result<(), AccountsError> {
        let note = self.read("note")?;
        if let Some((first, other)) = note.split_once(' ') {
            self.write("first", first).await?;
            self.write("other", other).await?;
            self.write("note", "").await?;
        }
        Ok(())
    }

    /// What both hold together: always 10.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn total(&self) -> Result<i32, AccountsError> {
        Ok(self.first()? + self.other()?)
    }

    fn first(&self) -> Result<i32, AccountsError> {
        Ok(self.read("first")?.parse().unwrap_or(10))
    }

    fn other(&self) -> Result<i32, AccountsError> {
        Ok(self.read("other")?.parse().unwrap_or(0))
    }

    fn read(&self, name: &str) -> Result<String, AccountsError> {
        match fs::read_to_string(self.folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => Ok(other?),
        }
    }

    async fn add(&self, name: &'static str, amount: i32) -> Result<(), AccountsError> {
        let now = if name == "first" {
            self.first()?
        } else {
            self.other()?
        };
        self.write(name, &(now + amount).to_string()).await
    }

    async fn write(&self, name: &'static str, text: &str) -> Result<(), AccountsError> {
        let write = async {
            // A rename is whole or not at all.
            let new = self.folder.join("new");
            fs::write(&new, text)?;
            Ok(fs::rename(new, self.folder.join(name))?)
        };
        self.plan.around(name, write).await
    }
}
