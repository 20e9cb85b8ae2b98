//! Private files: folders that only their owner may enter, files that only their owner may read, replaced as a whole.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Makes a folder with mode 0700, and those above it if need be. One that exists is left as it is.
///
/// # Errors
/// Whatever the file system says.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Gives a file mode 0600.
///
/// # Errors
/// Whatever the file system says.
pub fn make_private(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}

/// Writes a file with this mode: after a crash it is there as a whole or not at all.
///
/// # Errors
/// Whatever the file system says.
pub fn write_whole(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("the path names no file"))?;
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    let new = folder.join(format!(".{}.new", name.to_string_lossy()));
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.write(true).create_new(true).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_stays_private() {
        let folder = tempfile::tempdir().expect("folder");
        let inner = folder.path().join("a/b");
        private_folder(&inner).expect("made");
        private_folder(&inner).expect("there already");
        let file = inner.join("key");
        std::fs::write(inner.join(".key.new"), "left over").expect("written");
        for text in ["one", "two"] {
            write_whole(&file, text, 0o600).expect("written");
            assert_eq!(std::fs::read_to_string(&file).expect("read"), text);
        }
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&file)), (0o700, 0o600));
        assert!(!inner.join(".key.new").exists());
    }
}
