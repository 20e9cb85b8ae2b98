//! `wavegate-agent hand-back`: the agent is going away, so its task is brought to an end between two steps. How the runner learns
//! of that is the lock's business (`hand_back/lock`); what is printed is in `hand_back/told`.
//!
//! Nothing is stopped and nothing is written but by the agent: whoever hands back holds the lock, reads the journal and waits.
//! If that one is killed, or its time is over, the lock goes with it, and the agent goes on.

mod ancestors;
mod at_work;
pub mod lock;
mod told;

pub use at_work::AtWork;
pub use told::HandedBack;

use crate::host::Host;
use crate::journal::{self, JournalFile, OpenError, SharedJournal, Store, lines};
use crate::os::Os;
use crate::os::locks::{LockHolder, Need};
use at_work::Stand;
use lines::Reading;
use lock::Held;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the journal is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How long the coordinator may take to acknowledge the end of a task; it may be away for long.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// How long a step at packages may stand beside a package manager that waits for us, before it is sure to wait for that one: it
/// may be past its transaction.
const HELD_UP: Duration = Duration::from_secs(20);

/// Why an agent is not handed back.
#[derive(Debug, thiserror::Error)]
pub enum HandBackError {
    /// It is asked by what the agent itself does.
    #[error(
        "this is asked inside a package transaction of the agent's own ({runner}), which would remove the agent: it is not handed \
         back. See in the task's output (`wavegate logs NODE`) which package takes wavegate-agent away, and keep that one off \
         this node"
    )]
    OwnTransaction {
        /// The runner's command line.
        runner: String,
    },
    /// Another one hands it back.
    #[error(
        "somebody else is handing this agent back ({}/hand-back.lock is locked) and was not done within {} s; nothing was done. \
         Wait for that one to end ('fuser -v' on that file names it), then ask again",
        state_directory.display(), within.as_secs()
    )]
    Busy {
        /// The state directory.
        state_directory: PathBuf,
        /// How long it was waited for.
        within: Duration,
    },
    /// A step did not end in time.
    #[error(
        "not handed back within {} s: the agent is still at {at_work}. It goes on with its task. Let that step end, or solve what \
         it waits for (`wavegate-agent status` shows it), then ask again; --within SECONDS gives it longer",
        within.as_secs()
    )]
    StillAtWork {
        /// What it is at.
        at_work: Box<AtWork>,
        /// How long it was waited for.
        within: Duration,
    },
    /// A step did not end in time that this program was at itself, for want of an agent.
    #[error(
        "not handed back within {} s: no agent runs here, and what one before was at could not be brought to its end: {at_work}. \
         The next agent goes on with it. Start one (service wavegate-agent start) or ask again with --within SECONDS",
        within.as_secs()
    )]
    NotEnded {
        /// What it is at.
        at_work: Box<AtWork>,
        /// How long it was tried.
        within: Duration,
    },
    /// The step waits for the package manager that waits for us.
    #[error(
        "not handed back: there is {at_work}. It needs the package manager, and {holder}, waits for this program to end: neither \
         would end before the other. Let that one end without removing the agent; then hand the agent back by itself \
         (`wavegate-agent hand-back`), which ends its task behind that step, and remove it after that"
    )]
    HeldUp {
        /// What it is at.
        at_work: Box<AtWork>,
        /// Who has the lock.
        holder: LockHolder,
    },
    /// There is a task to end, and no agent that could.
    #[error(
        "no agent runs here, and its task can't be ended without one; if it is to be given up, move the journal in the agent's \
         state directory away"
    )]
    NoAgent,
    /// There is a task to end, and the agent can't be told.
    #[error(
        "a task is open on this node, and its agent can't be told to end it; if it is to be given up, end the agent and move the \
         journal in its state directory away"
    )]
    NotTold,
    /// What was to be run once the agent was handed back.
    #[error("the agent is handed back, but '{line}', which was to be run then, failed")]
    Then {
        /// The command.
        line: String,
    },
    /// A file operation failed.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried, e.g. `lock`.
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// What is handed back, and within which time.
pub struct Request<'a> {
    /// The agent's state directory.
    pub state_directory: &'a Path,
    /// How long may be waited.
    pub within: Duration,
    /// The machine.
    pub host: &'a dyn Host,
    /// The conventions of its operating system, if they are known.
    pub os: Option<&'a Os>,
}

