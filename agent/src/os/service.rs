//! Services, asked in one way whatever the service manager. Command lines and answers are in `systemd` and
//! `upstart`.

use super::packages::Unreadable;
use super::upstart::{JobState, StartCondition};
use super::{Os, systemd, upstart};
use crate::action::{exit_failed, failed};
use crate::host::{Command, Exit, Host};
use std::collections::BTreeSet;
use std::path::Path;
use wavegate_common::outcome::StepError;
use wavegate_common::platform::ServiceManager;

/// Whether a service runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activity {
    /// It runs, as the service manager sees it.
    Active,
    /// Nothing of it runs and nothing is about to.
    #[default]
    Down,
    /// On its way up or down, or waiting to be started again.
    OnItsWay,
}

/// Whether somebody took care that a service does not start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeptDown {
    /// Nobody did.
    #[default]
    No,
    /// Until the next boot (`systemctl mask --runtime`).
    ForNow,
    /// Over a reboot too (`systemctl mask`; `manual` in an upstart override).
    ForGood,
}

/// What the service manager knows of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceState {
    /// Whether there is such a service at all. One that is kept down counts, even when the mask is all there is.
    pub installed: bool,
    /// Whether it runs.
    pub activity: Activity,
    /// Whether somebody took care that it does not start.
    pub kept_down: KeptDown,
    /// Whether it comes up at boot, by itself or because something that does needs it.
    pub starts_at_boot: bool,
    /// Whether it comes up at boot by a setting of its own, which can be taken away.
    pub enabled: bool,
    /// The main process, if there is one.
    pub main_pid: Option<u32>,
    /// How often the service manager restarted it by itself; `None` where it does not tell.
    pub restarts: Option<u32>,
    /// For people: `active (running)`, `failed (failed, exit-code)`, `start/running`.
    pub words: String,
    /// For people, whether it comes up at boot: `enabled`, `masked`, `manual`.
    pub boot_words: String,
}

impl ServiceState {
    /// Whether it runs, as the service manager sees it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.activity == Activity::Active
    }

    /// Whether nothing of it runs and nothing is about to.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.activity == Activity::Down
    }

    /// Whether somebody took care that it does not start, for now or for good.
    #[must_use]
    pub fn is_kept_down(&self) -> bool {
        self.kept_down != KeptDown::No
    }
}

impl Os {
    /// The state of a service; of one that is not there, too.
    ///
    /// # Errors
    /// [`StepError`] if the service manager can't be asked or its answer can't be read, and for a service that is there
    /// but that the service manager does not run.
    pub fn service(&self, host: &dyn Host, unit: &str) -> Result<ServiceState, StepError> {
        match self.platform.service_manager {
            ServiceManager::Systemd => systemd_service(host, unit),
            ServiceManager::Upstart => upstart_service(host, unit),
        }
    }

    /// The states of several services in their order, by one question where the service manager takes it.
    ///
    /// # Errors
    /// Those of [`Os::service`], for any of them.
    pub fn services(&self, host: &dyn Host, units: &[&str]) -> Result<Vec<ServiceState>, StepError> {
        match self.platform.service_manager {
            ServiceManager::Systemd if units.is_empty() => Ok(Vec::new()),
            ServiceManager::Systemd => systemd_services(host, units),
            ServiceManager::Upstart => units.iter().map(|unit| upstart_service(host, unit)).collect(),
        }
    }

    /// What a service is configured to run, in the service manager's words, for people and for finding a program in it;
    /// empty if it does not say.
    ///
    /// # Errors
    /// [`StepError`] if the service manager can't be asked or its answer or the job's files can't be read.
    pub fn command_line(&self, host: &dyn Host, unit: &str) -> Result<String, StepError> {
        match self.platform.service_manager {
            ServiceManager::Systemd => {
                let next = "see that 'systemctl show' works on the node, then retry";
                let exit = answer(host, &systemd::exec_start(unit), next)?;
                systemd::read_exec_start(&exit.stdout).map_err(|error| failed(&error, next))
            }
            ServiceManager::Upstart => {
                let (job, changes) = (upstart::job_file(unit), upstart::override_file(unit));
                Ok(upstart::command_line(&text(host, &job)?, &text(host, &changes)?).unwrap_or_default())
            }
        }
    }

