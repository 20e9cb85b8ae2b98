//! The node's key and certificate and the fleet's authority, as files that root alone can read.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use wavegate_common::id::{FleetId, NodeId};
use wavegate_proto::identity::{BadIdentity, Identity, Subject};
use wavegate_proto::tls::Credentials;

const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
const CA: &str = "ca.pem";
/// Beside the directory of the credentials.
const ENROLLING_KEY: &str = "enrolling-key.pem";
/// Locked by the process that enrols the node.
const ENROLLING_LOCK: &str = "enrolling.lock";

/// Why there are no credentials to work with.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The node has none.
    #[error(
        "this node is not enrolled ({} is missing): make a token on the coordinator (`wavegate token create`), then \
         run `wavegate-agent enrol --token TOKEN --coordinator HOST:PORT` here",
        path.display()
    )]
    None {
        /// The first file that is missing.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried, e.g. `read`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The certificate can't be read.
    #[error("the certificate {} cannot be read; enrol again with --force", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate names nobody.
    #[error("the certificate {} names no node; enrol again with --force", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BadIdentity,
    },
    /// The certificate names somebody who is not a node.
    #[error("the certificate {} is for {identity}, not for a node; enrol again with --force", path.display())]
    NotANode {
        /// The file.
        path: PathBuf,
        /// Whom it names.
        identity: Identity,
    },
}

/// Who the node is, and how it proves that.
#[derive(Clone)]
pub struct Enrolled {
    /// The fleet.
    pub fleet: FleetId,
    /// The node.
    pub node: NodeId,
    /// Key, certificate and authority.
    pub credentials: Credentials,
}

/// The directory of the credentials in a state directory.
#[must_use]
pub fn directory_in(state_directory: &Path) -> PathBuf {
    state_directory.join("credentials")
}

/// Reads the node's credentials.
///
/// # Errors
/// [`CredentialsError`] if there are none, or none of a node.
pub fn load(state_directory: &Path) -> Result<Enrolled, CredentialsError> {
    settle(state_directory)?;
    let directory = directory_in(state_directory);
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read_to_string(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => CredentialsError::None { path },
            _ => CredentialsError::File { verb: "read", path, source },
        })
    };
    let credentials =
        Credentials { key_pem: read(KEY)?, certificate_pem: read(CERTIFICATE)?, ca_pem: read(CA)? };
    let path = directory.join(CERTIFICATE);
    let identity = match identity_of(&credentials.certificate_pem) {
        Ok(Ok(identity)) => identity,
        Ok(Err(source)) => return Err(CredentialsError::Identity { path, source }),
        Err(source) => return Err(CredentialsError::Certificate { path, source }),
    };
    match identity.subject {
        Subject::Node(node) => Ok(Enrolled { fleet: identity.fleet, node, credentials }),
        Subject::Operator(_) | Subject::Coordinator => Err(CredentialsError::NotANode { path, identity }),
    }
}

/// Whom a certificate names.
///
/// # Errors
/// Outside, if it is not PEM; inside, if it names nobody.
pub fn identity_of(
    certificate_pem: &str,
) -> Result<Result<Identity, BadIdentity>, rustls::pki_types::pem::Error> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())?;
    Ok(Identity::of_certificate(&der))
}

/// The right to enrol this node, as long as the file is open; `None` if another process has it.
///
/// # Errors
/// [`CredentialsError::File`].
pub fn alone(state_directory: &Path) -> Result<Option<File>, CredentialsError> {
    let path = state_directory.join(ENROLLING_LOCK);
    let failed = |verb: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| CredentialsError::File { verb, path, source }
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(state_directory);
    made.map_err(failed("make", state_directory))?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}

/// The key that the node enrols with: the one of an enrolment whose answer was lost, if there was one, so that the
/// coordinator knows who asks again; else the one that `make` makes, which is on disk when this returns.
///
/// # Errors
/// [`CredentialsError::File`].
pub fn enrolling_key(
    state_directory: &Path,
    make: impl FnOnce() -> String,
) -> Result<String, CredentialsError> {
    let path = state_directory.join(ENROLLING_KEY);
    let failed = |verb: &'static str| {
        let path = path.clone();
        move |source| CredentialsError::File { verb, path, source }
    };
    match std::fs::read_to_string(&path) {
        Ok(key) if key.trim_end().ends_with("-----END PRIVATE KEY-----") => return Ok(key),
        // It was not written to its end, so it was never used.
        Ok(_) => std::fs::remove_file(&path).map_err(failed("remove"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read")(error)),
    }
    let key = make();
    DirBuilder::new().recursive(true).mode(0o700).create(state_directory).map_err(failed("make"))?;
    write(&path, &key, 0o600).and_then(|()| sync(state_directory)).map_err(failed("write"))?;
    Ok(key)
}

/// Forgets the key of an enrolment that has ended.
///
/// # Errors
/// [`CredentialsError::File`].
pub fn forget_enrolling_key(state_directory: &Path) -> Result<(), CredentialsError> {
    let path = state_directory.join(ENROLLING_KEY);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(CredentialsError::File { verb: "remove", path, source })
        }
        _ => Ok(()),
    }
}

