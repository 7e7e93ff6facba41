//! Change of the user that the process runs as (`-u`).

use nix::errno::Errno;
use nix::unistd::{Uid, User, getgroups, getresgid, getresuid, setgid, setgroups, setuid};

use crate::process::error::ProcessError;

/// Changes to the user `name` and drops all other privileges permanently.
///
/// # Errors
///
/// The user does not exist, the system refuses a change, or privileges are left
/// afterwards.
pub(super) fn assume_user(name: &str) -> Result<(), ProcessError> {
    let user = find_user(name)?;
    // Groups first and the user last: only root may change groups.
    match setgroups(&[]) {
        // Without permission there may be nothing to drop, which is verified
        // below.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(error) => return Err(ProcessError::Groups(error)),
    }
    setgid(user.gid)
        .and_then(|()| setuid(user.uid))
        .map_err(|error| ProcessError::Identity(name.to_owned(), error))?;
    match is_only(&user) {
        true => Ok(()),
        false => Err(ProcessError::StillPrivileged(name.to_owned())),
    }
}

/// Returns whether the process has only the IDs and the group of `user`, and
/// cannot become root again.
fn is_only(user: &User) -> bool {
    let root = Uid::from_raw(0);
    let users = getresuid().map(|ids| [ids.real, ids.effective, ids.saved]);
    let groups = getresgid().map(|ids| [ids.real, ids.effective, ids.saved]);
    users == Ok([user.uid; 3])
        && groups == Ok([user.gid; 3])
        && getgroups().is_ok_and(|groups| groups.iter().all(|group| *group == user.gid))
        && (user.uid == root || setuid(root).is_err())
}

/// Looks up a user by name.
pub(super) fn find_user(name: &str) -> Result<User, ProcessError> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user),
        _ => Err(ProcessError::UnknownUser(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::find_user;
    use crate::process::error::ProcessError;

    #[test]
    fn unknown_user_has_memcached_s_exit_code() {
        let error = find_user("no-such-user-here").expect_err("nobody has this name");
        assert_eq!(error, ProcessError::UnknownUser("no-such-user-here".into()));
        assert_eq!(error.exit_code(), 67);
        assert!(find_user("root").is_ok());
    }
}
