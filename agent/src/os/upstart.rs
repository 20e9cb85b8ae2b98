//! upstart as command lines, as the answers that `initctl` gives, and as the job files that it reads; made for upstart
//! 1.12 (Ubuntu 14.04). Nothing here runs a program. Words and forms are those of upstart's `util/initctl.c`
//! (`job_status`) and `init/state.c`, stanzas those of init(5).

use super::packages::Unreadable;
use crate::host::Command;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Where jobs are described, each in a file `NAME.conf`, with what a person changes of it in `NAME.override`.
pub const JOBS: &str = "/etc/init";

/// The first version that reads override files; a `manual` in one has no meaning to an older one (RHEL 6 has 0.6.5).
pub const FIRST_WITH_OVERRIDES: (u32, u32) = (1, 3);

/// How long a start or a stop may take: `initctl` waits for the end of a job's own scripts.
const START_STOP: Duration = Duration::from_secs(200);

/// Scripts that a job may have beside its main one.
const SCRIPTS: [&str; 4] = ["pre-start", "post-start", "pre-stop", "post-stop"];

/// What a job should be: `goal` in `initctl status`.
const GOALS: [&str; 3] = ["start", "stop", "respawn"];

/// Where a job is on its way; the ones that end in `-ing` came with later versions.
const STATES: [&str; 17] = [
    "waiting",
    "starting",
    "security-spawning",
    "security",
    "pre-starting",
    "pre-start",
    "spawning",
    "spawned",
    "post-starting",
    "post-start",
    "running",
    "pre-stopping",
    "pre-stop",
    "stopping",
    "killed",
    "post-stopping",
    "post-stop",
];

/// States in which the process that is named first is the job's main one; in others it is a script's.
const WITH_MAIN_PROCESS: [&str; 8] =
    ["spawned", "post-starting", "post-start", "running", "pre-stopping", "pre-stop", "stopping", "killed"];

/// A job, or one instance of it, as `initctl status` and `initctl list` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobState {
    /// The job's name.
    pub name: String,
    /// The instance's name, of a job that may run more than once.
    pub instance: Option<String>,
    /// `start`, `stop` or `respawn`.
    pub goal: String,
    /// `waiting`, `running`, and what is between.
    pub state: String,
    /// The main process, if there is one.
    pub main_pid: Option<u32>,
}

impl JobState {
    /// For people, as upstart says it: `start/running`.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{}/{}", self.goal, self.state)
    }
}

/// Reads the answer to [`list`], or to [`status`]: a line for each job or instance, and indented ones for further
/// processes of it.
///
/// # Errors
/// [`Unreadable`] for a line of another form.
pub fn read_jobs(text: &str) -> Result<Vec<JobState>, Unreadable> {
    let mut jobs: Vec<JobState> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let unreadable = || Unreadable { what: "line of initctl", text: line.to_owned() };
        match line.strip_prefix('\t') {
            // `post-start process 812`: a script that runs beside the main process.
            Some(further) => {
                let (_, pid) = further.split_once(" process ").ok_or_else(unreadable)?;
                pid.trim_end().parse::<u32>().map_err(|_| unreadable())?;
                jobs.last().ok_or_else(unreadable)?;
            }
            None => jobs.push(job(line.trim_end()).ok_or_else(unreadable)?),
        }
    }
    Ok(jobs)
}

/// Reads the answer to [`status`]: one job.
///
/// # Errors
/// [`Unreadable`] for any other.
pub fn read_status(text: &str, unit: &str) -> Result<JobState, Unreadable> {
    let mut jobs = read_jobs(text)?;
    match jobs.pop() {
        Some(job) if jobs.is_empty() && job.name == unit => Ok(job),
        _ => Err(Unreadable { what: "answer of initctl status", text: text.trim_end().to_owned() }),
    }
}

