//! `wavegate init`: the certificate authority, the coordinator's certificate, the first operator's, the configuration.
//!
//! It may be repeated: what is there stays as it is, what is missing (or due for renewal) is made. An authority is never
//! overwritten, and no configuration either. What is made in the state directory belongs to whoever that belongs to.

mod settings;

use crate::config;
use crate::files;
use crate::owner::{self, OwnerError, as_owner};
use crate::pki::{Authority, PkiError, read_if_there};
use crate::store::{Store, StoreError};
use settings::{Settled, settle};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use wavegate_common::id::{BadId, FleetId, NodeId, Timestamp};
use wavegate_proto::tls::{self, Credentials};

/// What to set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitOptions {
    /// Where the configuration is, or goes.
    pub config_path: PathBuf,
    /// Where the store and the certificates go; `None` for where the configuration says, or by default.
    pub state_directory: Option<PathBuf>,
    /// The fleet's name.
    pub fleet: String,
    /// Where the coordinator will listen; `None` for where the configuration says, or by default.
    pub listen: Option<SocketAddr>,
    /// The first operator's name.
    pub operator: String,
}

/// What was set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitReport {
    /// The fleet.
    pub fleet: FleetId,
    /// The configuration.
    pub config_path: PathBuf,
    /// Where the coordinator will listen.
    pub listen: SocketAddr,
    /// Where the store and the certificates are.
    pub state_directory: PathBuf,
    /// The operator's files.
    pub operator: OperatorFiles,
    /// What was made, a line each; empty if everything was there.
    pub made: Vec<String>,
    /// What was there already and stays, a line each.
    pub kept: Vec<String>,
}

/// The files by which an operator connects from afar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The fleet's authority.
    pub ca: PathBuf,
}

impl OperatorFiles {
    /// The files of an operator under a state directory: `operators/NAME/{certificate,key,ca}.pem`.
    #[must_use]
    pub fn under(state_directory: &Path, operator: &str) -> Self {
        let folder = state_directory.join("operators").join(operator);
        Self {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
            ca: folder.join("ca.pem"),
        }
    }
}

/// Why nothing more was set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A name is none.
    #[error(transparent)]
    Name(#[from] BadId),
    /// The operator's name is none.
    #[error(
        "'{0}' is not an operator's name; use 1 to 64 of a-z, 0-9, '-', '.', '_', and start with a letter or digit"
    )]
    Operator(String),
    /// Another fleet is here.
    #[error("fleet {found} has been set up in {} already; give fleet {asked} a state directory of its own", folder.display())]
    OtherFleet {
        /// Where.
        folder: PathBuf,
        /// The fleet that is there.
        found: FleetId,
        /// The fleet asked for.
        asked: FleetId,
    },
    /// The configuration that is there says something else.
    #[error(
        "{place} is there already and has {key} = {found}, you asked for {asked}; change that, or ask for what it says"
    )]
    OtherConfig {
        /// Which file of the configuration, or variable of the environment.
        place: String,
        /// The key.
        key: &'static str,
        /// What it says.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// The configuration that is there is wrong.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// A port that only privileged programs may listen on.
    #[error(
        "the coordinator cannot listen on {listen}: it runs without privileges, and ports below 1024 need them; take another one, such \
         as 7443"
    )]
    PrivilegedPort {
        /// Where it was to listen.
        listen: SocketAddr,
    },
    /// A certificate or its file.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The state directory is somebody else's.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The store can't be begun.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder.
    #[error("{} cannot be written; look at its permissions, or run as root", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

struct Setup<'a> {
    options: &'a InitOptions,
    state_directory: &'a Path,
    now: Timestamp,
    made: Vec<String>,
    kept: Vec<String>,
}

/// Sets up a coordinator.
///
/// # Errors
/// [`InitError`]. What was made until then stays; running it again goes on from there.
pub fn init(options: &InitOptions) -> Result<InitReport, InitError> {
    init_at(options, crate::clock::Clock::system().machine())
}

fn init_at(options: &InitOptions, now: Timestamp) -> Result<InitReport, InitError> {
    let fleet = FleetId::new(options.fleet.as_str())?;
    // An operator's name stands in the same places as a node's: see `wavegate_proto::identity`.
    NodeId::new(options.operator.as_str()).map_err(|_| InitError::Operator(options.operator.clone()))?;
    let settled = settle(options)?;
    let state_directory = settled.state_directory.as_path();
    if (1..1024).contains(&settled.listen.port()) && owner::is_unprivileged(state_directory) {
        return Err(InitError::PrivilegedPort { listen: settled.listen });
    }
    let mut setup = Setup { options, state_directory, now, made: Vec::new(), kept: Vec::new() };
    let operator = as_owner(state_directory, || setup.state(&fleet))?;
    setup.config(&settled)?;
    let Setup { made, kept, .. } = setup;
    let Settled { listen, state_directory, .. } = settled;
    let config_path = options.config_path.clone();
    Ok(InitReport { fleet, config_path, listen, state_directory, operator, made, kept })
}

