//! Files of the machine: read, listed, found on the path, and replaced so that a crash leaves the old or the new one.

use super::file_error;
use crate::host::{Digested, HostError};
use crate::sha256::hex;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// A file's content; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, HostError> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(file_error("read", path)(error)),
    }
}

/// A file's size and digest, read piece by piece: it may be larger than the memory that an agent should take.
pub(super) fn digest(path: &Path) -> Result<Option<Digested>, HostError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(file_error("read", path)(error)),
    };
    copy(&mut file, &mut std::io::sink(), None).map(Some).map_err(file_error("read", path))
}

/// Copies a stream piece by piece, and tells what went by. An error if that is more than `limit` bytes.
pub(super) fn copy(
    from: &mut dyn Read,
    into: &mut dyn Write,
    limit: Option<u64>,
) -> std::io::Result<Digested> {
    let (mut digest, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 {
            return Ok(Digested { bytes, sha256: hex(&digest.finalize()) });
        }
        bytes += count as u64;
        if let Some(limit) = limit.filter(|limit| bytes > *limit) {
            return Err(std::io::Error::other(format!("it has more than {limit} bytes")));
        }
        digest.update(&piece[..count]);
        into.write_all(&piece[..count])?;
    }
}

/// Names in a directory, sorted.
pub(super) fn list(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The executable file that a program's name stands for.
pub(super) fn which(program: &str, search_path: &OsStr) -> Option<PathBuf> {
    let runs = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(runs);
    }
    std::env::split_paths(search_path).map(|directory| directory.join(program)).find(runs)
}

/// Replaces a file's content, keeping owner, mode, access list and SELinux label. A link stays: what it leads to is replaced.
pub(super) fn replace(
    path: &Path,
    content: &[u8],
    backup: Option<&Path>,
    executable: bool,
) -> Result<(), HostError> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = target.exists().then_some(target.as_path());
    if let (Some(backup), Some(old)) = (backup, old) {
        // A copy, not a link: a process that runs the old file must not find it under another name.
        let before = std::fs::read(old).map_err(file_error("read", old))?;
        write(backup, &before, Some(old), false)?;
    }
    write(&target, content, old, executable).inspect_err(|_| {
        // The file is as it was; a copy of it would look as if it were not.
        if let Some(backup) = backup {
            let _ = std::fs::remove_file(backup);
        }
    })
}

/// A name that any file system takes, for a name of anything; two names never become one.
pub(super) fn name_for(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .take(100)
        .collect();
    let digest = Sha256::digest(name.as_bytes());
    format!("{}-{}", plain.trim_start_matches('.'), hex(&digest[..4]))
}

/// Gives a file another name, in place of what has it.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), HostError> {
    std::fs::rename(from, to).and_then(|()| sync_directory_of(to)).map_err(file_error("rename", from))
}

/// Removes a file, if there is one.
pub(super) fn remove(path: &Path) -> Result<(), HostError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.and_then(|()| sync_directory_of(path)).map_err(file_error("remove", path)),
    }
}

/// Names live in the directory.
fn sync_directory_of(path: &Path) -> std::io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Writes a file of the agent's own state so that it is there completely or not at all, also after a power cut.
pub(super) fn write_durably(path: &Path, content: &[u8]) -> Result<(), HostError> {
    write(path, content, None, false)
}

/// Bytes that [`reserve`] keeps.
const RESERVED: usize = 128;

/// Makes room on the disk for a short file to come: what has to be written later can then be written on a full disk too.
pub(super) fn reserve(path: &Path) -> Result<(), HostError> {
    write_durably(&reserved(path), &[b' '; RESERVED])
}

/// Writes a short text as [`write_durably`] does, with spaces behind it, into the room that was reserved for it, if any was.
pub(super) fn write_reserved(path: &Path, text: &str) -> Result<(), HostError> {
    let room = reserved(path);
    if !room.exists() || text.len() > RESERVED {
        return write_durably(path, text.as_bytes());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    let written = OpenOptions::new().write(true).open(&room).and_then(|mut file| {
        file.write_all(format!("{text:RESERVED$}").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&room, path)?;
        File::open(directory)?.sync_all()
    });
    written.map_err(file_error("write", path))
}

fn reserved(path: &Path) -> PathBuf {
    path.with_extension("reserved")
}

fn write(path: &Path, content: &[u8], like: Option<&Path>, executable: bool) -> Result<(), HostError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.wavegate-{}", std::process::id()));
    let written = write_temporary(&temporary, content, like, executable)
        .and_then(|()| std::fs::rename(&temporary, path))
        // The rename itself lives in the directory.
        .and_then(|()| File::open(directory)?.sync_all());
    written.map_err(|source| {
        let _ = std::fs::remove_file(&temporary);
        file_error("write", path)(source)
    })
}

