//! The file in which provisioning gives a node its join token: whether it can be believed, and what becomes of it.

use crate::ownership::trusted_directories;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::geteuid;
use std::fs::{File, Metadata, Permissions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use wavegate_proto::token::{BadToken, JoinToken};

/// Bytes of the largest file that is read; a token has less than 200.
const LARGEST: u64 = 4096;
/// What group and others may do with a file.
const OTHERS: u32 = 0o077;
/// What of that lets them know what is in it.
const OTHERS_READ: u32 = 0o044;
/// The mode of a file that its owner alone may use.
const OWNERS_ALONE: u32 = 0o600;

/// What is in the token file's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A token of root's.
    Token(Seen, JoinToken),
    /// Something that is not believed, perhaps because it is being written at this moment: why, and what to do.
    Unfit(Seen, String),
    /// The system does not say.
    Unknown(String),
}

/// A file as it was at one moment; any change to it or its content is a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            // Owner and mode are part of this.
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Looks at the token file. Who can write it, or put a link there, could choose which coordinator root's agent obeys; who can read
/// it could enrol in this node's place.
pub(super) fn look(path: &Path) -> Found {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Found::Nothing;
        }
        Err(error) => return Found::Unknown(error.to_string()),
    };
    let seen = Seen::of(&metadata);
    match judged(path, &metadata) {
        Ok(Ok(token)) => Found::Token(seen, token),
        Ok(Err(why)) => Found::Unfit(seen, why),
        // Taken away since.
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
        Err(error) => Found::Unknown(error.to_string()),
    }
}

/// Whether what was seen is in the token file's place still: somebody may have put another one there since.
pub(super) fn is_still(path: &Path, seen: &Seen) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| Seen::of(&metadata) == *seen)
}

/// The token, or why it is not believed.
fn judged(path: &Path, metadata: &Metadata) -> std::io::Result<Result<JoinToken, String>> {
    if metadata.is_symlink() {
        return Ok(Err("it is a link; write the token into a file of its own".to_owned()));
    }
    if !metadata.is_file() {
        return Ok(Err("it is not a file; write the token into a file".to_owned()));
    }
    let owner = metadata.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        return Ok(Err(format!("it belongs to user {owner}, not to root; let root write it")));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Ok(Err(format!(
            "others than root can use it (mode {mode:04o}), so they may have the token too; write it with mode 0600"
        )));
    }
    let directory = path.parent().unwrap_or(Path::new("/")).canonicalize()?;
    if let Err(untrusted) = trusted_directories(&directory)? {
        return Ok(Err(format!("others could have put it there: {untrusted}")));
    }
    let file = opened(path)?;
    if Seen::of(&file.metadata()?) != Seen::of(metadata) {
        return Ok(Err("it changed while it was read".to_owned()));
    }
    Ok(token_in(file)?.map_err(|error| error.to_string()))
}

/// Neither a link nor a pipe is waited for, if it took the file's place a moment ago.
fn opened(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(open(path, flags, Mode::empty())?))
}

fn token_in(file: File) -> std::io::Result<Result<JoinToken, BadToken>> {
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).parse())
}

/// Where a refused token goes: beside its file, with `.refused` at the end of the name.
pub(super) fn refused(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".refused");
    path.with_file_name(name)
}

