//! Whose the state directory is. What is made in it belongs to its owner, whoever makes it: the service runs as a user of its
//! own and must be able to read and replace all of it, also what root made.

use nix::unistd::{Gid, Uid, User, getgroups, setegid, seteuid, setgroups};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why nothing is done in a state directory.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// It is somebody else's, and the coordinator was to run.
    #[error(
        "the state directory {} belongs to user {owner}, and this is user {us}: the coordinator runs as {owner} alone, so that \
         nothing in there becomes another's. Start it with: systemctl start wavegate-coordinator. If {us} is who should run \
         it: chown -R {us}: {}",
        directory.display(), directory.display()
    )]
    RunsAsOther {
        /// The state directory.
        directory: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who runs this.
        us: String,
    },
    /// It is root's, and the coordinator was to run as the user that it has.
    #[error(
        "the state directory {} belongs to root, and this is user {us}, which could not write there: \
         chown -R {us}: {}",
        directory.display(), directory.display()
    )]
    IsRoots {
        /// The state directory.
        directory: PathBuf,
        /// Who runs this.
        us: String,
    },
    /// It is somebody else's, and we are not root.
    #[error(
        "the state directory {} belongs to user {owner}, and this is user {us}; run it with sudo, or as {owner}",
        directory.display()
    )]
    Other {
        /// The state directory.
        directory: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who runs this.
        us: String,
    },
    /// Root may not become its owner.
    #[error("this cannot become user {owner}, whose {} is", directory.display())]
    Become {
        /// The state directory.
        directory: PathBuf,
        /// Whose it is.
        owner: String,
        /// The reason.
        source: io::Error,
    },
}

/// Whether a coordinator may run on this state directory: one that is somebody else's is refused. One that is not there is not
/// this question's business.
///
/// # Errors
/// [`OwnerError::RunsAsOther`], [`OwnerError::IsRoots`].
pub fn may_run(directory: &Path) -> Result<(), OwnerError> {
    let us = Uid::effective();
    let Some((owner, _)) = owner_of(directory).filter(|(owner, _)| *owner != us) else { return Ok(()) };
    let (directory, us) = (directory.to_path_buf(), name(us));
    Err(if owner.is_root() {
        OwnerError::IsRoots { directory, us }
    } else {
        OwnerError::RunsAsOther { directory, owner: name(owner), us }
    })
}

/// Whether the coordinator of this state directory runs without privileges: it is there, and not root's.
#[must_use]
pub fn is_unprivileged(directory: &Path) -> bool {
    owner_of(directory).is_some_and(|(owner, _)| !owner.is_root())
}

/// Does something in a state directory as its owner, which root becomes for that long: so nothing in it is ever root's, and no
/// link that its owner put there leads root elsewhere. For programs with nothing else at work: it is the whole process that
/// becomes somebody else. For root a directory that is yet to be made is its parent's owner's, who could have put something there.
///
/// # Errors
/// [`OwnerError`] if we are neither the owner nor root; and what the work says.
pub fn as_owner<T, E: From<OwnerError>>(
    directory: &Path,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let us = Uid::effective();
    let owner = if us.is_root() { directory.ancestors().find_map(owner_of) } else { owner_of(directory) };
    let Some((owner, group)) = owner.filter(|(owner, _)| *owner != us) else { return work() };
    let (directory, owner_name) = (directory.to_path_buf(), name(owner));
    if !us.is_root() {
        return Err(OwnerError::Other { directory, owner: owner_name, us: name(us) }.into());
    }
    let cannot = |error: nix::Error| OwnerError::Become {
        directory: directory.clone(),
        owner: owner_name.clone(),
        source: error.into(),
    };
    let (groups, our_group) = (getgroups().map_err(cannot)?, Gid::effective());
    setgroups(&[group]).and_then(|()| setegid(group)).and_then(|()| seteuid(owner)).map_err(cannot)?;
    let done = work();
    seteuid(us).and_then(|()| setegid(our_group)).and_then(|()| setgroups(&groups)).map_err(cannot)?;
    done
}

fn owner_of(directory: &Path) -> Option<(Uid, Gid)> {
    let there = std::fs::metadata(directory).ok()?;
    Some((Uid::from_raw(there.uid()), Gid::from_raw(there.gid())))
}

fn name(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or_else(|| format!("uid {user}"), |user| user.name)
}
