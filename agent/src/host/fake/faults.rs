//! What goes wrong on a fake machine, and when: programs that fail or hang, agents that are killed, power cuts.

use super::{FakeMachine, FakeTransaction, package_programs};
use crate::host::{Command, Exit, HostError};

/// What unwinds through an agent that a fault killed. Catch it with `std::panic::catch_unwind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentKilled;

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The program does nothing and ends like this.
    Exit(Exit),
    /// The program does nothing and does not end in time.
    Hang,
    /// The agent is killed; a transaction that runs goes on to its end.
    AgentKilled,
    /// The agent is killed and so is the transaction that runs: its first package stays half-configured.
    PowerCut,
    /// The transaction is killed, the agent lives on.
    Interrupted,
}

/// Before, in the middle of, after or instead of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before it has any effect.
    Before,
    /// In the middle of a transaction.
    Midway,
    /// After its effect, before the agent learns of it.
    After,
    /// Instead of it; for [`Fault::Exit`] and [`Fault::Hang`].
    Instead,
}

/// Faults to come. Each fires once, at the first program whose arguments, joined by a space, contain its text; file
/// replacements count as `replace PATH`, renamed and removed ones as `rename FROM TO` and `remove PATH`, notes as `note NAME`,
/// signals as `kill -KILL PID`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<(String, When, Fault)>);

impl Faults {
    /// Adds one.
    pub fn add(&mut self, text: &str, when: When, fault: Fault) {
        self.0.push((text.to_owned(), when, fault));
    }

    /// The agent is killed before the program that contains `text` is started.
    pub fn kill_before(&mut self, text: &str) {
        self.add(text, When::Before, Fault::AgentKilled);
    }

    /// The agent is killed after the program that contains `text` has ended, and before it learns of that.
    pub fn kill_after(&mut self, text: &str) {
        self.add(text, When::After, Fault::AgentKilled);
    }

    /// The program that contains `text` fails with exit code and stderr.
    pub fn fail(&mut self, text: &str, code: i32, stderr: &str) {
        let exit = Exit { code, stdout: String::new(), stderr: stderr.to_owned() };
        self.add(text, When::Instead, Fault::Exit(exit));
    }

    /// Whether every fault has fired.
    #[must_use]
    pub fn all_fired(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, line: &str, when: When) -> Option<Fault> {
        let index = self.0.iter().position(|(text, at, _)| *at == when && line.contains(text.as_str()))?;
        Some(self.0.remove(index).2)
    }

    fn peek(&self, line: &str, when: When) -> Option<&Fault> {
        let due = |(text, at, _): &&(String, When, Fault)| *at == when && line.contains(text.as_str());
        self.0.iter().find(due).map(|(_, _, fault)| fault)
    }
}

/// Runs a command as a transaction, unless a fault cuts it off in the middle.
pub(super) fn transact(machine: &mut FakeMachine, name: &str, command: &Command) -> Result<(), HostError> {
    let line = command.argv.join(" ");
    let cut = match machine.faults.peek(&line, When::Midway) {
        Some(Fault::PowerCut) => true,
        Some(Fault::Interrupted) => machine.faults.take(&line, When::Midway).is_some(),
        Some(Fault::AgentKilled | Fault::Exit(_) | Fault::Hang) | None => false,
    };
    let exit = if cut {
        machine.history.push(line);
        package_programs::cut_short(machine, command);
        None
    } else {
        Some(machine.run(command)?)
    };
    machine.transactions.insert(name.to_owned(), FakeTransaction { exit });
    Ok(())
}