/// Ends a [`keep`] that was cut off between its two renames: the new ones were complete before the old ones moved away.
fn settle(state_directory: &Path) -> Result<(), CredentialsError> {
    let directory = directory_in(state_directory);
    let (new, old) = (directory.with_extension("new"), directory.with_extension("old"));
    if directory.exists() || !old.exists() || !new.exists() {
        return Ok(());
    }
    put_in_place(&new, &directory)
        .and_then(|()| sync(state_directory))
        .map_err(|source| CredentialsError::File { verb: "put in place", path: directory, source })
}

/// The last step of a replacement. An agent that looks whether it is enrolled may have taken it for one that was cut off, and
/// ended it a moment before.
fn put_in_place(new: &Path, directory: &Path) -> std::io::Result<()> {
    match std::fs::rename(new, directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && directory.exists() => Ok(()),
        renamed => renamed,
    }
}

/// Keeps the node's credentials in the place of those that may be there: all three files are written and synced
/// beside them, then take their place together. Cut off anywhere, either the old or the new ones are found.
///
/// # Errors
/// [`CredentialsError::File`].
pub fn keep(state_directory: &Path, credentials: &Credentials) -> Result<(), CredentialsError> {
    settle(state_directory)?;
    let directory = directory_in(state_directory);
    let (new, old) = (directory.with_extension("new"), directory.with_extension("old"));
    let failed = |verb: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| CredentialsError::File { verb, path, source }
    };
    for left_over in [&new, &old] {
        if left_over.exists() {
            std::fs::remove_dir_all(left_over).map_err(failed("remove", left_over))?;
        }
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&new).map_err(failed("make", &new))?;
    let parts = [
        (KEY, &credentials.key_pem, 0o600),
        (CERTIFICATE, &credentials.certificate_pem, 0o644),
        (CA, &credentials.ca_pem, 0o644),
    ];
    for (name, text, mode) in parts {
        let path = new.join(name);
        write(&path, text, mode).map_err(failed("write", &path))?;
    }
    sync(&new).map_err(failed("write", &new))?;
    if directory.exists() {
        std::fs::rename(&directory, &old).map_err(failed("move", &directory))?;
    }
    put_in_place(&new, &directory).map_err(failed("put in place", &directory))?;
    sync(state_directory).map_err(failed("write", state_directory))?;
    if old.exists() {
        std::fs::remove_dir_all(&old).map_err(failed("remove", &old))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn made_up(key: &str) -> Credentials {
        Credentials { key_pem: key.to_owned(), certificate_pem: "not PEM".to_owned(), ca_pem: String::new() }
    }

    #[test]
    fn they_take_the_place_of_the_old_ones_together() {
        let state = tempfile::tempdir().expect("a directory");
        keep(state.path(), &made_up("first")).expect("kept");
        keep(state.path(), &made_up("second")).expect("kept again");
        let directory = directory_in(state.path());
        assert_eq!(std::fs::read_to_string(directory.join(KEY)).expect("a key"), "second");
        let mode = |path: &Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&directory.join(KEY)), mode(&directory)), (0o600, 0o700));
        let left: Vec<_> = std::fs::read_dir(state.path()).expect("a directory").collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn a_replacement_that_was_cut_off_between_its_renames_is_ended() {
        let (state, other) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
        let directory = directory_in(state.path());
        let cut_off = || {
            keep(state.path(), &made_up("first")).expect("kept");
            keep(other.path(), &made_up("second")).expect("kept");
            std::fs::rename(&directory, directory.with_extension("old")).expect("moved");
            std::fs::rename(directory_in(other.path()), directory.with_extension("new")).expect("moved");
        };
        let key = || std::fs::read_to_string(directory.join(KEY)).expect("a key");
        cut_off();
        assert!(matches!(load(state.path()), Err(CredentialsError::Certificate { .. })), "they are found");
        assert_eq!(key(), "second");
        cut_off();
        keep(state.path(), &made_up("third")).expect("kept");
        assert_eq!(key(), "third");
        let left: Vec<_> = std::fs::read_dir(state.path()).expect("a directory").collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let state = tempfile::tempdir().expect("a directory");
        let message = || load(state.path()).err().expect("no credentials").to_string();
        assert!(
            message().contains("not enrolled") && message().contains("wavegate token create"),
            "{}",
            message()
        );
        keep(state.path(), &made_up("k")).expect("kept");
        assert!(
            message().contains("certificate.pem cannot be read; enrol again with --force"),
            "{}",
            message()
        );
    }
}
