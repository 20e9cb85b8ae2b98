//! A snapshot of a member's data, written to a file that is there whole or not at all.
//!
//! etcd sends its database and then the SHA-256 of it (`etcdserver/api/v3rpc/maintenance.go`, from 3.1 at the latest). A database is a
//! whole number of 512-byte blocks, so what has no such end was cut short.

use super::grpc;
use crate::host::etcd::{Endpoint, EtcdError, Snapshot};
use crate::sha256::hex;
use sha2::{Digest, Sha256};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tokio::time::Instant;

/// Bytes of a SHA-256.
const DIGEST: usize = 32;

/// Every database of etcd's is so many bytes long, or a multiple.
const BLOCK: u64 = 512;

/// Fetches a snapshot. However long it takes, something of it has to come within every timeout.
pub(super) fn save(endpoint: &Endpoint, to: &Path) -> Result<Snapshot, EtcdError> {
    grpc::talk(endpoint, async |mut client, until| {
        let mut stream = grpc::within(endpoint, until, client.snapshot()).await?;
        let mut part = Part::begin(to)?;
        loop {
            let until = Instant::now() + endpoint.timeout;
            let Some(piece) = grpc::within(endpoint, until, stream.message()).await? else {
                return part.finish(&endpoint.url);
            };
            part.write(piece.blob())?;
        }
    })
}

fn failed<'a>(verb: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> EtcdError + use<'a> {
    move |error| EtcdError::Unusable { what: format!("cannot {verb} {}: {error}", path.display()) }
}

/// A file that is being written beside its place; removed unless it is finished.
struct Part {
    to: PathBuf,
    path: PathBuf,
    file: File,
    /// Of everything but the last bytes, which may be the digest.
    digest: Sha256,
    last: Vec<u8>,
    bytes: u64,
}

impl Part {
    fn begin(to: &Path) -> Result<Self, EtcdError> {
        if to.exists() {
            return Err(EtcdError::Unusable { what: format!("{} is there already", to.display()) });
        }
        let directory = to.parent().unwrap_or(Path::new("/"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(failed("make", directory))?;
        let mut name = to.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        // Somebody who was killed may have left one.
        if path.exists() {
            std::fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(failed("write", &path))?;
        Ok(Self { to: to.to_owned(), path, file, digest: Sha256::new(), last: Vec::new(), bytes: 0 })
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), EtcdError> {
        self.file.write_all(piece).map_err(failed("write", &self.path))?;
        self.bytes += piece.len() as u64;
        self.last.extend_from_slice(piece);
        let settled = self.last.len().saturating_sub(DIGEST);
        self.digest.update(&self.last[..settled]);
        self.last.drain(..settled);
        Ok(())
    }

    fn finish(self, url: &str) -> Result<Snapshot, EtcdError> {
        let unusable =
            |what: String| Err(EtcdError::Unusable { what: format!("the snapshot of {url} {what}") });
        if self.bytes % BLOCK != DIGEST as u64 || self.bytes < BLOCK {
            return unusable(format!("was cut short: {} bytes came, and no digest at their end", self.bytes));
        }
        let (written, sent) = (hex(&self.digest.clone().finalize()), hex(&self.last));
        if written != sent {
            return unusable(format!("is not what it sent: SHA-256 is {written}, it says {sent}"));
        }
        self.file.sync_all().map_err(failed("write", &self.path))?;
        std::fs::rename(&self.path, &self.to).map_err(failed("rename", &self.path))?;
        let directory = self.to.parent().unwrap_or(Path::new("/"));
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(failed("write", directory))?;
        Ok(Snapshot { bytes: self.bytes, sha256: sent })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // One that was finished has another name by now.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Writes what is sent in pieces of a size, and tells what came of it and which files there are then.
    fn saved(sent: &[u8], size: usize) -> (Result<Snapshot, String>, Vec<(String, u32)>) {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = scratch.path().join("backups/one");
        let to = directory.join("v3.db");
        let written = || {
            let mut part = Part::begin(&to)?;
            for piece in sent.chunks(size) {
                part.write(piece)?;
            }
            part.finish("http://e1:2379")
        };
        let result = written().map_err(|error| error.to_string());
        assert_eq!(std::fs::metadata(&directory).expect("a directory").permissions().mode() & 0o777, 0o700);
        let names = std::fs::read_dir(&directory).expect("a directory").map(|entry| {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
            (entry.file_name().into_string().expect("a name"), mode)
        });
        (result, names.collect())
    }

    fn database() -> Vec<u8> {
        let mut sent: Vec<u8> = (0..4096_u32).map(|at| (at % 251) as u8).collect();
        let digest = Sha256::digest(&sent);
        sent.extend_from_slice(&digest);
        sent
    }

    #[test]
    fn a_whole_snapshot_is_kept_for_root_alone() {
        let sent = database();
        for size in [1, 7, 33, 4096, 5000] {
            let (result, files) = saved(&sent, size);
            let sha256 = hex(&sent[4096..]);
            assert_eq!(result, Ok(Snapshot { bytes: 4128, sha256 }), "{size}");
            assert_eq!(files, [("v3.db".to_owned(), 0o600)]);
        }
    }

    #[test]
    fn one_that_is_not_whole_leaves_no_file() {
        let sent = database();
        for end in [0, 31, 32, 512, 4095, 4096, 4100, 4127] {
            let (result, files) = saved(&sent[..end], 1000);
            let error = result.expect_err("it was cut");
            assert!(error.contains("was cut short"), "{error}");
            assert_eq!(files, []);
        }
        for at in [0, 2000, 4095, 4096, 4127] {
            let mut other = sent.clone();
            other[at] ^= 1;
            let (result, files) = saved(&other, 1000);
            let error = result.expect_err("it was altered");
            assert!(error.contains("is not what it sent"), "{error}");
            assert_eq!(files, []);
        }
    }

    #[test]
    fn what_is_there_stays() {
        let scratch = tempfile::tempdir().expect("a directory");
        let to = scratch.path().join("v3.db");
        std::fs::write(&to, "mine").expect("a file");
        let error = Part::begin(&to).err().expect("it is there").to_string();
        assert_eq!(error, format!("{} is there already", to.display()));
        assert_eq!(std::fs::read(&to).expect("a file"), b"mine");

        std::fs::remove_file(&to).expect("removed");
        std::fs::write(scratch.path().join("v3.db.part"), "left").expect("a file");
        let mut part = Part::begin(&to).expect("begun over it");
        part.write(&database()).expect("written");
        part.finish("http://e1:2379").expect("finished");
        assert_eq!(std::fs::read(&to).expect("a file"), database());
    }
}