    /// Services that run now, without `.service`.
    ///
    /// # Errors
    /// [`StepError`] if the service manager can't be asked or its answer can't be read.
    pub fn running_now(&self, host: &dyn Host) -> Result<BTreeSet<String>, StepError> {
        match self.platform.service_manager {
            ServiceManager::Systemd => {
                let running = systemd_running(host)?;
                Ok(running.iter().map(|unit| systemd::service_name(unit).to_owned()).collect())
            }
            ServiceManager::Upstart => {
                let runs = |job: &JobState| job.instance.is_none() && job.main_pid.is_some();
                Ok(upstart_jobs(host)?.into_iter().filter(runs).map(|job| job.name).collect())
            }
        }
    }

    /// Services that run now and come up at boot by themselves, without `.service`: what a node is there for. What was
    /// started on demand, for a user's session or by hand is not among them, nor on upstart what init scripts started.
    ///
    /// # Errors
    /// [`StepError`] if the service manager can't be asked or its answer can't be read.
    pub fn running_services(&self, host: &dyn Host) -> Result<BTreeSet<String>, StepError> {
        match self.platform.service_manager {
            ServiceManager::Systemd => {
                let running = systemd_running(host)?;
                let next = "see that 'systemctl list-unit-files' works on the node, then retry";
                let files = answer(host, &systemd::unit_files(&running), next)?;
                let files = systemd::read_unit_files(&files.stdout).map_err(|error| failed(&error, next))?;
                let scripts = host.list(Path::new(systemd::INIT_SCRIPTS));
                Ok(systemd::running_at_boot(&running, &files, &scripts))
            }
            ServiceManager::Upstart => {
                let jobs = upstart_jobs(host)?;
                let next = "see that 'initctl show-config' works on the node, then retry";
                let config = answer(host, &upstart::config(None), next)?;
                let starts = upstart::read_config(&config.stdout).map_err(|error| failed(&error, next))?;
                let runs = |job: &JobState| {
                    let service = job.instance.is_none() && !job.name.starts_with("tty");
                    service && job.main_pid.is_some() && starts.get(&job.name) == Some(&true)
                };
                Ok(jobs.into_iter().filter(runs).map(|job| job.name).collect())
            }
        }
    }
}

fn systemd_running(host: &dyn Host) -> Result<BTreeSet<String>, StepError> {
    let next = "see that 'systemctl list-units' works on the node, then retry";
    let running = answer(host, &systemd::running(), next)?;
    systemd::read_running(&running.stdout).map_err(|error| failed(&error, next))
}

fn upstart_jobs(host: &dyn Host) -> Result<Vec<JobState>, StepError> {
    let next = "see that 'initctl list' works on the node, then retry";
    let jobs = answer(host, &upstart::list(), next)?;
    upstart::read_jobs(&jobs.stdout).map_err(|error| failed(&error, next))
}

const SHOW_WORKS: &str = "see that 'systemctl show' works on the node, then retry";

fn systemd_service(host: &dyn Host, unit: &str) -> Result<ServiceState, StepError> {
    let exit = answer(host, &systemd::show(&[unit]), SHOW_WORKS)?;
    systemd_state(host, unit, &exit.stdout)
}

fn systemd_services(host: &dyn Host, units: &[&str]) -> Result<Vec<ServiceState>, StepError> {
    let exit = answer(host, &systemd::show(units), SHOW_WORKS)?;
    let answers = systemd::parted(&exit.stdout, units.len()).map_err(|error| failed(&error, SHOW_WORKS))?;
    units.iter().zip(answers).map(|(unit, text)| systemd_state(host, unit, text)).collect()
}

/// A service of systemd: its state by the answer, and by its files until when a mask holds, where that does not tell.
fn systemd_state(host: &dyn Host, unit: &str, text: &str) -> Result<ServiceState, StepError> {
    let mut state = systemd::read_state(text).map_err(|error| failed(&error, SHOW_WORKS))?;
    if systemd::mask_in_question(text) {
        let next = format!("see what 'systemctl is-enabled {unit}' says on the node, then retry");
        let asked = host.run(&systemd::is_enabled(unit)).map_err(|error| failed(&error, next))?;
        if systemd::is_mask_for_now(&asked.stdout) {
            (state.kept_down, state.boot_words) = (KeptDown::ForNow, "masked-runtime".to_owned());
        }
    }
    Ok(state)
}

