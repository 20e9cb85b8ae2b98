//! Which file system a path is on, by `/proc/self/mountinfo`. Text only.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The type of the file system that a path is on, e.g. `ext4` or `tmpfs`; `None` if no line says. Of two mounts on one place
/// the later hides the earlier. The path must be absolute and without links.
///
/// Source of the format: proc(5), `/proc/[pid]/mountinfo`.
pub(super) fn filesystem_of<'a>(mountinfo: &'a str, path: &Path) -> Option<&'a str> {
    let mut nearest: Option<(usize, &str)> = None;
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(point) = before.split(' ').nth(4).map(unescaped) else { continue };
        let Some(kind) = after.split(' ').next().filter(|kind| !kind.is_empty()) else { continue };
        if path.starts_with(Path::new(OsStr::from_bytes(&point)))
            && nearest.is_none_or(|(length, _)| point.len() >= length)
        {
            nearest = Some((point.len(), kind));
        }
    }
    nearest.map(|(_, kind)| kind)
}

/// A mount point with `\040` and the like as what they stand for.
fn unescaped(text: &str) -> Vec<u8> {
    let mut all = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = octal.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        all.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOUNTS: &str = r"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /var/lib rw shared:2 master:3 - xfs /dev/sdb1 rw
24 23 0:40 / /var/lib/etcd rw,nosuid - tmpfs tmpfs rw,size=524288k
25 22 0:41 / /srv/my\040data rw - btrfs /dev/sdc rw
26 22 0:42 / /opt rw - nfs4 a:/b rw
27 26 0:43 / /opt rw - ext3 /dev/sdd rw
";

    #[test]
    fn the_nearest_mount_counts() {
        for (path, kind) in [
            ("/var/lib/etcd/default", "tmpfs"),
            ("/var/lib/etcd", "tmpfs"),
            ("/var/lib/etcd2", "xfs"),
            ("/var/log", "ext4"),
            ("/srv/my data/etcd", "btrfs"),
            ("/opt/etcd", "ext3"),
        ] {
            assert_eq!(filesystem_of(MOUNTS, Path::new(path)), Some(kind), "{path}");
        }
        assert_eq!(filesystem_of("", Path::new("/")), None);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), soup in "([0-9:/ ]|\\\\[0-7]{0,4}| - |tmpfs|é|\n){0,30}") {
            let _ = (filesystem_of(&text, Path::new("/var")), filesystem_of(&soup, Path::new("/")));
        }
    }
}
