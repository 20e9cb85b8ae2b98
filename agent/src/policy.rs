//! The node's own policy, as the agent goes by it: whose file it may be, when it is read, and what a refusal says. What a
//! policy permits is `wavegate_common::policy`.

use crate::ownership::{Untrusted, trusted, trusted_directories};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use wavegate_common::action::Action;
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::outcome::StepError;
use wavegate_common::policy::{Policy, Refusal, SHIPPED};
use wavegate_common::procedure::Diagnostics;

/// Where the policy stands if the configuration names no other file.
pub const DEFAULT_FILE: &str = "/etc/wavegate/policy.toml";

/// What the built-in policy is called in messages.
const BUILT_IN: &str = "the built-in policy";

/// Bytes of the largest file that is read.
const LARGEST: u64 = 1 << 20;

/// The file of the policy; it need not be there. It is read anew whenever it is asked for; what it says is made out anew only if it says
/// something else. Copies share that.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    path: PathBuf,
    last: Arc<Mutex<Option<MadeOut>>>,
}

/// A policy's text, and what it says.
#[derive(Debug)]
struct MadeOut {
    text: String,
    policy: Arc<Policy>,
}

/// Why there is no policy to go by. Nothing is permitted then.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file can't be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Somebody else than root could have written it.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// It is no policy.
    #[error("{0}")]
    Wrong(Diagnostics),
}

/// The policy that orders are judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// What it permits.
    pub policy: Arc<Policy>,
    /// Where root of this node can permit more.
    pub file: PathBuf,
    /// Whether there is no such file, so that the built-in policy holds.
    pub built_in: bool,
}

impl PolicyFile {
    /// A policy that stands, or would stand, in this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), last: Arc::default() }
    }

    /// Reads the policy as it is now.
    ///
    /// # Errors
    /// [`PolicyError`] if there is a file that can't be read or trusted, or is no policy.
    pub fn read(&self) -> Result<InForce, PolicyError> {
        let file = self.path.clone();
        let (text, built_in) = match file.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // One that permits less may have stood there, if others than root could take it away.
                self.trusted_directory()?;
                (SHIPPED.to_owned(), true)
            }
            // Whatever else is wrong shows when it is opened.
            _ => (self.trusted_text()?, false),
        };
        let name = if built_in { BUILT_IN.to_owned() } else { file.display().to_string() };
        let policy = self.made_out(&name, text)?;
        Ok(InForce { policy, file, built_in })
    }

    fn made_out(&self, name: &str, text: String) -> Result<Arc<Policy>, PolicyError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref().filter(|last| last.text == text) {
            return Ok(last.policy.clone());
        }
        let policy = Arc::new(Policy::parse(name, &text).map_err(PolicyError::Wrong)?);
        *last = Some(MadeOut { text, policy: policy.clone() });
        Ok(policy)
    }

    /// Reads the policy for an order.
    ///
    /// # Errors
    /// [`PolicyError`], as the error of a step.
    pub fn read_for_order(&self) -> Result<InForce, StepError> {
        self.read().map_err(|error| {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            let file = self.path.display();
            StepError {
                what: format!("this node's policy cannot be used, so nothing is done here: {error}{cause}"),
                output: Vec::new(),
                next: format!(
                    "as root on this node, mend {file} (`wavegate-agent policy` says whether it is right), which counts \
                     at once; then plan again, or retry"
                ),
            }
        })
    }

    /// Says in the log what is wrong with the policy as it is now, if it can't be used: else the first order would be who finds out.
    pub fn warn_if_unusable(&self) {
        if let Err(StepError { what, next, .. }) = self.read_for_order() {
            tracing::warn!("{what}; {next}");
        }
    }

    /// The file's text, if root alone can have written it.
    fn trusted_text(&self) -> Result<String, PolicyError> {
        let failed = |source| PolicyError::File { path: self.path.clone(), source };
        let real = self.path.canonicalize().map_err(failed)?;
        let no_file = || untrusted(&real, "is not a file; write the policy into a file");
        // Opening a pipe would wait for a writer, for ever.
        if !real.metadata().map_err(failed)?.is_file() {
            return Err(no_file());
        }
        let file = File::open(&real).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(no_file());
        }
        if metadata.len() > LARGEST {
            return Err(untrusted(&real, "is larger than 1 MiB; no policy is"));
        }
        trusted(&real, &metadata)?;
        // Where the file is a link, whoever can replace the link can replace the policy.
        trusted_directories(real.parent().unwrap_or(Path::new("/"))).map_err(failed)??;
        self.trusted_directory()?;
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
        Ok(text)
    }

    /// Whether root alone can take away or replace what has the file's name. A directory that is not there can't have held
    /// one; what lies above it counts.
    fn trusted_directory(&self) -> Result<(), PolicyError> {
        let failed = |source| PolicyError::File { path: self.path.clone(), source };
        let there = self.path.ancestors().skip(1).find(|directory| directory.exists());
        let named = there.unwrap_or(Path::new("/")).canonicalize().map_err(failed)?;
        Ok(trusted_directories(&named).map_err(failed)??)
    }
}

fn untrusted(path: &Path, why: &str) -> PolicyError {
    Untrusted { path: path.to_owned(), why: why.to_owned() }.into()
}

impl InForce {
    /// Refuses an action that is outside the policy.
    ///
    /// # Errors
    /// What is outside, and who could permit it where.
    pub fn judge(&self, action: &Action) -> Result<(), StepError> {
        self.refuse(&format!("{} is", action.name()), &self.policy.refusals(action))
    }

    /// Refuses the steps of a task that are to come if one of them is outside the policy.
    ///
    /// # Errors
    /// The first step that is, as [`InForce::judge`] says it.
    pub fn judge_steps(&self, steps: &[PlannedStep]) -> Result<(), StepError> {
        for (place, step) in steps.iter().enumerate() {
            let Work::Run { action, .. } = &step.work else { continue };
            self.judge(action).map_err(|error| match place {
                0 => error,
                _ => StepError {
                    what: format!("not begun, because of a later step, {}: {}", step.id, error.what),
                    ..error
                },
            })?;
        }
        Ok(())
    }

    /// Refuses a transaction of named packages that would change others than the policy permits, whatever the order said.
    ///
    /// # Errors
    /// Which packages, and who could permit them where.
    pub fn judge_transaction<'a>(
        &self,
        changed: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), StepError> {
        let outside = changed.into_iter().filter(|name| !self.policy.permits_package(name));
        let refusal = |name: &String| Refusal { what: format!("package {name}"), key: Some("packages") };
        self.refuse("what the transaction would change is", &outside.map(refusal).collect::<Vec<_>>())
    }

    fn refuse(&self, what: &str, refusals: &[Refusal]) -> Result<(), StepError> {
        if refusals.is_empty() {
            return Ok(());
        }
        let list = refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let file = self.file.display();
        let begin = if self.built_in {
            " (there is none yet: begin with what `wavegate-agent policy --shipped` prints)"
        } else {
            ""
        };
        let next = if refusals.iter().all(|refusal| refusal.key.is_some()) {
            format!(
                "if it is meant, root of this node permits it in {file}{begin}, which counts at once; nobody else can. Then \
                 plan again, or retry"
            )
        } else {
            "mend the procedure or its parameters, then plan again".to_owned()
        };
        let what = format!("{what} outside this node's policy: {list}");
        Err(StepError { what, output: Vec::new(), next })
    }
}

#[cfg(test)]
pub(crate) mod tests;
