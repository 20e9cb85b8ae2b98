//! Where the coordinator is, as operators write it. Going there is `connect`'s business.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The coordinator's socket where nothing else is said; its host's packages put it there.
pub const DEFAULT: &str = "unix:/run/wavegate/operator.sock";

/// Where the coordinator is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket on this machine; the coordinator authorises by the peer's uid.
    Unix(PathBuf),
    /// A host and port; the coordinator authorises by the operator's certificate.
    Tcp {
        /// Host name or address, without the brackets of an IPv6 address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not the address of a coordinator: write unix:/PATH or HOST:PORT")]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(bad()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => v6,
            None if host.contains([':', '[', ']', '/', ' ']) => return Err(bad()),
            None => host,
        };
        if host.is_empty() {
            return Err(bad());
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in [DEFAULT, "wavegate.example:7443", "10.0.0.1:7443", "[fd00::1]:7443"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
        for bad in [
            "",
            "unix:",
            "unix:run/x",
            "host",
            "host:",
            "host:0",
            "host:99999",
            ":7443",
            "fd00::1:7443",
            "http://h:1",
            "a b:1",
        ] {
            let error = bad.parse::<Address>().expect_err(bad).to_string();
            assert!(error.contains("unix:/PATH or HOST:PORT"), "{error}");
        }
    }
}
