//! Where a server's programs are installed.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// No installation has the programs that are needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no installation of {name} in PATH nor in {places}")]
pub struct NotFound {
    name: &'static str,
    places: String,
}

impl NotFound {
    pub(crate) fn new(name: &'static str, places: &str) -> Self {
        Self {
            name,
            places: places.to_owned(),
        }
    }

    /// The program that was looked for.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// The folder of the first installation that has the program `name` and all of `companions`:
/// looked for in `PATH`, then in `places`, in order.
///
/// Links are followed first, because companions lie beside the program itself and must be of the
/// same version; a wrapper script that stands alone is passed over.
///
/// # Errors
///
/// [`NotFound`] when there is none.
pub fn find(
    name: &'static str,
    companions: &[&str],
    places: &[PathBuf],
) -> Result<PathBuf, NotFound> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = env::split_paths(&path).collect();
    find_in(name, companions, path.iter().chain(places)).ok_or_else(|| NotFound {
        name,
        places: places
            .iter()
            .map(|place| place.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
    })
}

fn find_in<'a>(
    name: &str,
    companions: &[&str],
    folders: impl Iterator<Item = &'a PathBuf>,
) -> Option<PathBuf> {
    folders
        .filter_map(|folder| folder.join(name).canonicalize().ok())
        .filter(|program| is_program(program))
        .filter_map(|program| program.parent().map(Path::to_path_buf))
        .find(|home| {
            [name]
                .iter()
                .chain(companions)
                .all(|each| is_program(&home.join(each)))
        })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// The folders `parent/<version>/child` that exist, the newest version first.
///
/// Debian keeps several versions of a server side by side in such folders.
#[must_use]
pub fn versioned(parent: &Path, child: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut versions: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name();
            let numbers: Result<_, _> = name.to_str()?.split('.').map(str::parse).collect();
            Some((numbers.ok()?, entry.path().join(child)))
        })
        .filter(|(_, folder)| folder.is_dir())
        .collect();
    versions.sort_by(|one, other| other.0.cmp(&one.0));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn plant(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_newest_version_comes_first_by_number_not_by_letter() {
        let room = tempfile::tempdir().unwrap();
        for version in ["9.6", "16", "9.10", "common"] {
            fs::create_dir_all(room.path().join(version).join("bin")).unwrap();
        }
        fs::create_dir(room.path().join("17")).unwrap();
        let found = versioned(room.path(), "bin");
        let names: Vec<_> = found
            .iter()
            .map(|folder| folder.strip_prefix(room.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["16/bin", "9.10/bin", "9.6/bin"]);
        assert!(versioned(&room.path().join("absent"), "bin").is_empty());
    }

    #[test]
    fn companions_are_taken_from_the_same_installation() {
        let room = tempfile::tempdir().unwrap();
        let room = room.path().canonicalize().unwrap();
        let folders = ["linked", "wrapped", "whole"].map(|name| room.join(name));
        // A link to an installation that lacks the companion, with a stranger's companion beside.
        plant(&room.join("half/server"), 0o755);
        plant(&folders[0].join("init"), 0o755);
        symlink(room.join("half/server"), folders[0].join("server")).unwrap();
        // A wrapper script that stands alone, then one whole installation.
        plant(&folders[1].join("server"), 0o755);
        plant(&folders[2].join("server"), 0o755);
        plant(&folders[2].join("init"), 0o755);
        let found = find_in("server", &["init"], folders.iter());
        assert_eq!(found.as_ref(), Some(&folders[2]));
        // Followed through a link, the folder is the installation's, not the link's.
        let bin = [room.join("bin")];
        fs::create_dir(&bin[0]).unwrap();
        symlink(folders[2].join("server"), bin[0].join("server")).unwrap();
        assert_eq!(
            find_in("server", &["init"], bin.iter()).as_ref(),
            Some(&folders[2])
        );
    }

    #[test]
    fn what_cannot_be_executed_is_no_program() {
        let room = tempfile::tempdir().unwrap();
        plant(&room.path().join("server"), 0o644);
        let folders = [room.path().to_path_buf()];
        assert_eq!(find_in("server", &[], folders.iter()), None);
    }
}
