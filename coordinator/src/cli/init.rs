//! `wavegate init`: the words around setting a coordinator up. What is made is `crate::init`'s business.

use super::output::Output;
use super::{CliError, Exit};
use crate::config::{Config, DEFAULT_PATH};
use crate::init::{InitOptions, InitReport, init};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The fleet's name; it stands in every certificate
    #[arg(long, default_value = "openstack", value_name = "NAME")]
    fleet: String,
    /// The first operator's name; it stands in the certificate and in the event log
    #[arg(long, default_value = "admin", value_name = "NAME")]
    operator: String,
    /// Where the coordinator will listen for agents and for operators from afar
    /// [default: as the configuration says, else 0.0.0.0:7443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Where the store and the certificates go
    /// [default: as the configuration says, else /var/lib/wavegate/coordinator]
    #[arg(long, value_name = "DIRECTORY")]
    state_directory: Option<PathBuf>,
    /// The coordinator's configuration; one that is there is not changed: what is asked for goes into a drop-in beside it
    #[arg(long, default_value = DEFAULT_PATH, value_name = "FILE")]
    coordinator_config: PathBuf,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<Exit, CliError> {
    let options = InitOptions {
        config_path: args.coordinator_config.clone(),
        state_directory: args.state_directory.clone(),
        fleet: args.fleet.clone(),
        listen: args.listen,
        operator: args.operator.clone(),
    };
    let report = init(&options).map_err(anyhow::Error::from)?;
    output.write(&if output.is_json() { as_json(&report) } else { text(&report) })?;
    Ok(Exit::Ok)
}

fn as_json(report: &InitReport) -> String {
    let InitReport { fleet, config_path, listen, state_directory, operator, made, kept } = report;
    let operator = json!({ "certificate": operator.certificate, "key": operator.key, "ca": operator.ca });
    let json = json!({
        "fleet": fleet, "config": config_path, "listen": listen, "state_directory": state_directory,
        "operator": operator, "made": made, "kept": kept,
    });
    format!("{json:#}\n")
}

fn text(report: &InitReport) -> String {
    let lines =
        |word: &str, all: &[String]| all.iter().map(|line| format!("{word:<5} {line}\n")).collect::<String>();
    let crate::init::OperatorFiles { certificate, key, ca } = &report.operator;
    let unit = if report.state_directory == Config::default().state_directory {
        String::new()
    } else {
        unit_drop_in(&report.state_directory.display().to_string())
    };
    format!(
        "{}{}
Next:
{unit}  start the coordinator          systemctl enable --now wavegate-coordinator
  let agents join                wavegate token create
  operate from another machine   wavegate --coordinator HOST:{} nodes, with these three copied there:
                                   --certificate {}
                                   --key {}
                                   --ca {}
",
        lines("made", &report.made),
        lines("kept", &report.kept),
        report.listen.port(),
        certificate.display(),
        key.display(),
        ca.display()
    )
}

/// The packaged unit knows the default state directory, which is the only place where the coordinator may write.
fn unit_drop_in(state_directory: &str) -> String {
    format!(
        "  tell its unit of the place     systemctl edit wavegate-coordinator, and write:
                                   [Unit]
                                   ConditionPathExists=
                                   ConditionPathExists={state_directory}/pki/ca.pem
                                   [Service]
                                   ReadWritePaths={state_directory}
                                 and give it to the user it runs as: chown -R wavegate: {state_directory}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::OperatorFiles;
    use std::path::Path;

    #[test]
    fn what_was_made_and_what_is_next() {
        let report = InitReport {
            fleet: "openstack".parse().expect("a fleet"),
            config_path: DEFAULT_PATH.into(),
            listen: Config::default().listen,
            state_directory: Config::default().state_directory,
            operator: OperatorFiles::under(Path::new("/var/lib/wavegate/coordinator"), "admin"),
            made: vec!["the configuration /etc/wavegate/coordinator.toml".to_owned()],
            kept: vec!["the certificate authority of fleet openstack".to_owned()],
        };
        insta::assert_snapshot!(text(&report), @r"
        made  the configuration /etc/wavegate/coordinator.toml
        kept  the certificate authority of fleet openstack

        Next:
          start the coordinator          systemctl enable --now wavegate-coordinator
          let agents join                wavegate token create
          operate from another machine   wavegate --coordinator HOST:7443 nodes, with these three copied there:
                                           --certificate /var/lib/wavegate/coordinator/operators/admin/certificate.pem
                                           --key /var/lib/wavegate/coordinator/operators/admin/key.pem
                                           --ca /var/lib/wavegate/coordinator/operators/admin/ca.pem
        ");
        let elsewhere = InitReport {
            state_directory: "/srv/wavegate".into(),
            made: Vec::new(),
            kept: Vec::new(),
            ..report
        };
        insta::assert_snapshot!(text(&elsewhere), @r"

        Next:
          tell its unit of the place     systemctl edit wavegate-coordinator, and write:
                                           [Unit]
                                           ConditionPathExists=
                                           ConditionPathExists=/srv/wavegate/pki/ca.pem
                                           [Service]
                                           ReadWritePaths=/srv/wavegate
                                         and give it to the user it runs as: chown -R wavegate: /srv/wavegate
          start the coordinator          systemctl enable --now wavegate-coordinator
          let agents join                wavegate token create
          operate from another machine   wavegate --coordinator HOST:7443 nodes, with these three copied there:
                                           --certificate /var/lib/wavegate/coordinator/operators/admin/certificate.pem
                                           --key /var/lib/wavegate/coordinator/operators/admin/key.pem
                                           --ca /var/lib/wavegate/coordinator/operators/admin/ca.pem
        ");
    }
}