/// A service of upstart: its state as upstart tells it, and why it does or does not start at boot by its files.
fn upstart_service(host: &dyn Host, unit: &str) -> Result<ServiceState, StepError> {
    let next = format!("see what 'initctl status {unit}' says on the node, then retry");
    let command = upstart::status(unit);
    let exit = host.run(&command).map_err(|error| failed(&error, next.as_str()))?;
    if exit.code != 0 {
        if upstart::unknown_job(&exit.stderr) {
            return no_job(host, unit);
        }
        let what = format!("'{}' failed with exit code {}", command.argv.join(" "), exit.code);
        return Err(exit_failed(what, &exit, next));
    }
    let read = |error: Unreadable| failed(&error, next.as_str());
    let job = upstart::read_status(&exit.stdout, unit).map_err(read)?;
    let config = answer(host, &upstart::config(Some(unit)), &next)?;
    let starts = upstart::read_config(&config.stdout).map_err(read)?.get(unit).copied().unwrap_or_default();
    let condition = upstart::start_condition(
        &text(host, &upstart::job_file(unit))?,
        &text(host, &upstart::override_file(unit))?,
    );
    let (kept_down, boot_words) = match (starts, condition) {
        (true, _) => (KeptDown::No, "starts at boot"),
        (false, StartCondition::Manual) => (KeptDown::ForGood, "manual"),
        (false, StartCondition::None) => (KeptDown::No, "without a start condition"),
        (false, StartCondition::Event) => (KeptDown::No, "manual until upstart reads its files again"),
    };
    Ok(ServiceState {
        installed: true,
        activity: match (job.goal.as_str(), job.state.as_str()) {
            ("start", "running") => Activity::Active,
            ("stop", "waiting") => Activity::Down,
            _ => Activity::OnItsWay,
        },
        kept_down,
        starts_at_boot: starts,
        enabled: starts,
        main_pid: job.main_pid,
        restarts: None,
        words: job.words(),
        boot_words: boot_words.to_owned(),
    })
}

/// The state of what upstart does not know: it is not there, unless it is but upstart can't run it.
fn no_job(host: &dyn Host, unit: &str) -> Result<ServiceState, StepError> {
    let error = |what, next| Err(StepError { what, output: Vec::new(), next });
    let (job, script) = (upstart::job_file(unit), upstart::init_script(unit));
    if host.exists(&job) {
        let what = format!("upstart does not know {unit}, although {} is there", job.display());
        let next = format!(
            "'initctl reload-configuration' on the node, and see in /var/log/syslog what upstart does not \
             understand in {}; then retry",
            job.display()
        );
        return error(what, next);
    }
    if host.exists(&script) {
        let what = format!("{unit} is run by {}, and not by upstart", script.display());
        let next = format!(
            "the agent runs upstart's jobs only: give the service a job in {}, or leave the node out and do this \
             step by hand",
            job.display()
        );
        return error(what, next);
    }
    Ok(ServiceState { words: "not there".to_owned(), ..ServiceState::default() })
}

/// A job's file as text; empty if there is none.
fn text(host: &dyn Host, path: &Path) -> Result<String, StepError> {
    let next = "see that root can read the file on the node, then retry";
    let content = host.read(path).map_err(|error| failed(&error, next))?;
    Ok(content.map_or_else(String::new, |content| String::from_utf8_lossy(&content).into_owned()))
}

/// What a command that must not fail prints.
fn answer(host: &dyn Host, command: &Command, next: &str) -> Result<Exit, StepError> {
    let exit = host.run(command).map_err(|error| failed(&error, next))?;
    if exit.code == 0 {
        return Ok(exit);
    }
    Err(exit_failed(format!("'{}' failed with exit code {}", command.argv.join(" "), exit.code), &exit, next))
}

#[cfg(test)]
mod tests {
    use super::KeptDown;
    use crate::action::bench::Bench;
    use crate::host::Host;
    use crate::host::fake::FakeMachine;
    use crate::os::systemd;

    #[test]
    fn what_runs_and_comes_up_at_boot_is_what_the_node_is_there_for() {
        let bench = Bench::new(FakeMachine::redhat_compute());
        let services =
            || bench.os.running_services(&bench.host).expect("services").into_iter().collect::<Vec<_>>();
        let all =
            ["calico-felix", "neutron-dhcp-agent", "openstack-nova-compute", "openstack-nova-metadata-api"];
        assert_eq!(services(), all);
        bench.host.run(&systemd::stop("openstack-nova-compute")).expect("it stops");
        bench.host.run(&systemd::disable("calico-felix")).expect("it is disabled");
        assert_eq!(services(), ["neutron-dhcp-agent", "openstack-nova-metadata-api"]);
        let now = bench.os.running_now(&bench.host).expect("services").into_iter().collect::<Vec<_>>();
        assert_eq!(now, ["calico-felix", "neutron-dhcp-agent", "openstack-nova-metadata-api"]);
    }