/// Gives a file that was put aside to its owner alone, since the token in it may be good for somebody. The token's id, if others could
/// read it before.
pub(super) fn give_to_owner_alone(path: &Path) -> std::io::Result<Option<String>> {
    if !path.symlink_metadata()?.is_file() {
        return Ok(None);
    }
    let file = opened(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    // By another name it may be a file of the system's that others need.
    if metadata.nlink() == 1 {
        file.set_permissions(Permissions::from_mode(OWNERS_ALONE))?;
    }
    let owner = metadata.uid();
    let others_could_read = metadata.mode() & OTHERS_READ != 0 || (owner != 0 && owner != geteuid().as_raw());
    Ok(token_in(file)?.ok().filter(|_| others_could_read).map(|token| token.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn token() -> String {
        format!("wg1.{}.{}.{}", "0a".repeat(8), "5a".repeat(32), "c4".repeat(32))
    }

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).expect("written");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
    }

    /// What is wrong with a file of this text and mode.
    fn unfit(path: &Path) -> String {
        match look(path) {
            Found::Unfit(_, why) => {
                why.replace(&*path.parent().expect("a directory").to_string_lossy(), "DIR")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_of_roots_alone_is_believed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("join-token");
        assert_eq!(look(&path), Found::Nothing);
        assert_eq!(look(&path.join("below")), Found::Nothing);
        for mode in [OWNERS_ALONE, 0o400] {
            write(&path, &format!("{}\n", token()), mode);
            let Found::Token(_, found) = look(&path) else { panic!("{:?}", look(&path)) };
            assert_eq!(found.to_string(), token());
        }
        assert_eq!(look(&path), look(&path), "nothing has changed");
    }

    #[test]
    fn what_others_can_read_write_or_choose_is_not_believed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("join-token");
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            write(&path, &token(), mode);
            let why = unfit(&path);
            assert!(why.contains(&format!("{mode:04o}")) && why.contains("write it with mode 0600"), "{why}");
        }
        write(&path, &token(), OWNERS_ALONE);
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).expect("a mode");
        insta::assert_snapshot!(unfit(&path), @"others could have put it there: DIR can be written by others than its owner; take that from them: chmod go-w DIR");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).expect("a mode");
        let real = directory.path().join("real");
        std::fs::rename(&path, &real).expect("renamed");
        symlink(&real, &path).expect("a link");
        insta::assert_snapshot!(unfit(&path), @"it is a link; write the token into a file of its own");
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("a directory");
        insta::assert_snapshot!(unfit(&path), @"it is not a file; write the token into a file");
        std::fs::remove_dir(&path).expect("removed");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).expect("a pipe");
        insta::assert_snapshot!(unfit(&path), @"it is not a file; write the token into a file");
    }

    #[test]
    fn what_is_half_written_or_no_token_is_told_from_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("join-token");
        let whole = token();
        for text in ["", "wg1.", &whole[..whole.len() - 1], &"x".repeat(10_000)] {
            write(&path, text, OWNERS_ALONE);
            assert!(unfit(&path).contains("not a join token"), "{text}");
        }
        let before = look(&path);
        write(&path, "", OWNERS_ALONE);
        assert_ne!(look(&path), before, "a change shows");
    }

    #[test]
    fn what_took_its_place_is_told_from_what_was_seen() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("join-token");
        write(&path, &token(), OWNERS_ALONE);
        let Found::Token(seen, _) = look(&path) else { panic!("{:?}", look(&path)) };
        assert!(is_still(&path, &seen));
        let other = directory.path().join("other");
        write(&other, &token(), OWNERS_ALONE);
        std::fs::rename(&other, &path).expect("renamed");
        assert!(!is_still(&path, &seen), "the same text in another file");
        std::fs::remove_file(&path).expect("removed");
        assert!(!is_still(&path, &seen));
    }

    #[test]
    fn a_refused_one_has_a_name_of_its_own() {
        assert_eq!(
            refused(Path::new("/etc/wavegate/join-token")),
            Path::new("/etc/wavegate/join-token.refused")
        );
    }

    #[test]
    fn what_is_put_aside_is_its_owners_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("join-token.refused");
        let mode = |path: &Path| path.metadata().expect("metadata").mode() & 0o7777;
        let id = Some("0a".repeat(8));
        for (before, leaked) in [(0o644, &id), (0o640, &id), (0o604, &id), (0o620, &None), (0o600, &None)] {
            write(&path, &token(), before);
            assert_eq!(give_to_owner_alone(&path).expect("given"), *leaked, "{before:o}");
            assert_eq!(mode(&path), OWNERS_ALONE, "{before:o}");
        }
        write(&path, "none", 0o644);
        assert_eq!(give_to_owner_alone(&path).expect("given"), None, "no token has leaked");
        assert_eq!(mode(&path), OWNERS_ALONE);
    }

    #[test]
    fn what_may_be_another_file_is_left_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, real) = (directory.path().join("join-token.refused"), directory.path().join("real"));
        write(&real, &token(), 0o644);
        let untouched = || real.metadata().expect("metadata").mode() & 0o7777 == 0o644;
        symlink(&real, &path).expect("a link");
        assert_eq!(give_to_owner_alone(&path).expect("looked at"), None);
        assert!(untouched(), "a link is not followed");
        std::fs::remove_file(&path).expect("removed");
        std::fs::hard_link(&real, &path).expect("another name");
        assert_eq!(give_to_owner_alone(&path).expect("looked at"), Some("0a".repeat(8)));
        assert!(untouched(), "another name is another's");
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("a directory");
        assert_eq!(give_to_owner_alone(&path).expect("looked at"), None);
        assert!(give_to_owner_alone(&path.join("none")).is_err());
    }
}
