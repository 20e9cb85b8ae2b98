//! How to reach the coordinator: flags and environment over the operator's file over the machine's file over defaults.

use super::address::{self, Address};
use super::error::CliError;
use config::{Config, File, FileFormat};
use serde::Deserialize;
use std::path::PathBuf;
use wavegate_proto::tls::Credentials;

/// The machine's file; the operator's is `~/.config/wavegate/operator.toml`.
pub const MACHINE_FILE: &str = "/etc/wavegate/operator.toml";

/// What flags and environment say.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConnectionArgs {
    /// Where the coordinator is: unix:/PATH or HOST:PORT [default: unix:/run/wavegate/operator.sock]
    #[arg(
        long,
        global = true,
        env = "WAVEGATE_COORDINATOR",
        value_name = "ADDRESS",
        help_heading = "Connection"
    )]
    pub coordinator: Option<String>,
    /// The operator's certificate (PEM), for HOST:PORT
    #[arg(
        long,
        global = true,
        env = "WAVEGATE_CERTIFICATE",
        value_name = "FILE",
        help_heading = "Connection"
    )]
    pub certificate: Option<PathBuf>,
    /// The key of the operator's certificate (PEM)
    #[arg(long, global = true, env = "WAVEGATE_KEY", value_name = "FILE", help_heading = "Connection")]
    pub key: Option<PathBuf>,
    /// The fleet's certificate authority (PEM)
    #[arg(long, global = true, env = "WAVEGATE_CA", value_name = "FILE", help_heading = "Connection")]
    pub ca: Option<PathBuf>,
    /// Read coordinator, certificate, key and ca from this file, and from no other
    /// [default: ~/.config/wavegate/operator.toml over /etc/wavegate/operator.toml]
    #[arg(long, global = true, env = "WAVEGATE_CONFIG", value_name = "FILE", help_heading = "Connection")]
    pub config: Option<PathBuf>,
}

/// The settings, put together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the coordinator is.
    pub coordinator: Option<String>,
    /// The operator's certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The fleet's certificate authority.
    pub ca: Option<PathBuf>,
}

impl Settings {
    /// Reads the files, flags on top. `home` is the operator's home directory, if there is one.
    ///
    /// # Errors
    /// [`CliError::Settings`] if a file has a mistake, or a file that was named can't be read.
    pub fn load(args: &ConnectionArgs, home: Option<PathBuf>) -> Result<Self, CliError> {
        let mut files = Config::builder();
        match &args.config {
            Some(path) => files = files.add_source(File::from(path.as_path()).format(FileFormat::Toml)),
            None => {
                let own = home.map(|home| home.join(".config/wavegate/operator.toml"));
                for path in [Some(PathBuf::from(MACHINE_FILE)), own].into_iter().flatten() {
                    files = files.add_source(File::from(path).format(FileFormat::Toml).required(false));
                }
            }
        }
        let mut settings: Self =
            files.build().and_then(Config::try_deserialize).map_err(CliError::Settings)?;
        settings.coordinator = args.coordinator.clone().or(settings.coordinator);
        settings.certificate = args.certificate.clone().or(settings.certificate);
        settings.key = args.key.clone().or(settings.key);
        settings.ca = args.ca.clone().or(settings.ca);
        Ok(settings)
    }

    /// Where the coordinator is.
    ///
    /// # Errors
    /// [`CliError::Usage`] if it is no address.
    pub fn address(&self) -> Result<Address, CliError> {
        let text = self.coordinator.as_deref().unwrap_or(address::DEFAULT);
        text.parse().map_err(|bad: address::BadAddress| CliError::Usage { what: bad.to_string() })
    }

    /// The operator's credentials; all three files are needed for a connection over TCP.
    ///
    /// # Errors
    /// [`CliError::Usage`] if one is not named, [`CliError::File`] if one can't be read.
    pub fn credentials(&self) -> Result<Credentials, CliError> {
        let named = |what: &str, path: &Option<PathBuf>| {
            path.clone().ok_or_else(|| CliError::Usage {
                what: format!(
                    "a coordinator at HOST:PORT asks for the operator's credentials: --{what} is missing (or in \
                     ~/.config/wavegate/operator.toml: {what} = \"FILE\")"
                ),
            })
        };
        let read =
            |path: PathBuf| std::fs::read_to_string(&path).map_err(|source| CliError::File { path, source });
        let (certificate, key, ca) =
            (named("certificate", &self.certificate)?, named("key", &self.key)?, named("ca", &self.ca)?);
        Ok(Credentials { certificate_pem: read(certificate)?, key_pem: read(key)?, ca_pem: read(ca)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(home: &std::path::Path, text: &str) {
        let directory = home.join(".config/wavegate");
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("operator.toml"), text).expect("a file");
    }

    #[test]
    fn flags_win_over_files() {
        let home = tempfile::tempdir().expect("a directory");
        file(home.path(), "coordinator = \"wavegate.example:7443\"\nca = \"/ca.pem\"\n");
        let args = ConnectionArgs { ca: Some("/other.pem".into()), ..ConnectionArgs::default() };
        let settings = Settings::load(&args, Some(home.path().into())).expect("settings");
        assert_eq!(settings.coordinator.as_deref(), Some("wavegate.example:7443"));
        assert_eq!(settings.ca, Some("/other.pem".into()));
        let missing = settings.credentials().err().expect("no certificate").to_string();
        assert!(missing.contains("--certificate is missing"), "{missing}");
    }

    #[test]
    fn a_mistake_in_a_file_is_said_and_where() {
        let home = tempfile::tempdir().expect("a directory");
        file(home.path(), "cordinator = \"x:1\"\n");
        let error = Settings::load(&ConnectionArgs::default(), Some(home.path().into()))
            .expect_err("a mistake")
            .text();
        assert!(error.contains("cordinator"), "{error}");
        let args =
            ConnectionArgs { config: Some(home.path().join("none.toml")), ..ConnectionArgs::default() };
        let error = Settings::load(&args, None).expect_err("no such file").text();
        assert!(error.contains("none.toml"), "{error}");
    }

    #[test]
    fn the_socket_is_the_default() {
        let address = Settings::default().address().expect("an address");
        assert_eq!(address.to_string(), address::DEFAULT);
    }
}