impl Setup<'_> {
    /// All that goes into the state directory.
    fn state(&mut self, fleet: &FleetId) -> Result<OperatorFiles, InitError> {
        self.folder(self.state_directory)?;
        let authority = self.authority(fleet)?;
        authority.current_coordinator(&self.state_directory.join("pki"), self.now)?;
        self.operator(&authority)
    }

    fn folder(&self, path: &Path) -> Result<(), InitError> {
        files::private_folder(path).map_err(|source| InitError::Write { path: path.to_path_buf(), source })
    }

    fn write(&self, path: &Path, text: &str, mode: u32) -> Result<(), InitError> {
        files::write_whole(path, text, mode)
            .map_err(|source| InitError::Write { path: path.to_path_buf(), source })
    }

    fn authority(&mut self, fleet: &FleetId) -> Result<Authority, InitError> {
        let folder = self.state_directory.join("pki");
        let certificate = folder.join("ca.pem");
        match Authority::load(&folder) {
            Ok(found) if found.fleet() == fleet => {
                self.kept
                    .push(format!("the certificate authority of fleet {fleet}, {}", certificate.display()));
                Ok(found)
            }
            Ok(found) => {
                let folder = self.state_directory.to_path_buf();
                Err(InitError::OtherFleet { folder, found: found.fleet().clone(), asked: fleet.clone() })
            }
            Err(PkiError::NoAuthority { .. }) => {
                // First, so that from then on a fleet without its store is one that has lost it.
                let store = self.state_directory.join(config::STORE);
                Store::open(&store, fleet)?.shut();
                let made = Authority::create(&folder, fleet, self.now)?;
                self.made
                    .push(format!("the certificate authority of fleet {fleet}, {}", certificate.display()));
                Ok(made)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn operator(&mut self, authority: &Authority) -> Result<OperatorFiles, InitError> {
        let name = &self.options.operator;
        let paths = OperatorFiles::under(self.state_directory, name);
        let line = format!("the certificate of operator {name}, {}", paths.certificate.display());
        let (certificate, key) = (read_if_there(&paths.certificate)?, read_if_there(&paths.key)?);
        if let (Some(certificate_pem), Some(key_pem)) = (certificate, key) {
            let there = Credentials { certificate_pem, key_pem, ca_pem: authority.pem().to_owned() };
            if tls::client(&there).is_ok() && !authority.is_due(&there.certificate_pem, self.now) {
                self.write(&paths.ca, authority.pem(), 0o600)?;
                self.kept.push(line);
                return Ok(paths);
            }
        }
        if let Some(folder) = paths.certificate.parent() {
            self.folder(folder)?;
        }
        let made = authority.operator(name, self.now)?;
        self.write(&paths.ca, &made.ca_pem, 0o600)?;
        self.write(&paths.key, &made.key_pem, 0o600)?;
        self.write(&paths.certificate, &made.certificate_pem, 0o600)?;
        self.made.push(line);
        Ok(paths)
    }

    fn config(&mut self, settled: &Settled) -> Result<(), InitError> {
        let there = &self.options.config_path;
        let line = |path: &Path| format!("the configuration {}", path.display());
        if there.exists() {
            self.kept.push(line(there));
        }
        let Some((path, text)) = &settled.write else { return Ok(()) };
        if let Some(folder) = path.parent() {
            // Not private: the agent's configuration may be in the same folder.
            std::fs::create_dir_all(folder)
                .map_err(|source| InitError::Write { path: folder.to_path_buf(), source })?;
        }
        self.write(path, text, 0o644)?;
        self.made.push(line(path));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn options(folder: &Path) -> InitOptions {
        InitOptions {
            config_path: folder.join("etc/coordinator.toml"),
            state_directory: Some(folder.join("state")),
            fleet: "prod".to_owned(),
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 7443))),
            operator: "alice".to_owned(),
        }
    }

    #[test]
    fn everything_is_made_once_and_stays() {
        let folder = tempfile::tempdir().expect("folder");
        let options = options(folder.path());
        let first = init_at(&options, NOW).expect("made");
        assert_eq!((first.made.len(), first.kept.len()), (3, 0), "{first:?}");
        let key = std::fs::read(&first.operator.key).expect("key");
        let again = init_at(&options, NOW).expect("repeated");
        assert_eq!((again.made.len(), again.kept.len()), (0, 3), "{again:?}");
        assert_eq!(std::fs::read(&again.operator.key).expect("key"), key);
        let config = Config::load(&options.config_path).expect("configuration");
        assert_eq!(Some(config.state_directory), options.state_directory);
        let nothing_asked = InitOptions { state_directory: None, listen: None, ..options };
        let again = init_at(&nothing_asked, NOW).expect("as the configuration says");
        assert_eq!((again.made.len(), again.listen.port()), (0, 7443), "{again:?}");
    }

    #[test]
    fn an_interrupted_init_goes_on() {
        let folder = tempfile::tempdir().expect("folder");
        let options = options(folder.path());
        let first = init_at(&options, NOW).expect("made");
        let ca = std::fs::read(folder.path().join("state/pki/ca.pem")).expect("ca");
        for missing in [&first.operator.certificate, &first.operator.key, &first.config_path] {
            std::fs::remove_file(missing).expect("removed");
            let again = init_at(&options, NOW).expect("went on");
            assert_eq!(again.made.len(), 1, "{again:?}");
        }
        assert_eq!(std::fs::read(folder.path().join("state/pki/ca.pem")).expect("ca"), ca);
    }

    #[test]
    fn what_contradicts_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("folder");
        let options = options(folder.path());
        init_at(&options, NOW).expect("made");
        let text = |options: &InitOptions| {
            let error = init_at(options, NOW).expect_err("refused").to_string();
            error.replace(&folder.path().display().to_string(), "")
        };
        insta::assert_snapshot!(text(&InitOptions { fleet: "test".to_owned(), ..options.clone() }), @"fleet prod has been set up in /state already; give fleet test a state directory of its own");
        insta::assert_snapshot!(text(&InitOptions { listen: Some(SocketAddr::from(([0, 0, 0, 0], 1))), ..options.clone() }), @"/etc/coordinator.toml is there already and has listen = 127.0.0.1:7443, you asked for 0.0.0.0:1; change that, or ask for what it says");
        insta::assert_snapshot!(text(&InitOptions { operator: "Alice".to_owned(), ..options.clone() }), @"'Alice' is not an operator's name; use 1 to 64 of a-z, 0-9, '-', '.', '_', and start with a letter or digit");
    }

    /// The configuration as the package brings it: every setting is there, as by default.
    const PACKAGED: &str = include_str!("../../../packaging/config/coordinator.toml");

    #[test]
    fn a_configuration_that_the_package_brought_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("folder");
        let options = options(folder.path());
        std::fs::create_dir(folder.path().join("etc")).expect("folder");
        std::fs::write(&options.config_path, PACKAGED).expect("written");
        let first = init_at(
            &InitOptions {
                state_directory: options.state_directory.clone(),
                listen: None,
                ..options.clone()
            },
            NOW,
        )
        .expect("made");
        assert!(first.made.iter().any(|line| line.ends_with("etc/coordinator.d/init.toml")), "{first:?}");
        let second = init_at(&options, NOW).expect("what is asked for now is added");
        assert_eq!((second.made.len(), second.kept.len()), (1, 3), "{second:?}");
        let again = init_at(&options, NOW).expect("repeated");
        assert_eq!(again.made.len(), 0, "{again:?}");
        assert_eq!(std::fs::read_to_string(&options.config_path).expect("read"), PACKAGED);
        let dropped =
            std::fs::read_to_string(folder.path().join("etc/coordinator.d/init.toml")).expect("read");
        insta::assert_snapshot!(dropped.replace(&folder.path().display().to_string(), ""), @r#"
        # Written by `wavegate init`: what it was asked for and coordinator.toml beside this folder does not say.
        state_directory = "/state"
        listen = "127.0.0.1:7443"
        "#);
        let config = Config::load(&options.config_path).expect("configuration");
        assert_eq!(
            (Some(config.state_directory), Some(config.listen)),
            (options.state_directory.clone(), options.listen)
        );
    }

    #[test]
    fn what_another_file_decided_is_refused_by_its_name() {
        let folder = tempfile::tempdir().expect("folder");
        let options = options(folder.path());
        let text = || {
            let error = init_at(&options, NOW).expect_err("refused").to_string();
            error.replace(&folder.path().display().to_string(), "")
        };
        std::fs::create_dir_all(folder.path().join("etc/coordinator.d")).expect("folder");
        std::fs::write(folder.path().join("etc/coordinator.d/site.toml"), "listen = \"0.0.0.0:7443\"\n")
            .expect("written");
        insta::assert_snapshot!(text(), @"/etc/coordinator.d/site.toml is there already and has listen = 0.0.0.0:7443, you asked for 127.0.0.1:7443; change that, or ask for what it says");
        std::fs::remove_file(folder.path().join("etc/coordinator.d/site.toml")).expect("removed");
        std::fs::write(&options.config_path, "state_directory = \"/srv\"\n").expect("written");
        insta::assert_snapshot!(text(), @"/etc/coordinator.toml is there already and has state_directory = /srv, you asked for /state; change that, or ask for what it says");
        assert!(!folder.path().join("state").exists(), "nothing was made");
    }
}
