//! What is observed of etcd: its part and version here, and on a member the whole cluster. Whatever can't be found out is told
//! as unknown, with the reason: a node without it is still a node.

use super::mounts::filesystem_of;
use super::read;
use crate::etcd::{Asked, EtcdSettings, Here, calico, member, v2, view};
use crate::host::etcd::{Endpoint, EtcdError};
use crate::host::{Command, Host, exe};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;
use wavegate_common::etcd::{Calico, ClusterId, ClusterView, EtcdFacts, EtcdVersion, MemberId, Part};

/// How long one server may take for one answer. Where none answers, some three are asked, so that an observation takes no
/// longer than five seconds because of etcd.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How many places are asked for the cluster, that of the process here first.
const SEEDS: usize = 3;

/// Where the kernel tells what is mounted.
const MOUNTS: &str = "/proc/self/mountinfo";

/// What is to be known of etcd on the node, where it runs so; `None` where neither etcd nor somebody who asks one is there.
pub(super) fn observe(
    host: &dyn Host,
    settings: &EtcdSettings,
    software: Option<Calico>,
    all: &[Here],
) -> Result<Option<EtcdFacts>> {
    let asked = calico(host, settings, software)?;
    let mut endpoints: Vec<String> = asked.iter().map(|asked| asked.url.clone()).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    let Some(here) = all.iter().min_by_key(|here| here.part) else {
        return Ok((!endpoints.is_empty()).then(|| EtcdFacts { endpoints, ..EtcdFacts::of(Part::Client) }));
    };
    let mut facts = EtcdFacts {
        data_dir: here.data_dir.clone(),
        listens: here.listens.clone(),
        enable_v2: here.enable_v2,
        endpoints,
        ..EtcdFacts::of(here.part)
    };
    let look = Look { host, here };
    if here.process.is_none() {
        facts.unknown.push(format!("its version: service {} does not run", here.unit));
    }
    match here.part {
        Part::Member => look.at_member(&asked, &mut facts),
        Part::Proxy | Part::Gateway => look.at_what_passes_on(&mut facts),
        Part::Client => {}
    }
    Ok(Some(facts))
}

struct Look<'a> {
    host: &'a dyn Host,
    here: &'a Here,
}

impl Look<'_> {
    fn local(&self) -> Endpoint {
        Endpoint { url: self.here.local.clone(), access: self.here.access.clone(), timeout: PATIENCE }
    }

    fn at_member(&self, asked: &[Asked], facts: &mut EtcdFacts) {
        let mut seeds = Vec::new();
        if self.here.process.is_some() {
            match self.itself() {
                Ok((version, id)) => {
                    facts.version = Some(version);
                    note(id, "which member it is", &mut facts.member, &mut facts.unknown);
                    seeds.push(self.local());
                }
                Err(error) => facts.unknown.push(format!("its version: {error}")),
            }
        }
        let elsewhere = asked.iter().filter(|asked| asked.url != self.here.local);
        seeds.extend(elsewhere.map(|asked| Endpoint {
            url: asked.url.clone(),
            access: asked.access.clone(),
            timeout: PATIENCE,
        }));
        seeds.truncate(SEEDS);
        if seeds.is_empty() {
            facts.unknown.push(
                "its cluster: the member here does not answer, and no other is known to ask".to_owned(),
            );
        } else {
            match view(self.host, &seeds) {
                Ok(view) => {
                    facts.cluster_id = Some(view.id);
                    facts.member = facts.member.or_else(|| self.listed(&view));
                    facts.cluster = Some(view);
                }
                Err(error) => facts.unknown.push(format!("its cluster: {error}")),
            }
        }
        match self.filesystem() {
            Ok(kind) => facts.data_filesystem = Some(kind),
            Err(why) => facts.unknown.push(format!("what its data is on: {why}")),
        }
    }

    /// The version of the process that answers here, and which member it is.
    fn itself(&self) -> Result<(EtcdVersion, Result<MemberId, EtcdError>), EtcdError> {
        let server = self.host.etcd(&self.local());
        let version = server.version()?.server;
        Ok((version, member(&*server, &self.here.local)))
    }

    /// The member that its own name and addresses stand for in the cluster's list: of one that does not answer.
    fn listed(&self, view: &ClusterView) -> Option<MemberId> {
        let of_here =
            |urls: &[String]| !urls.is_empty() && urls.iter().all(|url| self.here.advertised.contains(url));
        let mut alike = view
            .members
            .iter()
            .filter(|member| member.name == self.here.name && of_here(&member.client_urls));
        let found = alike.next()?;
        alike.next().is_none().then_some(found.id)
    }

    /// A proxy or a gateway passes on what it is asked, its version included: that is told by the program that runs.
    fn at_what_passes_on(&self, facts: &mut EtcdFacts) {
        let Some(process) = &self.here.process else { return };
        let program = if process.exe_is_file_on_disk {
            exe::path_of(&process.exe.to_string_lossy()).to_owned()
        } else {
            // Its file has been replaced; what runs is still there.
            format!("/proc/{}/exe", process.pid)
        };
        let printed = self.host.run(&Command::new([program.as_str(), "--version"]).timeout(PATIENCE));
        match printed.map(|exit| (exit.stdout + &exit.stderr).parse::<EtcdVersion>()) {
            Ok(Ok(version)) => facts.version = Some(version),
            Ok(Err(error)) => facts.unknown.push(format!("its version: {program} --version: {error}")),
            Err(error) => facts.unknown.push(format!("its version: {:#}", anyhow::Error::from(error))),
        }
        note(self.cluster_behind(), "which cluster it leads to", &mut facts.cluster_id, &mut facts.unknown);
    }

    /// The cluster that answers through the process here: through a gateway by either API, through a proxy by version 2.
    fn cluster_behind(&self) -> Result<ClusterId, EtcdError> {
        let server = self.host.etcd(&self.local());
        let by_v2 = || v2::cluster(&*server, &self.here.local);
        if self.here.part == Part::Proxy {
            return by_v2();
        }
        match server.members() {
            Ok(members) => Ok(members.cluster),
            Err(EtcdError::Unsupported { .. }) => by_v2(),
            Err(error) => Err(error),
        }
    }

    /// The file system that the data directory is on, links followed.
    fn filesystem(&self) -> Result<String, String> {
        let Some(data) = &self.here.data_dir else {
            return Err("its data directory is not told, and where it was started is not known".to_owned());
        };
        let followed = self.host.run(&Command::new(["readlink", "-f", "--", data]).timeout(PATIENCE));
        let followed =
            followed.ok().filter(|exit| exit.code == 0).map(|exit| exit.stdout.trim_end().to_owned());
        let path = followed.filter(|path| path.starts_with('/')).unwrap_or_else(|| data.clone());
        let mounts = read(self.host, MOUNTS).map_err(|error| format!("{error:#}"))?.unwrap_or_default();
        let kind = filesystem_of(&mounts, Path::new(&path)).map(str::to_owned);
        kind.ok_or_else(|| format!("{MOUNTS} does not say it for {path}"))
    }
}

fn note<T>(found: Result<T, EtcdError>, what: &str, place: &mut Option<T>, unknown: &mut Vec<String>) {
    match found {
        Ok(found) => *place = Some(found),
        Err(error) => unknown.push(format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests;
