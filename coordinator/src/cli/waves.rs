//! How the waves of a plan are to be made and begun, where it is to be otherwise than the procedure says: arguments that
//! `plan` and `upgrade` share.

use std::collections::BTreeMap;
use std::str::FromStr;
use wavegate_common::platform::Stage;
use wavegate_common::waves::{Amount, Batches, Mode};
use wavegate_proto::v1;

/// The heading of these options.
const WAVES: &str = "Waves and limits, each for one stage; may be given once a stage";

/// Waves and limits in place of the procedure's.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = WAVES)]
pub(super) struct WaveArgs {
    /// Nodes in the first wave, e.g. compute=2
    #[arg(long, value_name = "STAGE=N", value_parser = of_stage::<Count>)]
    canary: Vec<(Stage, String)>,
    /// Sizes of the waves after the canary: compute=1,5,25% (the last is that of all that follow), or compute=doubling
    #[arg(long, value_name = "STAGE=SIZES", value_parser = of_stage::<Batches>)]
    batches: Vec<(Stage, String)>,
    /// Never work on nodes of two groups at once, e.g. compute=rack; the label is the inventory's. compute= for no groups
    #[arg(long, value_name = "STAGE=LABEL", value_parser = of_stage::<String>)]
    group_by: Vec<(Stage, String)>,
    /// Nodes that may be worked on or have failed at the same time, e.g. compute=10 or compute=10%
    #[arg(long, value_name = "STAGE=N", value_parser = of_stage::<Amount>)]
    max_unavailable: Vec<(Stage, String)>,
    /// Nodes that may fail before the rollout halts, e.g. compute=1 or compute=5%
    #[arg(long, value_name = "STAGE=N", value_parser = of_stage::<Amount>)]
    errors_allowed: Vec<(Stage, String)>,
    /// Rest after each wave, before the next one begins, e.g. compute=10m
    #[arg(long, value_name = "STAGE=TIME", value_parser = of_stage::<Rest>)]
    soak: Vec<(Stage, String)>,
    /// Whether waves begin by themselves (auto) or when an operator says so (manual), e.g. compute=manual
    #[arg(long, value_name = "STAGE=MODE", value_parser = of_stage::<Mode>)]
    wave_start: Vec<(Stage, String)>,
}

/// A whole number.
struct Count(u32);

impl FromStr for Count {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("'{text}' is no whole number, 0 or more"))
    }
}

/// A rest, in seconds.
struct Rest(u64);

impl FromStr for Rest {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "0" | "0s") { Ok(Self(0)) } else { super::duration::seconds(text).map(Self) }
    }
}

/// `STAGE=VALUE`, with the value checked and left as it is written.
fn of_stage<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<(Stage, String), String> {
    let (stage, value) = text.split_once('=').ok_or("write STAGE=VALUE, e.g. compute=2")?;
    let stage = stage.parse::<Stage>().map_err(|error| error.to_string())?;
    value.parse::<T>().map_err(|error| error.to_string())?;
    Ok((stage, value.to_owned()))
}

impl WaveArgs {
    /// What was asked for, a message a stage.
    pub(super) fn limits(&self) -> Vec<v1::StageLimits> {
        let mut limits: BTreeMap<Stage, v1::StageLimits> = BTreeMap::new();
        let mut put = |all: &[(Stage, String)], put: fn(&mut v1::StageLimits, &str)| {
            for (stage, value) in all {
                let fresh = || v1::StageLimits { stage: stage.to_string(), ..v1::StageLimits::default() };
                put(limits.entry(*stage).or_insert_with(fresh), value);
            }
        };
        put(&self.canary, |limits, n| limits.canary = n.parse::<Count>().ok().map(|count| count.0));
        put(&self.batches, |limits, sizes| limits.batches = Some(sizes.to_owned()));
        put(&self.group_by, |limits, label| limits.group_by = Some(label.to_owned()));
        put(&self.max_unavailable, |limits, n| limits.max_unavailable = Some(n.to_owned()));
        put(&self.errors_allowed, |limits, n| limits.errors_allowed = Some(n.to_owned()));
        put(&self.soak, |limits, rest| limits.soak_s = rest.parse::<Rest>().ok().map(|rest| rest.0));
        put(&self.wave_start, |limits, mode| limits.start = Some(mode.to_owned()));
        limits.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        waves: WaveArgs,
    }

    fn limits(line: &str) -> Vec<v1::StageLimits> {
        Line::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}")).waves.limits()
    }

    #[test]
    fn limits_of_a_stage_are_put_together() {
        let limits = limits(
            "plan --canary compute=2 --max-unavailable compute=10% --errors-allowed control=1 --canary compute=3 \
             --soak compute=10m --batches compute=1,5,25% --group-by compute=rack --wave-start control=manual",
        );
        let compute = v1::StageLimits {
            stage: "compute".into(),
            canary: Some(3),
            max_unavailable: Some("10%".into()),
            batches: Some("1,5,25%".into()),
            group_by: Some("rack".into()),
            soak_s: Some(600),
            errors_allowed: None,
            start: None,
        };
        let control = v1::StageLimits {
            stage: "control".into(),
            errors_allowed: Some("1".into()),
            start: Some("manual".into()),
            ..v1::StageLimits::default()
        };
        assert_eq!(limits, [compute, control]);
    }

    #[test]
    fn what_is_wrong_is_said_before_anything_is_asked() {
        let refused =
            |line: &str| Line::try_parse_from(line.split(' ')).map(|_| ()).expect_err("refused").to_string();
        for (line, says) in [
            ("plan --max-unavailable compute=110%", "'110%' is no number of nodes"),
            ("plan --batches compute=1,", "'' is no number of nodes"),
            ("plan --soak compute=long", "long"),
            ("plan --wave-start compute=later", "unknown mode 'later'; known: auto, manual"),
            ("plan --canary compute", "write STAGE=VALUE"),
            ("plan --canary compte=1", "unknown stage 'compte'"),
        ] {
            let error = refused(line);
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