    #[test]
    fn several_are_asked_about_at_once_and_each_keeps_its_place() {
        let machines =
            [FakeMachine::debian_compute(), FakeMachine::redhat_compute(), FakeMachine::trusty_compute()];
        for machine in machines {
            let bench = Bench::new(machine);
            let units = ["neutron-dhcp-agent", "not-there", "calico-felix"];
            let one_by_one: Vec<_> =
                units.iter().map(|unit| bench.os.service(&bench.host, unit).expect("a state")).collect();
            assert_eq!(bench.os.services(&bench.host, &units).expect("states"), one_by_one);
            assert!(bench.os.services(&bench.host, &[]).expect("none").is_empty());
        }
        let bench = Bench::new(FakeMachine::redhat_compute());
        bench.host.run(&systemd::mask_for_now("calico-felix")).expect("it is masked");
        let states = bench.os.services(&bench.host, &["neutron-dhcp-agent", "calico-felix"]).expect("states");
        assert_eq!(states[1].kept_down, KeptDown::ForNow);
        let exit = crate::host::Exit {
            stdout: "LoadState=loaded\nActiveState=active\n".to_owned(),
            ..Default::default()
        };
        bench.machine().faults.add(
            "systemctl show",
            crate::host::fake::When::Instead,
            crate::host::fake::Fault::Exit(exit),
        );
        let error = bench
            .os
            .services(&bench.host, &["neutron-dhcp-agent", "calico-felix"])
            .expect_err("one answer of two");
        assert!(error.what.starts_with("unexpected answer of systemctl show: "), "{error}");
    }

    #[test]
    fn on_upstart_too() {
        let bench = Bench::new(FakeMachine::trusty_compute());
        let services =
            || bench.os.running_services(&bench.host).expect("services").into_iter().collect::<Vec<_>>();
        assert_eq!(services(), ["calico-felix", "neutron-dhcp-agent"]);
        bench.machine().put_file("/etc/init/calico-felix.override", "manual\n");
        bench.host.run(&crate::os::upstart::reload_configuration()).expect("it is read");
        assert_eq!(services(), ["neutron-dhcp-agent"]);
        bench.host.run(&crate::os::upstart::stop("neutron-dhcp-agent")).expect("it stops");
        assert_eq!(services(), Vec::<String>::new());
    }

    #[test]
    fn a_mask_until_the_next_boot_is_told_from_one_for_good() {
        // The state that systemd 219 shows is the same for both.
        for machine in [FakeMachine::redhat_compute(), FakeMachine::debian_compute()] {
            let bench = Bench::new(machine);
            let told = || {
                let state = bench.os.service(&bench.host, "calico-felix").expect("a state");
                (state.kept_down, state.boot_words)
            };
            assert_eq!(told(), (KeptDown::No, "enabled".to_owned()));
            bench.host.run(&systemd::mask_for_now("calico-felix")).expect("it is masked");
            assert_eq!(told(), (KeptDown::ForNow, "masked-runtime".to_owned()));
            bench.host.run(&systemd::mask("calico-felix")).expect("it is masked");
            assert_eq!(told(), (KeptDown::ForGood, "masked".to_owned()));
        }
    }

    #[test]
    fn an_answer_that_can_not_be_read_is_quoted() {
        for (machine, command) in
            [(FakeMachine::debian(), "systemctl show"), (FakeMachine::trusty_compute(), "initctl status")]
        {
            let bench = Bench::new(machine);
            let exit = crate::host::Exit { stdout: "soon\n".to_owned(), ..Default::default() };
            bench.machine().faults.add(
                command,
                crate::host::fake::When::Instead,
                crate::host::fake::Fault::Exit(exit),
            );
            let error = bench.os.service(&bench.host, "calico-felix").expect_err("not an answer");
            assert!(error.what.starts_with("unexpected ") && error.what.ends_with(": 'soon'"), "{error}");
            bench.machine().faults.fail(command, 1, "Failed to connect to bus");
            let error = bench.os.service(&bench.host, "calico-felix").expect_err("not an answer");
            assert!(error.what.contains("failed with exit code 1"), "{error}");
        }
    }
}
