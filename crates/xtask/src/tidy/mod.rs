//! The shape of the house, as a test: each rule in a file of its own.

mod code;
mod doc_line;
mod edges;
mod examples;
mod facade;
mod figures;
mod forbidden;
mod licences;
mod links;
mod machine;
mod manifests;
mod named_tests;
mod names;
mod observability;
mod readme;
mod rooms;
mod sizes;
mod sql;
mod top_level;
mod tree;

use std::fmt;

use anyhow::{Result, bail};

pub(crate) use self::tree::Tree;
use crate::cargo::Cargo;

/// A rule over the files.
type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: &[Rule] = &[
    top_level::check,
    names::check,
    observability::check,
    doc_line::check,
    rooms::check,
    sizes::check,
    machine::check,
    forbidden::check,
    sql::check,
    manifests::check,
    licences::check,
    links::check,
    readme::check,
    examples::check,
    figures::check,
    named_tests::check,
];

/// Checks this workspace against all rules.
pub(crate) fn check(cargo: &Cargo) -> Result<()> {
    let tree = Tree::read(cargo.root())?;
    let mut findings = edges::check(&edges::of(cargo));
    findings.extend(facade::check(cargo));
    for rule in RULES {
        findings.extend(rule(&tree));
    }
    if findings.is_empty() {
        println!("{} files are in order", tree.files().len());
        return Ok(());
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    bail!("{} findings", findings.len());
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// Counted from 1; 0 stands for the whole file.
    line: usize,
    what: String,
}

impl Finding {
    /// About a line of a file.
    fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
        }
    }

    /// About a file or a folder.
    fn about(path: &str, what: impl Into<String>) -> Self {
        Self::at(path, 0, what)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.what)
    }
}
