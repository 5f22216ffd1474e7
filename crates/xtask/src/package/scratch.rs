//! A project outside the workspace that knows the packages alone.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use toml::{Table, Value};

use super::Packed;

const FACADE: &str = "buttress";
const TOUR: &str = "tour";

/// The tour as a program of a stranger's.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    target: PathBuf,
}

impl Scratch {
    /// Writes it beside the packages. It has the versions that are checked in at `root`.
    pub(super) fn write(packed: &[Packed], root: &Path) -> Result<Self> {
        let facade = packed.iter().find(|crate_| crate_.name == FACADE);
        let facade = facade.context("the facade is not among the packages")?;
        let manifest = fs::read_to_string(facade.folder.join("Cargo.toml"))?;
        let folder = root.join("target/packed/scratch");
        fs::create_dir_all(folder.join("src"))?;
        let mut manifest = manifest_for(&manifest.parse()?, packed)?;
        // Built as others are built here, so that what they share is not built again.
        let workspace: Table = fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
        manifest.insert("profile".into(), workspace["profile"].clone());
        fs::write(folder.join("Cargo.toml"), manifest.to_string())?;
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
        let tour = facade.folder.join(format!("examples/{TOUR}.rs"));
        fs::copy(tour, folder.join("src/main.rs"))?;
        Ok(Self {
            folder,
            target: root.join("target"),
        })
    }

    /// Builds it, starts it, and sends it what its first lines say.
    pub(super) fn run_the_tour(&self) -> Result<()> {
        println!("$ cargo build  (of the tour, by the packages)");
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--target-dir"])
            .arg(&self.target);
        let built = build.current_dir(&self.folder).status().context("cargo")?;
        ensure!(built.success(), "the tour does not build by the packages");
        let mut running = Running::start(&self.target.join("debug/buttress-scratch"))?;
        let url = running.url()?;
        let order = || {
            let request = ureq::post(format!("{url}/orders"))
                .header("idempotency-key", "k1")
                .header("content-type", "application/json");
            let mut answer = request.send(r#"{"item": "lamp", "amount": 1999}"#)?;
            ensure!(answer.status() == 202, "an order gets {}", answer.status());
            let replayed = answer.headers().contains_key("idempotency-replayed");
            anyhow::Ok((answer.body_mut().read_to_string()?, replayed))
        };
        let (first, second) = (order()?, order()?);
        ensure!(!first.1 && second.1, "the second order is no replay");
        ensure!(first.0 == second.0, "the replay is another answer");
        let mut rate = ureq::get(format!("{url}/rates/SEK")).call()?;
        let rate = rate.body_mut().read_to_string()?;
        ensure!(rate.contains("300"), "the rate is {rate}");
        Ok(())
    }
}

/// The facade with the features of its tour, and what else the tour uses, by version; the family
/// from where it was unpacked.
fn manifest_for(facade: &Table, packed: &[Packed]) -> Result<Table> {
    let examples = facade["example"].as_array().context("no example")?;
    let tour = examples
        .iter()
        .find(|example| example["name"].as_str() == Some(TOUR));
    let features = tour.context("no tour")?["required-features"].clone();
    let mut dependencies = facade["dev-dependencies"]
        .as_table()
        .context("none")?
        .clone();
    let mut family = Table::new();
    for Packed {
        name,
        version,
        folder,
    } in packed
    {
        let folder = folder.to_str().context("the path is no UTF-8")?;
        family.insert(name.clone(), table([("path", folder.into())]));
        if name == FACADE {
            let version = format!("={version}").into();
            let facade = table([("version", version), ("features", features.clone())]);
            dependencies.insert(name.clone(), facade);
        }
    }
    let package = [
        ("name", "buttress-scratch".into()),
        ("version", "0.0.0".into()),
        ("edition", "2024".into()),
    ];
    Ok(Table::from_iter([
        ("package".into(), table(package)),
        ("workspace".into(), table([])),
        ("dependencies".into(), dependencies.into()),
        ("patch".into(), table([("crates-io", family.into())])),
    ]))
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.map(|(key, value)| (key.to_owned(), value));
    Table::from_iter(entries).into()
}

/// Ends with this value.
struct Running(Child);

impl Running {
    fn start(program: &Path) -> Result<Self> {
        let mut tour = Command::new(program);
        let tour = tour.arg("127.0.0.1:0").stdout(Stdio::piped());
        Ok(Self(tour.spawn().context("the tour does not start")?))
    }

    /// Its address, which it says first.
    fn url(&mut self) -> Result<String> {
        let said = self.0.stdout.take().context("it was asked before")?;
        let mut lines = BufReader::new(said).lines();
        let first = lines.next().context("the tour ended at once")??;
        // The rest is read, or the tour would wait for somebody to do so.
        std::thread::spawn(move || lines.count());
        match first.strip_prefix("listening on ") {
            Some(url) => Ok(url.to_owned()),
            None => bail!("the tour says {first:?}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
