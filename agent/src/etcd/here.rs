//! How etcd runs on this node: what its process was given; where none runs, what its service's files say.

use super::access::{EtcdSettings, first, of_server};
use super::calico::{Asked, calico};
use super::given::{Files, Given, environment, unit_of_cgroup};
use super::reach::{is_any, is_loopback, split};
use crate::action::pid_files::runs;
use crate::host::etcd::Access;
use crate::host::{Command, Host, Process};
use crate::os::Os;
use anyhow::{Context, Result, anyhow};
use std::path::{Path, PathBuf};
use wavegate_common::etcd::Part;
use wavegate_common::outcome::StepError;

/// Services of etcd's, as packages and documentation name them.
const UNITS: [&str; 5] = ["etcd", "etcd2", "etcd-member", "etcd-proxy", "etcd-gateway"];

/// Where a gateway listens that is not told (etcdmain/gateway.go).
const GATEWAY_LISTENS: &str = "127.0.0.1:23790";

/// Where a server listens for clients that is not told; up to 2.3 at port 4001 too (etcdmain/config.go).
const SERVER_LISTENS: &str = "http://127.0.0.1:2379";

/// How etcd runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// Which part it plays; never [`Part::Client`].
    pub part: Part,
    /// Its service, without `.service`.
    pub unit: String,
    /// Its process, if it runs.
    pub process: Option<Process>,
    /// Its name in the cluster; `default` if it was given none.
    pub name: String,
    /// Its data directory, an absolute path; `None` for a gateway, and if it can't be found out.
    pub data_dir: Option<String>,
    /// The directory of its log, an absolute path, where that is not in the data directory.
    pub wal_dir: Option<String>,
    /// Where it was told to listen for clients: URLs, of a gateway `HOST:PORT`; empty if it was not told.
    pub listens: Vec<String>,
    /// Where it tells clients to ask it: URLs.
    pub advertised: Vec<String>,
    /// `--enable-v2`, if it was given.
    pub enable_v2: Option<bool>,
    /// The URL that this very process is asked at.
    pub local: String,
    /// Who asks it.
    pub access: Access,
}

/// How etcd runs on this node; `None` where there is none, or its service is masked. Where there are several, the member rather
/// than the proxy, and that rather than the gateway.
///
/// # Errors
/// If the service manager can't be asked or a file can't be read.
pub fn here(host: &dyn Host, os: &Os, settings: &EtcdSettings) -> Result<Option<Here>> {
    Ok(of_every_process(host, os, settings)?.into_iter().min_by_key(|here| here.part))
}

/// The same of each process; where none runs, of the service or program that is there.
///
/// # Errors
/// Those of [`here`].
pub fn of_every_process(host: &dyn Host, os: &Os, settings: &EtcdSettings) -> Result<Vec<Here>> {
    // The port does not matter here, only who asks.
    let asked = calico(host, settings, None)?;
    let processes = host.processes();
    let mut all = Vec::new();
    for process in processes.iter().filter(|process| runs(process, "etcd")) {
        let unit = text(host, &format!("/proc/{}/cgroup", process.pid)).ok().flatten();
        let unit = unit.as_deref().and_then(unit_of_cgroup).unwrap_or(UNITS[0]).to_owned();
        let given = match of_process(host, process)? {
            Some(given) => given,
            None => of_files(host, &unit)?,
        };
        let base = || working_directory(host, process);
        all.push(made_of(&given, unit, Some(process.clone()), &base, settings, &asked));
    }
    if all.is_empty()
        && let Some(unit) = unit_that_is_there(host, os)?
    {
        let given = of_files(host, unit)?;
        all.push(made_of(&given, unit.to_owned(), None, &|| None, settings, &asked));
    }
    Ok(all)
}

/// The same of one service, whether or not it runs or somebody keeps it down, and whatever it is called: of its process, which
/// may be below `main_pid`; without one, of its files.
///
/// # Errors
/// If a file can't be read.
pub fn of_service(
    host: &dyn Host,
    settings: &EtcdSettings,
    unit: &str,
    main_pid: Option<u32>,
) -> Result<Here> {
    let asked = calico(host, settings, None)?;
    let its_own = |process: &Process| {
        let cgroup = text(host, &format!("/proc/{}/cgroup", process.pid)).ok().flatten();
        match cgroup.as_deref().and_then(unit_of_cgroup) {
            Some(named) => named == unit,
            // Upstart has no such groups, and a container has its own.
            None => main_pid.is_some(),
        }
    };
    let mut running: Vec<Process> =
        host.processes().into_iter().filter(|process| runs(process, "etcd") && its_own(process)).collect();
    running.sort_by_key(|process| Some(process.pid) != main_pid);
    let process = running.into_iter().next();
    let given = match &process {
        Some(process) => of_process(host, process)?,
        None => None,
    };
    let given = match given {
        Some(given) => given,
        None => of_files(host, unit)?,
    };
    let base = || process.as_ref().and_then(|process| working_directory(host, process));
    Ok(made_of(&given, unit.to_owned(), process.clone(), &base, settings, &asked))
}

