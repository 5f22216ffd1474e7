//! The account a server runs under: servers refuse to run as root.

use nix::{
    errno::Errno,
    unistd::{Uid, User},
};

/// Who takes a server that has no account of its own.
const NOBODY: &str = "nobody";

/// The account for a server whose package gives it the account `own`.
///
/// `None` means our own, because we are not root and could not change it; a root gets the
/// server's own account where it exists, and `nobody` where it does not.
///
/// # Errors
///
/// When the system's list of users cannot be read, or lacks both.
pub(crate) fn for_server(own: &str) -> Result<Option<User>, Errno> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in [own, NOBODY] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    Err(Errno::ENOENT)
}