/// `NAME[ (INSTANCE)] GOAL/STATE[, process PID]`, or `, (post-start) process PID` where there is no main process.
fn job(line: &str) -> Option<JobState> {
    let (name, rest) = line.split_once(' ')?;
    let (instance, rest) = match rest.strip_prefix('(') {
        Some(rest) => rest.rsplit_once(") ").map(|(instance, rest)| (Some(instance.to_owned()), rest))?,
        None => (None, rest),
    };
    let (words, process) = match rest.split_once(", ") {
        Some((words, process)) => (words, Some(process)),
        None => (rest, None),
    };
    let (goal, state) = words.split_once('/')?;
    if name.is_empty() || !GOALS.contains(&goal) || !STATES.contains(&state) {
        return None;
    }
    let pid = |text: &str| text.strip_prefix("process ")?.parse::<u32>().ok();
    let main_pid = match process {
        None => None,
        Some(script) if script.starts_with('(') => {
            pid(script.split_once(") ")?.1)?;
            None
        }
        Some(process) => Some(pid(process)?).filter(|_| WITH_MAIN_PROCESS.contains(&state)),
    };
    let (name, goal, state) = (name.to_owned(), goal.to_owned(), state.to_owned());
    Some(JobState { name, instance, goal, state, main_pid })
}

/// Reads the answer to [`config`]: each job's name, and whether an event starts it, as upstart has read its files.
///
/// # Errors
/// [`Unreadable`] for a line of another form.
pub fn read_config(text: &str) -> Result<BTreeMap<String, bool>, Unreadable> {
    let mut jobs: BTreeMap<String, bool> = BTreeMap::new();
    let mut last = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let unreadable = || Unreadable { what: "line of initctl show-config", text: line.to_owned() };
        if line.starts_with([' ', '\t']) {
            let name: &String = last.as_ref().ok_or_else(unreadable)?;
            if line.trim_start().starts_with("start on ") {
                jobs.insert(name.clone(), true);
            }
        } else if line.trim_end().contains(char::is_whitespace) {
            return Err(unreadable());
        } else {
            jobs.entry(line.trim_end().to_owned()).or_default();
            last = Some(line.trim_end().to_owned());
        }
    }
    Ok(jobs)
}

/// Whether `initctl` says that there is no such job.
#[must_use]
pub fn unknown_job(stderr: &str) -> bool {
    stderr.contains("Unknown job:")
}

/// Whether a start or stop failed only because there was nothing to do.
#[must_use]
pub fn nothing_to_do(stderr: &str) -> bool {
    // The first of a start, the second of a stop: no instance of the job runs.
    stderr.contains("Job is already running:") || stderr.contains("Unknown instance:")
}

/// Reads the answer to [`version`]: `init (upstart 1.12.1)`.
///
/// # Errors
/// [`Unreadable`] if it is not upstart's.
pub fn read_version(text: &str) -> Result<(u32, u32), Unreadable> {
    let version = || {
        let (_, version) = text.split_once("(upstart ")?;
        let mut numbers = version.split(['.', ')', ' ']).map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next().and_then(Result::ok).unwrap_or_default()))
    };
    version()
        .ok_or_else(|| Unreadable { what: "answer of initctl version", text: text.trim_end().to_owned() })
}

/// What makes a job start at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartCondition {
    /// It has a `start on`.
    Event,
    /// It never had one: something else starts it, or a person.
    None,
    /// `manual` took it away.
    Manual,
}

/// What becomes of a job's `start on` by its job file and the override file after it: the last stanza counts.
#[must_use]
pub fn start_condition(job_file: &str, override_file: &str) -> StartCondition {
    let mut condition = StartCondition::None;
    for stanza in stanzas(job_file).into_iter().chain(stanzas(override_file)) {
        match stanza.words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["start", "on", ..] => condition = StartCondition::Event,
            ["manual", ..] => condition = StartCondition::Manual,
            _ => {}
        }
    }
    condition
}

/// What stands in an override file above the `manual` of ours.
const KEPT_DOWN: &str =
    "# Kept down by wavegate (service.disable); without these two lines the job starts at boot again.";

/// An override file with `manual` as its last stanza, and every other line as it was.
#[must_use]
pub fn with_manual(override_file: &[u8]) -> Vec<u8> {
    let mut content = override_file.to_vec();
    if !content.is_empty() && !content.ends_with(b"\n") {
        content.push(b'\n');
    }
    content.extend(format!("{KEPT_DOWN}\nmanual\n").bytes());
    content
}

