//! Whole fleets of production code under faults that a seed decides: what must hold holds, a seed does the same to the last
//! byte, and the checks find what is planted. More of it: `make sim`.

use anyhow::{Context, Result, ensure};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;
use wavegate_tests::sim::check::Invariant;
use wavegate_tests::sim::cuts::Cutting;
use wavegate_tests::sim::{Failure, Figures, Plant, Settings, Site, run};

/// Seeds of every run of the tests; a larger fleet comes after them.
const SEEDS: u64 = 25;
/// Of the writes that are no sync, every so manieth is a place to stop at.
const EVERY: u64 = 29;
/// A seed whose fleet has three members of etcd, so that one can be stopped beside another.
const PLANTED: u64 = 3;

/// One site for all; a simulation has it alone, so that those who share the machine do not share its time.
static SITE: LazyLock<Mutex<Result<Site>>> = LazyLock::new(|| Mutex::new(Site::set_up()));

fn with_site<T>(work: impl FnOnce(&Site) -> Result<T>) -> Result<T> {
    let site = SITE.lock().unwrap_or_else(PoisonError::into_inner);
    match &*site {
        Ok(site) => work(site),
        Err(error) => anyhow::bail!("{error:#}"),
    }
}

#[test]
fn fleets_under_faults_keep_what_must_hold() -> Result<()> {
    with_site(|site| {
        let (began, mut all) = (Instant::now(), Figures::default());
        for seed in 1..=SEEDS {
            all.add(&run(site, &Settings::of(seed, None))?.figures);
        }
        all.add(&run(site, &Settings::of(SEEDS + 1, Some(60)))?.figures);
        println!("{}", all.told(began.elapsed()));
        ensure!(
            all.ended["finished"] > SEEDS,
            "every one ends with a rollout that finished: {:?}",
            all.ended
        );
        ensure!(all.faults.len() >= 20 && all.faults.values().all(|times| *times > 0), "{:?}", all.faults);
        Ok(())
    })
}

#[test]
fn a_seed_does_the_same_to_the_last_byte() -> Result<()> {
    with_site(|site| {
        for seed in [101, 102] {
            let settings = Settings { store_faults: true, asks_agents: true, ..Settings::of(seed, Some(8)) };
            let (first, again) = (run(site, &settings)?, run(site, &settings)?);
            ensure!(first == again, "seed {seed}: {} and {}", first.digest, again.digest);
            let other = run(site, &Settings { seed: seed + 1000, ..settings })?;
            ensure!(first.digest != other.digest, "another seed does something else");
        }
        Ok(())
    })
}

/// The checks are worth something: each wrong behaviour that is planted is found, and named as what it is.
#[test]
fn what_is_planted_is_found() -> Result<()> {
    let plants = [
        (Plant::OrderNotDecided, Invariant::NothingNew),
        (Plant::EventForged, Invariant::Barrier),
        (Plant::StoppedBeside, Invariant::OneMember),
        (Plant::OldOrderObeyed, Invariant::Fenced),
        (Plant::EffectTwice, Invariant::EffectOnce),
        (Plant::MachineDiffers, Invariant::EffectOnce),
        (Plant::BystanderKilled, Invariant::Bystanders),
        (Plant::LogCut, Invariant::LogStays),
        (Plant::NobodyWilling, Invariant::Ends),
    ];
    with_site(|site| {
        for (plant, invariant) in plants {
            let mut settings = Settings { plant: Some(plant), ..Settings::calm(PLANTED) };
            if plant == Plant::NobodyWilling {
                settings.mode = wavegate_common::rollout::Mode::Manual;
            }
            let found = run(site, &settings).err().with_context(|| format!("{plant:?} was not found"))?;
            let found = found.downcast_ref::<Failure>().with_context(|| format!("{plant:?}: {found:#}"))?;
            ensure!(found.violation.invariant == invariant, "{plant:?} was found as {}", found.violation);
        }
        Ok(())
    })
}

#[test]
fn the_store_may_be_cut_anywhere() -> Result<()> {
    let every = if std::env::var_os("WAVEGATE_EXHAUSTIVE").is_some() { 1 } else { EVERY };
    with_site(|site| {
        let began = Instant::now();
        let cutting = Cutting::new(site)?;
        let cuts = cutting.run_all(every)?;
        let used = cutting.used();
        println!(
            "store cuts: {cuts} of a rollout with {} writes and {} syncs, in {:.1} s",
            used.writes,
            used.syncs,
            began.elapsed().as_secs_f64()
        );
        ensure!(cuts > used.syncs, "every sync is a place to stop at");
        Ok(())
    })
}
