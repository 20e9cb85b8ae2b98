//! Who asks etcd, and how it is known that etcd answers: by the agent's own settings, else as Calico's software does it here,
//! else with the server's own certificate.

use super::given::Given;
use crate::host::etcd::Access;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// `[etcd]` of the agent's configuration: what is set here wins over what is found on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdSettings {
    /// The authority that signed etcd's certificates, as PEM.
    pub ca: Option<PathBuf>,
    /// The certificate that the agent shows to etcd, as PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, as PEM.
    pub key: Option<PathBuf>,
    /// The user that the agent asks as, where etcd asks for one.
    pub user: Option<String>,
    /// The file that holds the user's password.
    pub password_file: Option<PathBuf>,
    /// Where Calico's software on this node asks etcd, as `http://HOST:PORT` or `https://HOST:PORT`, in place of what its
    /// configuration says.
    pub endpoints: Vec<String>,
}

impl EtcdSettings {
    /// Whether the settings can be meant.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let paths = [
            ("etcd.ca", &self.ca),
            ("etcd.certificate", &self.certificate),
            ("etcd.key", &self.key),
            ("etcd.password_file", &self.password_file),
        ];
        for (key, path) in paths {
            if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
                return Err((key, format!("'{}' is not an absolute path", path.display())));
            }
        }
        let together = |one: bool, other: bool, key, with| {
            let wrong = || format!("it must be set where {with} is: neither is of use alone");
            if one && !other { Err((key, wrong())) } else { Ok(()) }
        };
        let (certificate, key) = (self.certificate.is_some(), self.key.is_some());
        together(certificate, key, "etcd.key", "etcd.certificate")?;
        together(key, certificate, "etcd.certificate", "etcd.key")?;
        let (user, password) = (self.user.is_some(), self.password_file.is_some());
        together(user, password, "etcd.password_file", "etcd.user")?;
        together(password, user, "etcd.user", "etcd.password_file")?;
        self.endpoints.iter().try_for_each(|url| address(url))
    }

    /// What is set here, and for the rest what was found.
    #[must_use]
    pub fn over(&self, found: Access) -> Access {
        Access {
            ca: self.ca.clone().or(found.ca),
            certificate: self.certificate.clone().zip(self.key.clone()).or(found.certificate),
            user: self.user.clone().zip(self.password_file.clone()).or(found.user),
        }
    }
}

fn address(url: &str) -> Result<(), (&'static str, String)> {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let fits =
        host.is_some_and(|host| !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/'));
    let wrong = || format!("'{url}' is not where etcd is asked: write http://HOST:PORT or https://HOST:PORT");
    if fits { Ok(()) } else { Err(("etcd.endpoints", wrong())) }
}

/// The server's own certificate, by which it can be asked where it takes those of its own authority.
pub(super) fn of_server(given: &Given) -> Access {
    let file = |flag: &str| given.get(flag).filter(|path| Path::new(path).is_absolute()).map(PathBuf::from);
    Access {
        ca: file("trusted-ca-file").or_else(|| file("ca-file")),
        certificate: file("cert-file").zip(file("key-file")),
        user: None,
    }
}

/// One over the other, field by field.
pub(super) fn first(one: Access, other: Access) -> Access {
    Access {
        ca: one.ca.or(other.ca),
        certificate: one.certificate.or(other.certificate),
        user: one.user.or(other.user),
    }
}
