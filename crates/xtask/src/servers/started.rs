//! The servers of one run, and how its tests find them.

use anyhow::Result;

use super::{Running, Server};

/// One server of each kind, until this value goes.
///
/// A server that the environment gives is passed through, and none is started for it.
pub(crate) struct Started(Vec<(&'static str, Running)>);

impl Started {
    pub(crate) fn start(servers: &[Server]) -> Result<Self> {
        let mut started = Vec::new();
        for server in servers {
            if server.is_given() {
                println!("{}: given by {}", server.program, server.url_variable);
                continue;
            }
            let Some(start) = server.start else {
                continue;
            };
            let running = start()?;
            println!("{}: {}", server.program, running.url);
            started.push((server.url_variable, running));
        }
        Ok(Self(started))
    }

    /// What hands them to the tests.
    pub(crate) fn environment(&self) -> Vec<(&str, &str)> {
        let each = self.0.iter();
        each.map(|(variable, running)| (*variable, running.url.as_str()))
            .collect()
    }
}