fn write_temporary(
    temporary: &Path,
    content: &[u8],
    like: Option<&Path>,
    executable: bool,
) -> std::io::Result<()> {
    // One of an earlier agent with the same process id.
    let _ = std::fs::remove_file(temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(content)?;
    let mode = match like {
        Some(like) => {
            let old = std::fs::metadata(like)?;
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
            copy_attributes(like, &file)?;
            old.mode() & 0o7777
        }
        None if executable => 0o755,
        None => 0o644,
    };
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// The access list and the SELinux label of a file, without which a service may no longer read it; not its capabilities, which
/// belong to its content. Where the file system has no such attributes there are none to copy.
fn copy_attributes(from: &Path, to: &File) -> std::io::Result<()> {
    const LARGEST: usize = 64 << 10;
    for name in ["system.posix_acl_access", "security.selinux"] {
        let mut value = vec![0; LARGEST];
        match rustix::fs::getxattr(from, name, &mut value[..]) {
            Ok(length) => rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())?,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_is_told_and_no_more_than_the_limit_is() {
        let content = vec![b'x'; (64 << 10) + 1];
        let copied = |limit| {
            let mut into = Vec::new();
            let told = copy(&mut &content[..], &mut into, limit).map_err(|error| error.to_string());
            (told, into.len())
        };
        let whole = Digested { bytes: content.len() as u64, sha256: crate::sha256::of(&content) };
        assert_eq!(copied(None), (Ok(whole.clone()), content.len()));
        assert_eq!(copied(Some(content.len() as u64)), (Ok(whole), content.len()));
        assert_eq!(copied(Some(64 << 10)), (Err("it has more than 65536 bytes".to_owned()), 64 << 10));
    }

    #[test]
    fn the_access_list_goes_with_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, backup) = (directory.path().join("neutron.conf"), directory.path().join("before"));
        std::fs::write(&path, "old").expect("a file");
        // struct posix_acl_xattr_header and entries of linux/posix_acl_xattr.h, version 2: rw- for the owner, r-- for user 1234,
        // the group and the mask, nothing for others.
        let entry = |tag: u16, rights: u16, id: u32| {
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let nobody = u32::MAX;
        let entries =
            [(0x01, 6, nobody), (0x02, 4, 1234), (0x04, 4, nobody), (0x10, 4, nobody), (0x20, 0, nobody)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        list.extend(entries.iter().flat_map(|(tag, rights, id)| entry(*tag, *rights, *id)));
        let name = "system.posix_acl_access";
        if rustix::fs::setxattr(&path, name, &list, XattrFlags::empty()) == Err(Errno::OPNOTSUPP) {
            println!("SKIPPED: {} has no access lists", directory.path().display());
            return;
        }
        replace(&path, b"new", Some(&backup), false).expect("it can be replaced");
        for file in [&path, &backup] {
            let mut value = vec![0; 1024];
            let length = rustix::fs::getxattr(file, name, &mut value[..]).expect("a list");
            assert_eq!(value[..length], list, "{}", file.display());
            assert_eq!(std::fs::metadata(file).expect("a file").mode() & 0o777, 0o640);
        }
    }

    #[test]
    fn replacing_keeps_mode_and_links_and_leaves_a_copy() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, link) = (directory.path().join("neutron.conf"), directory.path().join("link"));
        std::fs::write(&path, "old").expect("a file");
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("its mode");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let before = std::fs::metadata(&path).expect("a file").ino();

        let backup = directory.path().join("neutron.conf.wavegate-old");
        replace(&link, b"new", Some(&backup), true).expect("it can be replaced");
        let after = std::fs::metadata(&path).expect("a file");
        assert_eq!((after.mode() & 0o7777, after.ino() == before), (0o640, false));
        assert!(std::fs::symlink_metadata(&link).expect("a link").is_symlink());
        assert_eq!(std::fs::read(&path).expect("a file"), b"new");
        assert_eq!(std::fs::read(&backup).expect("a copy"), b"old");
        assert_ne!(std::fs::metadata(&backup).expect("a copy").ino(), before);
        assert_eq!(list(directory.path()), ["link", "neutron.conf", "neutron.conf.wavegate-old"]);
    }

    #[test]
    fn what_is_written_into_its_room_takes_no_more_of_the_disk() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("result.json");
        reserve(&path).expect("room");
        assert_eq!(read(&path).expect("no error"), None);
        let room = std::fs::metadata(reserved(&path)).expect("a file");
        write_reserved(&path, "{}").expect("written");
        let written = std::fs::metadata(&path).expect("a file");
        assert_eq!((written.ino(), written.len()), (room.ino(), room.len()));
        assert_eq!(std::fs::read_to_string(&path).expect("a text").trim_end(), "{}");
        write_reserved(&path, "[]").expect("no room was reserved, and there is enough");
        assert_eq!(std::fs::read(&path).expect("a text"), b"[]");
        assert_eq!(list(directory.path()), ["result.json"]);
    }

    #[test]
    fn new_files_get_their_mode_and_absent_ones_are_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("etcd");
        assert_eq!(read(&path).expect("no error"), None);
        replace(&path, b"\x7fELF", Some(&directory.path().join("old")), true).expect("it can be written");
        assert_eq!(std::fs::metadata(&path).expect("a file").mode() & 0o7777, 0o755);
        assert_eq!(list(directory.path()), ["etcd"]);
        assert_eq!(which("etcd", directory.path().as_os_str()), Some(path.clone()));
        let error = replace(&path.join("below"), b"", None, false).expect_err("not a directory");
        assert!(error.to_string().starts_with("cannot write "), "{error}");
    }
}
