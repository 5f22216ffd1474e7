//! The servers that the tests need, and what else of Debian's.

mod install;
mod standing;
mod started;

use std::{
    any::Any,
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use buttress_testkit::{faketime, mysql, nats, postgres, programs::NotFound, rabbitmq, redis};

use self::install::Installer;
pub(crate) use self::started::Started;

/// It knows no `--version`: asked for it, it would start. Its folder says it.
const RABBITMQ: &str = "rabbitmq-server";

/// A kind of server: how it is found, installed and started.
pub(crate) struct Server {
    pub(crate) program: &'static str,
    /// The variable that hands one to the tests.
    pub(crate) url_variable: &'static str,
    /// The Debian package that has it.
    package: &'static str,
    /// A file and its text that must stand while the package is installed.
    preset: Option<(&'static str, &'static str)>,
    find: fn() -> Result<PathBuf, NotFound>,
    /// `None` for what is no server, and needs only be there.
    pub(crate) start: Option<fn() -> Result<Running>>,
}

/// A server that runs until this value is dropped.
pub(crate) struct Running {
    pub(crate) url: String,
    _server: Box<dyn Any>,
}

/// All of them.
pub(crate) fn all() -> [Server; 6] {
    [
        Server {
            program: "postgres",
            url_variable: postgres::URL_VARIABLE,
            package: "postgresql",
            // Else the package makes a cluster of its own, which nobody here would use.
            preset: Some((
                "/etc/postgresql-common/createcluster.d/buttress-xtask.conf",
                "create_main_cluster = false\n",
            )),
            find: || postgres::find().map(|folder| folder.join("postgres")),
            start: Some(|| {
                let server = postgres::Server::start()?;
                Ok(Running::new(server.url("postgres"), server))
            }),
        },
        Server {
            program: "mariadbd",
            url_variable: mysql::URL_VARIABLE,
            package: "mariadb-server",
            preset: None,
            find: || mysql::find().map(|programs| programs.server),
            start: Some(|| {
                let server = mysql::Server::start()?;
                Ok(Running::new(server.url("mysql"), server))
            }),
        },
        Server {
            program: "redis-server",
            url_variable: redis::URL_VARIABLE,
            package: "redis-server",
            preset: None,
            find: redis::find,
            start: Some(|| {
                let server = redis::Server::start()?;
                Ok(Running::new(server.url(), server))
            }),
        },
        Server {
            program: "nats-server",
            url_variable: nats::URL_VARIABLE,
            package: "nats-server",
            preset: None,
            find: nats::find,
            start: Some(|| {
                let server = nats::Server::start()?;
                Ok(Running::new(server.url(), server))
            }),
        },
        Server {
            program: RABBITMQ,
            url_variable: rabbitmq::URL_VARIABLE,
            package: "rabbitmq-server",
            preset: None,
            find: rabbitmq::find,
            start: Some(|| {
                let server = rabbitmq::Server::start()?;
                Ok(Running::new(server.url(), server))
            }),
        },
        Server {
            program: "libfaketime",
            url_variable: faketime::LIBRARY_VARIABLE,
            package: "libfaketime",
            preset: None,
            find: faketime::find,
            start: None,
        },
    ]
}

impl Running {
    fn new(url: String, server: impl Any) -> Self {
        Self {
            url,
            _server: Box::new(server),
        }
    }
}

impl Server {
    /// Whether the environment gives one, so that none of ours is needed.
    pub(crate) fn is_given(&self) -> bool {
        env::var_os(self.url_variable).is_some_and(|url| !url.is_empty())
    }

    /// What it says of its version, in a line.
    pub(crate) fn version(&self) -> String {
        if self.is_given() {
            return format!("{}, given", self.program);
        }
        let told = (self.find)().ok().and_then(|program| {
            let told = match self.program {
                RABBITMQ => program.canonicalize().ok()?.display().to_string(),
                _ => version(&program).ok()?,
            };
            // `Ver 10.11.19-MariaDB`, `(PostgreSQL) 15.18`, `v=7.0.15`, `rabbitmq_server-3.10.8`.
            let (_, rest) = told.split_at(told.find(|it: char| it.is_ascii_digit())?);
            let is_of_it = |it: char| it.is_ascii_digit() || it == '.';
            let end = rest.find(|it| !is_of_it(it)).unwrap_or(rest.len());
            Some(format!("{} {}", self.program, &rest[..end]))
        });
        told.unwrap_or_else(|| format!("{}, of unknown version", self.program))
    }

    fn is_missing(&self) -> bool {
        !self.is_given() && (self.find)().is_err()
    }
}

/// Stops unless every server is there, given or, if that is wanted, installed now.
pub(crate) fn require(servers: &[Server], install: bool) -> Result<()> {
    let missing = || servers.iter().filter(|server| server.is_missing());
    let programs: Vec<_> = missing().map(|server| server.program).collect();
    if programs.is_empty() {
        return Ok(());
    }
    if !install {
        bail!(
            "not installed: {}. This installs it:\n\n    cargo xtask servers --install\n",
            programs.join(", ")
        );
    }
    let packages: Vec<_> = missing().map(|server| server.package).collect();
    let presets: Vec<_> = missing().filter_map(|server| server.preset).collect();
    Installer::of_this_system().install(&packages, &presets)?;
    if let Some(server) = missing().next() {
        bail!("{} has no {}", server.package, server.program);
    }
    Ok(())
}

/// Prints what is here, and what would be installed.
pub(crate) fn list(servers: &[Server]) {
    let mut packages = Vec::new();
    for server in servers {
        let program = server.program;
        if server.is_given() {
            println!("{program}: given by {}", server.url_variable);
            continue;
        }
        match (server.find)() {
            Ok(path) => {
                if server.start.is_none() || program == RABBITMQ {
                    println!("{program}: {}", path.display());
                    continue;
                }
                let version = version(&path);
                let version = version.unwrap_or_else(|error| format!("({error:#})"));
                println!("{program}: {}, {version}", path.display());
            }
            Err(not_found) => {
                println!("{program}: {not_found}");
                packages.push(server.package);
            }
        }
    }
    if !packages.is_empty() {
        println!(
            "\nThis installs, with apt-get, {}:\n\n    cargo xtask servers --install\n",
            packages.join(" ")
        );
    }
}

fn version(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .context("it does not run")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
