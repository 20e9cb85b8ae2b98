//! The lab's part of the benchmark: the default fleet upgraded by wavegate and, booted afresh, by the commands that an
//! operator would type, all nodes of a stage at once; and what an agent takes of its host. Nothing here is a target's judge.

mod footprint;
mod orchestrated;
mod script;
mod shell;
mod spans;
mod steps;
mod took;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Limit, Row, median};
use crate::demo::{Snapshot, must_be_upgraded};
use crate::deploy::Wavegate;
use crate::evidence::STAGES;
use crate::lab::{Fleet, FleetSpec, Lab};

use footprint::Footprint;
use took::{Took, spread};

/// The fleet's name.
const NAME: &str = "bench";

/// What is measured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Rounds that count, each with both sides, the order turned round every time; 0 for the agent's footprint alone.
    pub rounds: u32,
    /// A round before them that does not count, and warms the machine's caches.
    pub warm: bool,
    /// Watch an idle agent for so many seconds.
    pub idle_s: u64,
    /// Have the agents log their spans, which takes a little time, and write what they logged into this directory.
    pub spans: Option<PathBuf>,
}

/// One side's upgrade of a fleet.
struct Side {
    upgrade: Took,
    again: Took,
    after: BTreeMap<String, Snapshot>,
}

/// Measures; the rows that `make bench` prints. Where the time goes is told on stderr.
///
/// # Errors
///
/// When the lab can't be made or booted, an upgrade fails, or a fleet is not at its end what it is to be.
pub fn run(settings: &Settings) -> Result<Vec<Row>> {
    let lab = Lab::prepare()?;
    let (mut ours, mut theirs, mut agents) = (Vec::new(), Vec::new(), None);
    let warm = u32::from(settings.warm && settings.rounds > 0);
    for round in 0..settings.rounds.max(1) + warm {
        let counts = round >= warm;
        eprintln!("round {round}, which {}", if counts { "counts" } else { "does not count" });
        let last = round + 1 == settings.rounds.max(1) + warm;
        let idle_s = last.then_some(settings.idle_s);
        // Whoever comes second finds the machine warmer, and perhaps busier.
        let first_ours = round % 2 == 0;
        let by_wavegate = || orchestrated(&lab, idle_s, settings.spans.as_deref());
        let by_shell = || if settings.rounds == 0 { Ok(None) } else { by_shell(&lab).map(Some) };
        let ((ours_now, found), theirs_now) = if first_ours {
            (by_wavegate()?, by_shell()?)
        } else {
            let theirs_now = by_shell()?;
            (by_wavegate()?, theirs_now)
        };
        agents = found.or(agents);
        let Some(theirs_now) = theirs_now else { continue };
        same_end(&ours_now.after, &theirs_now.after)?;
        if counts {
            ours.push(ours_now);
            theirs.push(theirs_now);
        }
    }
    let mut rows = if settings.rounds == 0 { Vec::new() } else { against_the_shell(&ours, &theirs) };
    rows.extend(agents.context("no agent was looked at")?.rows());
    Ok(rows)
}

fn orchestrated(lab: &Lab, idle_s: Option<u64>, spans: Option<&Path>) -> Result<(Side, Option<Footprint>)> {
    let fleet = Fleet::boot(lab, FleetSpec::standard(NAME))?;
    let wavegate = Wavegate::install(&fleet)?;
    let idle = idle_s.map(|seconds| footprint::idle(&wavegate, seconds)).transpose()?;
    if spans.is_some() {
        spans::have_logged(&wavegate)?;
    }
    shell::warm(&wavegate)?;
    let before = Snapshot::of_all(&wavegate)?;
    let upgrade = orchestrated::upgrade(&wavegate)?;
    let after = Snapshot::of_all(&wavegate)?;
    must_be_upgraded(&wavegate, &before, &after)?;
    let found = idle.map(|idle| footprint::after(&wavegate, idle)).transpose()?;
    eprintln!("wavegate: {upgrade}\n{}", upgrade.steps);
    let again = orchestrated::upgrade(&wavegate)?;
    eprintln!("wavegate, up to date already: {again}\n{}", again.steps);
    spans.map(|directory| spans::keep(&wavegate, directory)).transpose()?;
    fleet.tear_down()?;
    Ok((Side { upgrade, again, after }, found))
}

