//! A stage in which programs take their time: what operators ask meanwhile, and the coordinator killed in the middle of it.

use super::{BOUND, Measuring};
use crate::bench::{Limit, Row, median};
use crate::swarm::log::{Places, ended_well, is_trouble, reached};
use crate::swarm::process::{FIRST, take_priority};
use crate::swarm::{Operator, Question};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::{Duration, Instant};

/// Every question is asked so often.
const TIMES: usize = 25;

impl Measuring {
    pub(super) async fn stage_that_takes_its_time(&mut self) -> Result<()> {
        let plan = self.operator.plan().await?;
        let places = Places::of(&plan);
        self.operator.begin(&plan).await?;
        reached(&mut self.operator, places.etcd, BOUND).await?;
        self.swarm.pace.set(self.options.pace);
        // Some of the nodes after the canary are at work.
        reached(&mut self.operator, places.canary + self.swarm.count() as u64, BOUND).await?;
        let from = Instant::now();
        self.questions().await?;
        let still = !self.operator.has_event(places.compute).await?;
        let asked = from.elapsed();
        anyhow::ensure!(still, "the stage was over before {asked:?} of questions were asked");
        let back = self.kill_and_start().await?;
        let still = !self.operator.has_event(places.compute).await?;
        self.told("the same in the middle of a stage", &back);
        self.swarm.pace.set(Duration::ZERO);
        reached(&mut self.operator, places.end, BOUND).await?;
        let events = self.operator.events().await?;
        let counted = events.iter().filter(|entry| is_trouble(entry)).count();
        let row = Row::new("nodes counted as failed or lost meanwhile", "", Some(Limit::Exactly(0.0)));
        let row = self.at(row, counted as f64);
        let when = if still {
            "the stage was still running when all were back"
        } else {
            "the stage had ended before"
        };
        self.row(row.note(when));
        if counted == 0 { ended_well(&events) } else { Ok(()) }
    }

    async fn questions(&mut self) -> Result<()> {
        let socket = self.coordinator.socket();
        let asked = tokio::task::spawn_blocking(move || asked(&socket));
        for (question, Answers { took, bytes }) in asked.await.context("the operator panicked")?? {
            // The target is for what people wait for.
            let limit = (question != Question::WholeStatus).then_some(Limit::AtMost(50.0));
            let row = Row::new(format!("{} while a stage runs", question.name()), "ms", limit);
            let row = self.at(row, took.iter().copied().fold(0.0, f64::max));
            let median = median(&took);
            self.row(row.note(format!("the worst of {TIMES}; median {median:.1}, {} KiB", bytes >> 10)));
        }
        Ok(())
    }
}

/// How a question was answered.
#[derive(Default)]
struct Answers {
    /// How long each answer took, in milliseconds.
    took: Vec<f64>,
    /// How long the last one was.
    bytes: usize,
}

/// Asks every question again and again: on a runtime of its own, as somebody who shares nothing with ten thousand links.
fn asked(socket: &Path) -> Result<Vec<(Question, Answers)>> {
    take_priority(FIRST);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("starting the operator's runtime")?.block_on(async {
        let mut operator = Operator::connect(socket).await?;
        let mut answers: Vec<(Question, Answers)> =
            Question::ALL.map(|question| (question, Answers::default())).into();
        for _ in 0..TIMES {
            for (question, Answers { took, bytes }) in &mut answers {
                let from = Instant::now();
                *bytes = operator.ask(*question).await?;
                took.push(from.elapsed().as_secs_f64() * 1000.0);
            }
        }
        Ok(answers)
    })
}
