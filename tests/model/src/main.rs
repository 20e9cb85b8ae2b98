//! `wavegate-model`: explores small fleets and prints the figures.

use clap::Parser;
use std::time::Duration;
use wavegate_model::run::explore;
use wavegate_model::shape::Shape;
use wavegate_model::shapes::{FULL, QUICK};

/// Explores every world that small fleets can come to, with the production rollout and journal, and says whether every
/// invariant holds in each.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only the shapes that every test run explores.
    #[arg(long)]
    quick: bool,
    /// Only shapes with these names.
    #[arg(long = "shape", value_name = "NAME")]
    shapes: Vec<String>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Also prove that no two rollouts that differ are taken for the same; slower.
    #[arg(long)]
    compare: bool,
    /// Go on to the next shape after so many seconds; what was not seen is said, and the exit code is 1.
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let wanted = |shape: &&Shape| {
        arguments.shapes.is_empty() || arguments.shapes.iter().any(|name| name == shape.name)
    };
    let full = if arguments.quick { &[] } else { FULL };
    let (mut shapes, mut unique, mut incomplete) = (0, 0, 0);
    for shape in QUICK.iter().chain(full).filter(wanted) {
        let limit = arguments.limit.map(Duration::from_secs);
        let explored = explore(*shape, arguments.compare, arguments.threads, limit)?;
        println!("{explored}");
        (shapes, unique) = (shapes + 1, unique + explored.unique);
        incomplete += usize::from(!explored.complete);
    }
    anyhow::ensure!(shapes > 0, "there is no shape with that name");
    println!("{shapes} shapes, {unique} different worlds");
    anyhow::ensure!(
        incomplete == 0,
        "of {incomplete} shape(s) not every world was seen with every invariant in force"
    );
    Ok(())
}