fn by_shell(lab: &Lab) -> Result<Side> {
    let fleet = Fleet::boot(lab, FleetSpec::standard(NAME))?;
    let nodes = Wavegate::on(&fleet);
    shell::warm(&nodes)?;
    let before = Snapshot::of_all(&nodes)?;
    let upgrade = shell::upgrade(&nodes, &fleet.manifest)?;
    let after = Snapshot::of_all(&nodes)?;
    must_be_upgraded(&nodes, &before, &after)?;
    let again = shell::upgrade(&nodes, &fleet.manifest)?;
    eprintln!("shell: {upgrade}\nshell, up to date already: {again}");
    fleet.tear_down()?;
    Ok(Side { upgrade, again, after })
}

/// Both sides end with the same packages, services and settings.
fn same_end(ours: &BTreeMap<String, Snapshot>, theirs: &BTreeMap<String, Snapshot>) -> Result<()> {
    for (node, ours) in ours {
        let theirs = &theirs[node];
        let of = |side: &Snapshot| {
            let dnsmasqs = side.neutron_dnsmasqs().count();
            (side.packages.clone(), side.active, side.dhcp_agents.clone(), side.lock_path.clone(), dnsmasqs)
        };
        ensure!(
            of(ours) == of(theirs),
            "{node} is not the same by wavegate and by the shell: {ours:?}, {theirs:?}"
        );
    }
    Ok(())
}

/// What the shell's bare commands take.
fn ratios_without_watch(ours: &[Side], theirs: &[Side]) -> Vec<f64> {
    let both = ours.iter().zip(theirs);
    both.map(|(ours, theirs)| ours.upgrade.whole / (theirs.upgrade.whole - theirs.upgrade.watched)).collect()
}

fn against_the_shell(ours: &[Side], theirs: &[Side]) -> Vec<Row> {
    let ratios = |of: fn(&Side) -> f64| -> Vec<f64> {
        ours.iter().zip(theirs).map(|(ours, theirs)| of(ours) / of(theirs)).collect()
    };
    let seconds = |sides: &[Side], of: fn(&Side) -> f64| median(&sides.iter().map(of).collect::<Vec<_>>());
    let whole: fn(&Side) -> f64 = |side| side.upgrade.whole;
    let again: fn(&Side) -> f64 = |side| side.again.whole;
    let all = ratios(whole);
    let note = format!(
        "{} rounds, {}; wavegate {:.1} s, shell {:.1} s; neither with etcd's settling, 10 s a member on purpose",
        ours.len(),
        spread(&all),
        seconds(ours, whole),
        seconds(theirs, whole)
    );
    let upgrade = "upgrade of the lab's fleet, wavegate's time by the shell's";
    let mut rows = vec![Row::new(upgrade, "", Some(Limit::AtMost(1.05))).value(median(&all)).note(note)];
    let bare = ratios_without_watch(ours, theirs);
    let watched = seconds(theirs, |side| side.upgrade.watched);
    let note = format!(
        "without {watched:.1} s in which it looks whether services stay up for 3 s, as wavegate does"
    );
    let what = "- by a shell that looks at nothing at the end";
    rows.push(Row::new(what, "", None).value(median(&bare)).note(note));
    for (index, stage) in STAGES.iter().enumerate() {
        let of =
            |sides: &[Side]| median(&sides.iter().map(|side| side.upgrade.stages[index]).collect::<Vec<_>>());
        let (ours, theirs) = (of(ours), of(theirs));
        let note = format!("wavegate {ours:.1} s, shell {theirs:.1} s");
        rows.push(Row::new(format!("- stage {stage}"), "", None).value(ours / theirs).note(note));
    }
    let all = ratios(again);
    let slowest = ours.last().map(|side| side.again.steps.slowest(3)).unwrap_or_default();
    let note = format!(
        "{}; wavegate {:.1} s, shell {:.1} s, which restarts every service again; wavegate's longest: {slowest}",
        spread(&all),
        seconds(ours, again),
        seconds(theirs, again)
    );
    rows.push(Row::new("- the same, up to date already", "", None).value(median(&all)).note(note));
    rows
}