/// Runs an agent on this journal, until [`until_told`] is ready for it and this moment.
pub type RunAgent<'a> = &'a mut dyn FnMut(SharedJournal, Instant) -> anyhow::Result<()>;

/// Hands the agent back: waits until its task has ended and, for a while, until the coordinator has been told. Runs an agent itself
/// if there is a task to end and none runs. As long as what is returned lives, no step is begun. `progress` gets a line whenever
/// something else is waited for.
///
/// # Errors
/// [`HandBackError`]; [`OpenError`] if the journal can't be used; what `run_agent` returns, if there is a task to end.
pub fn hand_back(
    request: &Request<'_>,
    run_agent: RunAgent<'_>,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<(Option<Held>, HandedBack)> {
    let mut waiting = Waiting::begin(request)?;
    let held = match waiting.lock() {
        Ok(Some(held)) => held,
        Ok(None) => return Ok((None, HandedBack::nothing(request.state_directory, false))),
        Err(error @ HandBackError::File { .. }) if waiting.is_open() => {
            return Err(anyhow::Error::from(error).context(HandBackError::NotTold));
        }
        Err(error) => return Err(error.into()),
    };
    loop {
        if let Some(done) = waiting.look(progress)? {
            return Ok((Some(held), done));
        }
        match JournalFile::open(request.state_directory) {
            Err(OpenError::Locked { .. }) => std::thread::sleep(POLL),
            Err(error) if waiting.is_open() => {
                return Err(anyhow::Error::from(error).context(HandBackError::NoAgent));
            }
            Err(error) => waiting.give_up_telling(&error.into(), progress),
            Ok((file, _)) => waiting.run_agent(SharedJournal::new(file), run_agent, progress)?,
        }
    }
}

/// Ready when the task of this journal has ended and the coordinator was told, or waited for long enough, or when the time is over.
pub async fn until_told(journal: SharedJournal, until: Instant) {
    let mut telling = Telling::default();
    while Instant::now() < until {
        match journal.read(Stand::of) {
            Stand::Idle => return,
            Stand::Untold if telling.is_over() => return,
            Stand::Untold | Stand::Open => tokio::time::sleep(POLL).await,
        }
    }
}

/// How long the coordinator is waited for, once a task has ended.
#[derive(Debug, Default)]
enum Telling {
    #[default]
    NotYet,
    Since(Instant),
    GivenUp,
}

impl Telling {
    fn is_over(&mut self) -> bool {
        match self {
            Self::NotYet => {
                *self = Self::Since(Instant::now());
                false
            }
            Self::Since(since) => since.elapsed() >= TOLD_WITHIN,
            Self::GivenUp => true,
        }
    }
}

/// A hand-back that is under way.
struct Waiting<'a> {
    request: &'a Request<'a>,
    until: Instant,
    ancestors: Vec<u32>,
    telling: Telling,
    /// Whether the task was not told, or not ended, when it was looked at first.
    waited: bool,
    /// What was told to be waited for.
    at_work: Option<AtWork>,
    held_up: Option<Instant>,
    /// Whether no agent ran, and this program was it.
    alone: bool,
}

impl<'a> Waiting<'a> {
    fn begin(request: &'a Request<'a>) -> Result<Self, HandBackError> {
        let ancestors = ancestors::of(request.host, std::process::id());
        if let Some(runner) = ancestors::transaction(request.host, &ancestors) {
            return Err(HandBackError::OwnTransaction { runner });
        }
        Ok(Self {
            request,
            until: Instant::now() + request.within,
            ancestors,
            telling: Telling::default(),
            waited: false,
            at_work: None,
            held_up: None,
            alone: false,
        })
    }

