//! What was left out is said last.

use std::io::Read as _;

use crate::role::Role;

#[test]
fn what_was_left_out_is_said_once_and_after_everything_else() {
    let mut role = Role::play(&["leave-out"], None);
    assert_eq!(role.line(), "the role's last words");
    let mut error = String::new();
    let mut stderr = role.child.stderr.take().unwrap();
    // Ends when the last process that has it, the speaker, is gone: nothing hangs.
    stderr.read_to_string(&mut error).unwrap();
    assert_eq!(
        error,
        "the role's last error\nleft out: the moon: it is far\nleft out: the sun: it is hot\n"
    );
}
