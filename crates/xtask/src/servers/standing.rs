//! A file that stands for a while, and is taken away whatever happens.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use buttress_testkit::afterwards::Afterwards;

/// What takes the files and the folders away: those that it was told of, in that order. A folder
/// that somebody has put something into stays.
const TAKE_AWAY: &str = r#"
printf '%s\n' "$told" | while IFS= read -r path; do
    if [ -d "$path" ]; then rmdir "$path" 2>/dev/null; else rm -f "$path"; fi
done"#;

/// A file that stands as long as this value, or this process: a killed one leaves nothing.
#[derive(Debug)]
pub(super) struct Standing {
    _taken_away: Afterwards,
}

impl Standing {
    /// Places a file with `text`, and the folders that it needs.
    ///
    /// A file that is already there is left as it is, and stays: then this is `None`.
    pub(super) fn place(path: &Path, text: &str, mode: u32) -> Result<Option<Self>> {
        let nothing: [&str; 0] = [];
        let mut taken_away = Afterwards::new(TAKE_AWAY, nothing).context("no shell")?;
        let context = || format!("cannot place {}", path.display());
        let absent: Vec<&Path> = path
            .ancestors()
            .skip(1)
            .take_while(|it| !it.exists())
            .collect();
        for folder in absent.iter().rev() {
            DirBuilder::new()
                .mode(0o755)
                .create(folder)
                .with_context(context)?;
        }
        let placed = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path);
        let mut file = match placed {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error).with_context(context),
        };
        for each in [path].iter().chain(&absent) {
            taken_away
                .tell(&each.display().to_string())
                .with_context(context)?;
        }
        file.write_all(text.as_bytes()).with_context(context)?;
        Ok(Some(Self {
            _taken_away: taken_away,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_file_and_its_folders_stand_for_as_long_as_the_value() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("not yet/a folder/file");
        let standing = Standing::place(&path, "text", 0o755).unwrap();
        assert!(standing.is_some());
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o700,
            0o700
        );
        drop(standing);
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_was_there_before_is_neither_changed_nor_taken_away() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("file");
        fs::write(&path, "theirs").unwrap();
        let standing = Standing::place(&path, "ours", 0o644).unwrap();
        assert!(standing.is_none());
        drop(standing);
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    }

    #[test]
    fn a_folder_that_got_another_guest_stays() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("folder/file");
        let standing = Standing::place(&path, "ours", 0o644).unwrap();
        let guest = room.path().join("folder/guest");
        fs::write(&guest, "theirs").unwrap();
        drop(standing);
        assert!(!path.exists());
        assert!(guest.exists());
    }
}