/// How a service would run etcd by its files, whatever its process was given.
///
/// # Errors
/// If a file can't be read.
pub fn configured(host: &dyn Host, settings: &EtcdSettings, unit: &str) -> Result<Here> {
    let given = of_files(host, unit)?;
    Ok(made_of(&given, unit.to_owned(), None, &|| None, settings, &calico(host, settings, None)?))
}

/// What a process was given; `None` where its flags alone are known and say nothing of it: its environment can't be read,
/// so that files have to tell.
fn of_process(host: &dyn Host, process: &Process) -> Result<Option<Given>> {
    let environ = text(host, &format!("/proc/{}/environ", process.pid)).ok().flatten().unwrap_or_default();
    let given = Given::to_process(&process.cmdline, &environment(&environ));
    if let Some(file) = by_its_file(host, &given)? {
        return Ok(Some(file));
    }
    let told = !environ.is_empty() || process.cmdline.len() > 1;
    Ok(told.then_some(given))
}

/// What the configuration file says, if there is one: then nothing else counts.
fn by_its_file(host: &dyn Host, given: &Given) -> Result<Option<Given>> {
    let Some(path) = given.get("config-file") else { return Ok(None) };
    Ok(text(host, path)?.map(|text| Given::by_file(&text)))
}

/// What the files of a service say.
fn of_files(host: &dyn Host, unit: &str) -> Result<Given> {
    let mut files = Files::default();
    let mut named: Vec<String> = Vec::new();
    let directories = ["/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"];
    let mut texts: Vec<String> =
        directories.iter().map(|directory| format!("{directory}/{unit}.service")).collect();
    let drop_ins = format!("/etc/systemd/system/{unit}.service.d");
    texts.extend(host.list(Path::new(&drop_ins)).iter().map(|name| format!("{drop_ins}/{name}")));
    texts.extend([format!("/etc/init/{unit}.conf"), format!("/etc/init/{unit}.override")]);
    for path in texts {
        if let Some(text) = text(host, &path)? {
            named.extend(files.read(&text).iter().map(|path| path.replace("%p", unit).replace("%N", unit)));
        }
    }
    // Environment files win over what the unit itself assigns.
    let usual =
        [format!("/etc/default/{unit}"), format!("/etc/sysconfig/{unit}"), "/etc/etcd/etcd.conf".to_owned()];
    for path in named.iter().chain(usual.iter().filter(|path| !named.contains(path))) {
        if let Some(text) = text(host, path)? {
            files.read(&text);
        }
    }
    let given = files.given();
    Ok(by_its_file(host, &given)?.unwrap_or(given))
}

/// A service of etcd's that is there and that nobody keeps down; a program that no service is known for counts too.
fn unit_that_is_there(host: &dyn Host, os: &Os) -> Result<Option<&'static str>> {
    let first = os.service(host, UNITS[0]).map_err(|error| unobserved(&error))?;
    if first.installed {
        return Ok((!first.is_kept_down()).then_some(UNITS[0]));
    }
    for unit in &UNITS[1..] {
        let files = [
            format!("/etc/systemd/system/{unit}.service"),
            format!("/lib/systemd/system/{unit}.service"),
            format!("/usr/lib/systemd/system/{unit}.service"),
            format!("/etc/init/{unit}.conf"),
        ];
        if files.iter().any(|file| host.exists(Path::new(file))) {
            let state = os.service(host, unit).map_err(|error| unobserved(&error))?;
            return Ok((state.installed && !state.is_kept_down()).then_some(unit));
        }
    }
    Ok(host.which("etcd").map(|_| UNITS[0]))
}

