//! Another wall clock for one process, by Debian's libfaketime.

use std::{env, fs, path::PathBuf};

use crate::programs::NotFound;

/// The variable that gives the library where Debian does not have it.
pub const LIBRARY_VARIABLE: &str = "BUTTRESS_TEST_FAKETIME";

const LIBRARY: &str = "libfaketime.so.1";

/// The library to be preloaded (`LD_PRELOAD`): the one that [`LIBRARY_VARIABLE`] names, or Debian's,
/// which lies in a folder of the machine's architecture.
///
/// # Errors
///
/// [`NotFound`] when there is none.
pub fn find() -> Result<PathBuf, NotFound> {
    let given = env::var_os(LIBRARY_VARIABLE).filter(|it| !it.is_empty());
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let debians = folders.map(|folder| folder.path().join("faketime").join(LIBRARY));
    given
        .map(PathBuf::from)
        .into_iter()
        .chain(debians)
        .find(|library| library.is_file())
        .ok_or_else(|| NotFound::new(LIBRARY, "/usr/lib/*/faketime"))
}
