//! The published crates, as whoever takes them from a registry finds them.

mod scratch;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use self::scratch::Scratch;
use crate::cargo::Cargo;

/// A crate as it goes to a registry, unpacked.
#[derive(Debug)]
struct Packed {
    name: String,
    version: String,
    folder: PathBuf,
}

/// Packs every published crate, and builds and runs the tour with nothing but the packages.
pub(crate) fn check(cargo: &Cargo) -> Result<()> {
    let packed = pack(cargo)?;
    let scratch = Scratch::write(&packed, cargo.root())?;
    scratch.run_the_tour()
}

/// Packs them, in the order in which they need each other, and unpacks them again.
///
/// Cargo's own verification builds each without a feature, which is next to nothing here: the
/// tour is the verification.
fn pack(cargo: &Cargo) -> Result<Vec<Packed>> {
    let into = cargo.root().join("target/packed");
    let names: Vec<_> = cargo.published().map(|package| &*package.name).collect();
    // What is being worked on is packed too.
    let mut words = vec!["--no-verify", "--allow-dirty", "--quiet", "--target-dir"];
    words.push(into.to_str().context("the path is no UTF-8")?);
    words.extend(names.iter().flat_map(|name| ["--package", name]));
    cargo.run("package", words, &[])?;
    let unpacked = into.join("unpacked");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked)?;
    }
    fs::create_dir_all(&unpacked)?;
    let one = |package: &cargo_metadata::Package| {
        let (name, version) = (package.name.to_string(), package.version.to_string());
        let archive = into.join(format!("package/{name}-{version}.crate"));
        unpack(&archive, &unpacked)?;
        let folder = unpacked.join(format!("{name}-{version}"));
        complete(&folder)?;
        Ok(Packed {
            name,
            version,
            folder,
        })
    };
    cargo.published().map(one).collect()
}

fn unpack(archive: &Path, into: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("--extract")
        .arg("--gzip")
        .arg("--file")
        .arg(archive);
    let status = tar.arg("--directory").arg(into).status().context("tar")?;
    if !status.success() {
        bail!("{} does not unpack", archive.display());
    }
    Ok(())
}

/// What a reader of a registry's page, and a lawyer, look for.
fn complete(folder: &Path) -> Result<()> {
    for file in [
        "Cargo.toml",
        "README.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "src/lib.rs",
    ] {
        if !folder.join(file).is_file() {
            bail!("{} is not in the package", folder.join(file).display());
        }
    }
    Ok(())
}