fn made_of(
    given: &Given,
    unit: String,
    process: Option<Process>,
    base: &dyn Fn() -> Option<PathBuf>,
    settings: &EtcdSettings,
    asked: &[Asked],
) -> Here {
    let part = given.part();
    let is_gateway = part == Part::Gateway;
    let name = given.get("name").unwrap_or("default").to_owned();
    let data_dir = given.get("data-dir").map_or_else(|| format!("{name}.etcd"), str::to_owned);
    let absolute = |directory: String| match Path::new(&directory).is_absolute() {
        true => Some(directory),
        false => base().map(|base| base.join(directory).to_string_lossy().into_owned()),
    };
    let data_dir = Some(data_dir).filter(|_| !is_gateway).and_then(absolute);
    let wal_dir = given.get("wal-dir").filter(|_| !is_gateway).map(str::to_owned).and_then(absolute);
    let (listens, advertised) = if is_gateway {
        (given.list("listen-addr"), Vec::new())
    } else {
        (given.list("listen-client-urls"), given.list("advertise-client-urls"))
    };
    let secured = asked.iter().find(|asked| asked.url.starts_with("https:"));
    let found = secured.map_or_else(Access::default, |asked| asked.access.clone());
    let local = if is_gateway {
        let scheme = if secured.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", reached_at(listens.first().map_or(GATEWAY_LISTENS, String::as_str)))
    } else {
        local_url(&listens, &advertised)
    };
    // Where this process is asked without TLS, the others may be asked with it.
    let access = settings.over(first(found, of_server(given)));
    Here {
        part,
        unit,
        process,
        name,
        data_dir,
        wal_dir,
        listens,
        advertised,
        enable_v2: given.flag("enable-v2"),
        local,
        access,
    }
}

/// The URL that this very process is asked at: one that names this machine alone rather than one that may lead elsewhere; with
/// TLS rather the one that clients are told, whose name is in the certificate.
fn local_url(listens: &[String], advertised: &[String]) -> String {
    let usable: Vec<&String> = listens.iter().filter(|url| url.starts_with("http")).collect();
    let plain = usable.iter().filter(|url| url.starts_with("http://"));
    let loops = |url: &&&String| is_loopback(split(url).1);
    if let Some(url) = plain.clone().find(loops).or_else(|| plain.clone().next()) {
        return with_reachable_host(url);
    }
    let Some(secure) = usable.first() else { return SERVER_LISTENS.to_owned() };
    let listens_there = |url: &&String| {
        let same_port = |listen: &&String| split(listen).2 == split(url).2;
        let same_host = |listen: &&String| is_any(split(listen).1) || split(listen).1 == split(url).1;
        usable.iter().any(|listen| same_port(listen) && same_host(listen)) && url.starts_with("https:")
    };
    advertised.iter().find(listens_there).cloned().unwrap_or_else(|| with_reachable_host(secure))
}

fn with_reachable_host(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", reached_at(rest.trim_end_matches('/'))),
        None => url.to_owned(),
    }
}

/// `HOST:PORT` to ask at where something listens at this one: an address of all is not one to ask at.
fn reached_at(listens: &str) -> String {
    let (host, port) = listens.rsplit_once(':').unwrap_or((listens, ""));
    match host {
        "" | "0.0.0.0" | "localhost" => format!("127.0.0.1:{port}"),
        "[::]" => format!("[::1]:{port}"),
        _ => listens.to_owned(),
    }
}

/// Where the process was started, against which relative paths are meant.
fn working_directory(host: &dyn Host, process: &Process) -> Option<PathBuf> {
    let exit = host.run(&Command::new(["readlink", "--", &format!("/proc/{}/cwd", process.pid)])).ok()?;
    let path = PathBuf::from(exit.stdout.trim_end());
    (exit.code == 0 && path.is_absolute() && !path.starts_with("/proc")).then_some(path)
}

/// A file as text; bytes that are none are replaced.
pub(super) fn text(host: &dyn Host, path: &str) -> Result<Option<String>> {
    let content = host.read(Path::new(path)).with_context(|| format!("observing {path}"))?;
    Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

fn unobserved(error: &StepError) -> anyhow::Error {
    anyhow!("{error}: {}; {}", error.output.join(" / "), error.next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_here_is_asked_where_it_listens() {
        let owned = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        for (listens, advertised, local) in [
            (&[][..], &["http://10.0.0.1:2379"][..], "http://127.0.0.1:2379"),
            (&["http://0.0.0.0:2379"], &["http://10.0.0.1:2379"], "http://127.0.0.1:2379"),
            (&["http://10.0.0.1:2379", "http://localhost:4001"], &[], "http://127.0.0.1:4001"),
            (&["http://[::]:2379"], &[], "http://[::1]:2379"),
            (&["unix://x", "https://10.0.0.1:2379", "http://127.0.0.1:2379"], &[], "http://127.0.0.1:2379"),
            // The name that clients are told is the one in the certificate.
            (&["https://0.0.0.0:2379"], &["https://m1.example:2379"], "https://m1.example:2379"),
            (&["https://10.0.0.1:2379"], &["https://balancer:443"], "https://10.0.0.1:2379"),
        ] {
            assert_eq!(local_url(&owned(listens), &owned(advertised)), local, "{listens:?}");
        }
        assert_eq!(reached_at(":23790"), "127.0.0.1:23790");
        assert_eq!(reached_at("10.0.0.1:2379"), "10.0.0.1:2379");
    }
}