    /// The lock; `None` if there is no state directory, and so nothing to hand back.
    fn lock(&self) -> Result<Option<Held>, HandBackError> {
        let Request { state_directory, within, .. } = self.request;
        match lock::take(state_directory, self.until) {
            Ok(Some(held)) => Ok(Some(held)),
            Ok(None) => {
                Err(HandBackError::Busy { state_directory: state_directory.to_path_buf(), within: *within })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => {
                let path = state_directory.join(lock::FILE);
                Err(HandBackError::File { verb: "lock", path, source })
            }
        }
    }

    /// Looks at the journal; what was handed back, if it is done.
    fn look(&mut self, progress: &mut dyn FnMut(&str)) -> anyhow::Result<Option<HandedBack>> {
        let state_directory = self.request.state_directory;
        let nothing = |journal| Ok(Some(HandedBack::nothing(state_directory, journal)));
        let Some(reading) = self.read()? else { return nothing(false) };
        let journal = &reading.journal;
        let Some(task) = journal.current() else { return nothing(true) };
        match Stand::of(journal) {
            Stand::Idle if !self.waited => return nothing(true),
            Stand::Idle => return Ok(Some(HandedBack::of(state_directory, task))),
            Stand::Untold if self.telling.is_over() => {
                return Ok(Some(HandedBack::of(state_directory, task)));
            }
            Stand::Untold => {}
            Stand::Open => {
                let at_work = AtWork::of(task, &reading, self.request.state_directory);
                if !self.at_work.as_ref().is_some_and(|before| at_work.is_still(before)) {
                    progress(&format!("waiting for {at_work}"));
                    (self.at_work, self.held_up) = (Some(at_work.clone()), None);
                }
                self.go_on_waiting(at_work)?;
            }
        }
        self.waited = true;
        Ok(None)
    }

    /// Whether the journal has a task that has not ended.
    fn is_open(&self) -> bool {
        self.read().ok().flatten().is_some_and(|reading| Stand::of(&reading.journal) == Stand::Open)
    }

    /// The journal; `None` if there is none.
    fn read(&self) -> anyhow::Result<Option<Reading>> {
        let path = journal::path_in(self.request.state_directory);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(HandBackError::File { verb: "read", path, source }.into()),
        };
        Ok(Some(lines::read(&text).map_err(|unread| OpenError::unread(path, unread))?))
    }

    /// Whether it makes sense to wait for what is at work.
    fn go_on_waiting(&mut self, at_work: AtWork) -> Result<(), HandBackError> {
        let (now, within, at_work) = (Instant::now(), self.request.within, Box::new(at_work));
        if let Some(holder) = self.held_up_by(&at_work) {
            let since = *self.held_up.get_or_insert(now);
            if now >= self.until || now.duration_since(since) >= HELD_UP {
                return Err(HandBackError::HeldUp { at_work, holder });
            }
        } else {
            self.held_up = None;
        }
        match now >= self.until {
            true if self.alone => Err(HandBackError::NotEnded { at_work, within }),
            true => Err(HandBackError::StillAtWork { at_work, within }),
            false => Ok(()),
        }
    }

    /// The package manager that this program works for, if the step at work needs what it holds.
    fn held_up_by(&self, at_work: &AtWork) -> Option<LockHolder> {
        let os = self.request.os.filter(|_| at_work.needs_packages())?;
        // rpm runs scripts with its own lock, below dnf with its own.
        os.lock_holders(self.request.host, Need::Packages).find(|holder| self.ancestors.contains(&holder.pid))
    }

    /// Is the agent, since none is there.
    fn run_agent(
        &mut self,
        journal: SharedJournal,
        run_agent: RunAgent<'_>,
        progress: &mut dyn FnMut(&str),
    ) -> anyhow::Result<()> {
        let open = journal.read(Stand::of) == Stand::Open;
        if let Some(at_work) = self.at_work.clone().filter(|_| open)
            && let Some(holder) = self.held_up_by(&at_work)
        {
            return Err(HandBackError::HeldUp { at_work: Box::new(at_work), holder }.into());
        }
        self.alone = true;
        progress("no agent runs here: going on in its place");
        match run_agent(journal.clone(), self.until) {
            Err(error) if open => return Err(error.context(HandBackError::NoAgent)),
            Err(error) => self.give_up_telling(&error, progress),
            // It tried for as long as the coordinator is given.
            Ok(()) if journal.read(Stand::of) == Stand::Untold => self.telling = Telling::GivenUp,
            Ok(()) => {}
        }
        Ok(())
    }

    fn give_up_telling(&mut self, why: &anyhow::Error, progress: &mut dyn FnMut(&str)) {
        progress(&format!("the coordinator can't be told: {why:#}"));
        self.telling = Telling::GivenUp;
    }
}

#[cfg(test)]
mod tests;
