//! The files that the rules look at.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use ignore::WalkBuilder;
use toml::Table;

use super::code::Code;

/// All files of the workspace that git does not ignore.
#[derive(Debug)]
pub(crate) struct Tree {
    files: Vec<File>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct File {
    /// From the root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let walk = WalkBuilder::new(root)
            .hidden(false)
            .filter_entry(|entry| entry.file_name() != ".git")
            .sort_by_file_name(Ord::cmp)
            .build();
        let mut files = Vec::new();
        for entry in walk {
            let entry = entry?;
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            let bytes = fs::read(entry.path())
                .with_context(|| format!("cannot read {}", entry.path().display()))?;
            files.push(File {
                path: entry.path().strip_prefix(root)?.display().to_string(),
                // No rule looks into a file that is not text.
                text: String::from_utf8(bytes).unwrap_or_default(),
            });
        }
        Ok(Self { files })
    }

    /// A planted tree.
    #[cfg(test)]
    pub(crate) fn planted(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        Self {
            files: files.iter().map(file).collect(),
        }
    }

    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    pub(crate) fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The folder and the manifest of every package of the workspace, the unreadable left out.
    pub(crate) fn packages(&self) -> impl Iterator<Item = (&str, Table)> {
        self.files.iter().filter_map(|file| {
            let folder = file.path.strip_suffix("/Cargo.toml")?;
            let manifest: Table = file.text.parse().ok()?;
            let member = manifest.contains_key("package") && !manifest.contains_key("workspace");
            member.then_some((folder, manifest))
        })
    }

    /// Those that go to a registry.
    pub(crate) fn published(&self) -> impl Iterator<Item = (&str, Table)> {
        self.packages().filter(|(_, manifest)| {
            manifest["package"]
                .get("publish")
                .and_then(toml::Value::as_bool)
                != Some(false)
        })
    }
}

impl File {
    /// Its name without the folders and without `.rs`.
    pub(crate) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".rs").unwrap_or(name)
    }

    /// Its tokens. What is no Rust has none; the compiler says so.
    pub(super) fn code(&self) -> Code {
        Code::read(&self.text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotfiles_are_read_and_what_git_ignores_is_not() {
        let room = tempfile::tempdir().unwrap();
        for (path, text) in [
            (".gitignore", "/target\n"),
            (".git/config", ""),
            (".ci/run", "cargo"),
            ("target/debug/big.rs", ""),
            ("crates/one/src/lib.rs", "//! One."),
        ] {
            let path = room.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Tree::read(room.path()).unwrap();
        let paths: Vec<_> = tree.files().iter().map(|it| it.path.as_str()).collect();
        assert_eq!(paths, [".ci/run", ".gitignore", "crates/one/src/lib.rs"]);
        assert_eq!(tree.get("crates/one/src/lib.rs").unwrap().text, "//! One.");
    }
}