/// What a job runs, as its files say it: the command line of `exec`, or the text of `script`. `None` if it says neither.
#[must_use]
pub fn command_line(job_file: &str, override_file: &str) -> Option<String> {
    let runs = |stanza: Stanza| match stanza.words.first().map(String::as_str) {
        Some("exec") => Some(stanza.words[1..].join(" ")),
        Some("script") => Some(stanza.block),
        _ => None,
    };
    stanzas(job_file).into_iter().chain(stanzas(override_file)).filter_map(runs).next_back()
}

/// A stanza of a job file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stanza {
    /// Its words, continued lines included.
    words: Vec<String>,
    /// The lines up to `end script`, of one that is a script.
    block: String,
}

/// The stanzas of a job file. Lines go on after a backslash and within brackets; scripts are taken as a whole, so that
/// no line of theirs is mistaken for a stanza.
fn stanzas(text: &str) -> Vec<Stanza> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut logical = without_comment(line).to_owned();
        while logical.ends_with('\\') || open_brackets(&logical) {
            logical.truncate(logical.trim_end_matches('\\').len());
            let Some(next) = lines.next() else { break };
            logical = format!("{logical} {}", without_comment(next));
        }
        let words: Vec<String> = logical.split_whitespace().map(str::to_owned).collect();
        let script = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["script"] => true,
            [when, "script"] => SCRIPTS.contains(when),
            _ => false,
        };
        let mut block = String::new();
        if script {
            let end = |line: &str| line.split_whitespace().eq(["end", "script"]);
            for line in lines.by_ref().take_while(|line| !end(line)) {
                block += line;
                block.push('\n');
            }
        }
        if !words.is_empty() {
            found.push(Stanza { words, block });
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    let line = line.trim();
    let at =
        line.match_indices('#').map(|(at, _)| at).find(|at| *at == 0 || line[..*at].ends_with([' ', '\t']));
    at.map_or(line, |at| line[..at].trim_end())
}

fn open_brackets(line: &str) -> bool {
    let condition = line.starts_with("start on") || line.starts_with("stop on");
    condition && line.matches('(').count() > line.matches(')').count()
}

/// The job's file.
#[must_use]
pub fn job_file(unit: &str) -> PathBuf {
    PathBuf::from(format!("{JOBS}/{unit}.conf"))
}

/// The file that changes the job.
#[must_use]
pub fn override_file(unit: &str) -> PathBuf {
    PathBuf::from(format!("{JOBS}/{unit}.override"))
}

/// The init script of a service that is no job; of one that is, a link of the same name often stands there.
#[must_use]
pub fn init_script(unit: &str) -> PathBuf {
    PathBuf::from(format!("/etc/init.d/{unit}"))
}

/// Asks what upstart knows of a job. Exits with 1 for an unknown one.
#[must_use]
pub fn status(unit: &str) -> Command {
    Command::new(["initctl", "status", unit])
}

/// Asks for all jobs.
#[must_use]
pub fn list() -> Command {
    Command::new(["initctl", "list"])
}

/// Asks for what starts a job, or every job, as upstart has read their files.
#[must_use]
pub fn config(unit: Option<&str>) -> Command {
    Command::new(["initctl", "show-config"].into_iter().chain(unit))
}

/// Asks for upstart's version; only upstart answers.
#[must_use]
pub fn version() -> Command {
    Command::new(["initctl", "version"])
}

/// Starts a job, and waits until it runs. Exits with 1 if it runs already, see [`nothing_to_do`].
#[must_use]
pub fn start(unit: &str) -> Command {
    Command::new(["initctl", "start", unit]).timeout(START_STOP)
}

/// Stops a job, and waits until it is down. Exits with 1 if it is down already, see [`nothing_to_do`].
#[must_use]
pub fn stop(unit: &str) -> Command {
    Command::new(["initctl", "stop", unit]).timeout(START_STOP)
}

/// Makes upstart read its job files again.
#[must_use]
pub fn reload_configuration() -> Command {
    Command::new(["initctl", "reload-configuration"])
}

/// The last lines that a job printed.
#[must_use]
pub fn log(unit: &str) -> Command {
    Command::new(["tail", "-n", "20", "--", &log_file(unit)])
}

/// Where a job's output goes (`console log`, the default).
#[must_use]
pub fn log_file(unit: &str) -> String {
    format!("/var/log/upstart/{unit}.log")
}

#[cfg(test)]
mod tests;
