//! Installs Debian packages, without their services being started.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use nix::unistd::Uid;

use super::standing::Standing;

/// Asked by Debian's packages whether they may start their service: 101 means no.
const DENY: &str = "#!/bin/sh\nexit 101\n";

/// How packages are installed here.
pub(super) struct Installer {
    apt_get: PathBuf,
    policy: PathBuf,
    is_root: bool,
}

impl Installer {
    pub(super) fn of_this_system() -> Self {
        Self {
            apt_get: "apt-get".into(),
            policy: "/usr/sbin/policy-rc.d".into(),
            is_root: Uid::effective().is_root(),
        }
    }

    /// Installs `packages` while the files of `presets` stand, and none starts a service.
    ///
    /// A policy about services that is there already is obeyed and left alone.
    pub(super) fn install(&self, packages: &[&str], presets: &[(&str, &str)]) -> Result<()> {
        let mut install = vec!["install", "--yes", "--no-install-recommends"];
        install.extend(packages);
        if !self.is_root {
            bail!(
                "only root installs. This does:\n\n    sudo apt-get {}\n",
                install.join(" ")
            );
        }
        let _denied = Standing::place(&self.policy, DENY, 0o755)?;
        let mut standing = Vec::new();
        for (path, text) in presets {
            standing.push(Standing::place(Path::new(path), text, 0o644)?);
        }
        self.run(&["update"])?;
        self.run(&install)
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        println!("$ apt-get {}", arguments.join(" "));
        let status = Command::new(&self.apt_get)
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .context("apt-get does not run: is this Debian?")?;
        if !status.success() {
            bail!("apt-get {} failed", arguments[0]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A system in a folder, whose apt-get runs `script` and notes its arguments.
    fn system(room: &Path, script: &str) -> Installer {
        let apt_get = room.join("apt-get");
        let note = room.join("note");
        let policy = room.join("policy-rc.d");
        let text = format!(
            "#!/bin/sh\necho \"$@\" >>{note}\n{policy} >/dev/null 2>&1; echo $? >>{note}\n{script}\n",
            note = note.display(),
            policy = policy.display(),
        );
        fs::write(&apt_get, text).unwrap();
        fs::set_permissions(&apt_get, fs::Permissions::from_mode(0o755)).unwrap();
        Installer {
            apt_get,
            policy,
            is_root: true,
        }
    }

    #[test]
    fn packages_are_installed_while_services_are_denied_and_no_trace_is_left() {
        let room = tempfile::tempdir().unwrap();
        let preset = room.path().join("etc/preset.conf");
        let preset = preset.to_str().unwrap();
        let installer = system(
            room.path(),
            &format!("cat {preset} >>{0}/note", room.path().display()),
        );
        installer
            .install(&["one", "two"], &[(preset, "preset\n")])
            .unwrap();
        let note = fs::read_to_string(room.path().join("note")).unwrap();
        assert_eq!(
            note,
            "update\n101\npreset\ninstall --yes --no-install-recommends one two\n101\npreset\n"
        );
        assert!(!installer.policy.exists());
        assert!(!room.path().join("etc").exists());
    }

    #[test]
    fn a_failed_installation_leaves_no_trace_either() {
        let room = tempfile::tempdir().unwrap();
        let installer = system(room.path(), "[ $1 = update ]");
        let error = installer.install(&["one"], &[]).unwrap_err();
        assert_eq!(error.to_string(), "apt-get install failed");
        assert!(!installer.policy.exists());
    }

    #[test]
    fn a_policy_of_the_systems_own_is_obeyed_and_kept() {
        let room = tempfile::tempdir().unwrap();
        let installer = system(room.path(), "");
        let theirs = "#!/bin/sh\nexit 104\n";
        fs::write(&installer.policy, theirs).unwrap();
        fs::set_permissions(&installer.policy, fs::Permissions::from_mode(0o755)).unwrap();
        installer.install(&["one"], &[]).unwrap();
        let note = fs::read_to_string(room.path().join("note")).unwrap();
        assert!(note.contains("104"), "{note}");
        assert_eq!(fs::read_to_string(&installer.policy).unwrap(), theirs);
    }

    #[test]
    fn who_is_not_root_gets_the_command_and_nothing_is_touched() {
        let room = tempfile::tempdir().unwrap();
        let mut installer = system(room.path(), "");
        installer.is_root = false;
        let error = installer.install(&["one"], &[]).unwrap_err().to_string();
        assert!(
            error.contains("sudo apt-get install --yes --no-install-recommends one"),
            "{error}"
        );
        assert!(!room.path().join("note").exists());
    }
}
