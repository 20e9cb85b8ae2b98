"""One job that is not at rest: its goal, its state, its processes. The states and what leads from one to the next are
those of upstart's job.c and job_process.c; `starting` and `stopping` block nobody here.
"""

import os
import resource
import signal
import subprocess
import time

PATH = "/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin"
SHELL_CHARACTERS = "~`!$^&*()=|\\{}[];\"'<>?"
LOGS = "/var/log/upstart"


class Instance:
    def __init__(self, manager, job, env):
        self.manager, self.job, self.env = manager, job, env
        self.goal, self.state = "stop", "waiting"
        # Name of the process -> Popen.
        self.processes = {}
        self.kill_at = None
        self.respawns = (0, 0.0)
        self.failed = False
        # Called with an error or none once it is running (or, a task, done) and once it is at rest.
        self.on_started, self.on_stopped = [], []

    def status(self):
        """As `initctl status` prints it, the main process first."""
        names = sorted(self.processes, key=lambda name: name != "main")
        text = "%s %s/%s" % (self.job.name, self.goal, self.state)
        if names:
            plain = names[0] in ("main", "pre-start", "post-stop")
            text += ", process " if plain else ", (%s) process " % names[0]
            text += str(self.processes[names[0]].pid)
        return text + "".join("\n\t%s process %d" % (n, self.processes[n].pid) for n in names[1:])

    def start(self):
        self.goal = "start"
        if self.state == "waiting":
            self.enter("starting")

    def stop(self):
        if self.goal == "stop":
            return
        self.goal = "stop"
        if self.state == "running":
            self.enter("pre-stop" if "main" in self.processes else "stopping")
        elif self.state in ("pre-start", "spawned", "post-start"):
            # What is under way is let finish; its end finds the new goal.
            if not self.processes:
                self.enter("stopping")

    def restart(self):
        """The job as it was read when it was started: a file changed since is not looked at."""
        self.stop()
        self.goal = "start"

    def enter(self, state):
        self.state = state
        getattr(self, "at_" + state.replace("-", "_"))()

    def at_starting(self):
        self.failed = False
        self.manager.emit_about("starting", self)
        self.run_or("pre-start", "spawned")

    def run_or(self, process, following):
        """Runs a process of the job in the state of its name; without one, goes on."""
        self.state = process
        if process not in self.job.processes:
            self.enter(following)
        elif not self.spawn(process):
            self.failed, self.goal = True, "stop"
            self.enter("stopping")

    def at_spawned(self):
        if self.goal == "stop":
            self.enter("stopping")
        elif "main" in self.job.processes and not self.spawn("main"):
            self.failed, self.goal = True, "stop"
            self.enter("stopping")
        else:
            self.run_or("post-start", "running")

    def at_running(self):
        if self.goal == "stop":
            return self.enter("pre-stop")
        self.manager.emit_about("started", self)
        if not self.job.task:
            self.answer(self.on_started, None)

    def at_pre_stop(self):
        self.run_or("pre-stop", "stopping")

    def at_stopping(self):
        self.manager.emit_about("stopping", self)
        self.enter("killed")

    def at_killed(self):
        if "main" not in self.processes:
            return self.enter("post-stop")
        self.signal_group(self.job.kill_signal)
        self.kill_at = time.monotonic() + self.job.kill_timeout

    def at_post_stop(self):
        self.kill_at = None
        self.run_or("post-stop", "at-rest")

    def at_at_rest(self):
        if self.goal == "start":
            return self.enter("starting")
        self.state = "waiting"
        self.manager.gone(self)
        self.answer(self.on_started, "Job failed to start" if self.failed or not self.job.task else None)
        self.answer(self.on_stopped, None)

    def answer(self, waiting, error):
        calls, waiting[:] = list(waiting), []
        for call in calls:
            call(error)

    def signal_group(self, number):
        # Like upstart: the whole process group of the main process, and nothing that has left it.
        main = self.processes.get("main")
        if main:
            try:
                os.killpg(main.pid, number)
            except ProcessLookupError:
                pass

    def tick(self, now):
        if self.kill_at is not None and now >= self.kill_at:
            self.kill_at = None
            self.signal_group(signal.SIGKILL)

    def ended(self, process, status):
        """A process of the job has ended with that wait status."""
        del self.processes[process]
        if process == "main":
            return self.main_ended(status)
        if status != 0 and process == "pre-start":
            self.manager.log("%s %s process terminated with status %d" % (self.job.name, process, status >> 8))
            self.failed, self.goal = True, "stop"
        if self.state != process:
            return
        following = {"pre-start": "spawned", "post-start": "running", "pre-stop": "stopping", "post-stop": "at-rest"}
        self.enter("stopping" if process == "pre-start" and self.goal == "stop" else following[process])

    def main_ended(self, status):
        if self.state == "killed":
            return self.enter("post-stop")
        if self.goal == "start":
            stays = self.job.respawn and not self.job.task
            failed = (status != 0 or stays) and status not in self.job.normal_exit
            respawned = failed and self.job.respawn and self.may_respawn()
            if status != 0:
                how = "killed by signal %d" % (status & 127) if status & 127 else "terminated with status %d" % (status >> 8)
                self.manager.log("%s main process (%s) %s" % (self.job.name, "main", how))
            if not respawned:
                self.goal, self.failed = "stop", failed
        if self.state in ("spawned", "running"):
            self.enter("stopping")

    def may_respawn(self):
        if self.job.respawn_limit is None:
            return True
        limit, interval = self.job.respawn_limit
        count, since = self.respawns
        now = time.monotonic()
        self.respawns = (count + 1, since) if now - since < interval else (1, now)
        if self.respawns[0] <= limit:
            self.manager.log("%s main process ended, respawning" % self.job.name)
            return True
        self.manager.log("%s respawning too fast, stopped" % self.job.name)
        return False

    def spawn(self, process):
        """Starts a process in a session of its own; whether that worked."""
        kind, text = self.job.processes[process]
        if kind == "script":
            argv = ["/bin/sh", "-e", "-c", text]
        elif any(character in SHELL_CHARACTERS for character in text):
            argv = ["/bin/sh", "-e", "-c", "exec " + text]
        else:
            argv = text.split()
        env = dict([("PATH", PATH), ("TERM", "linux")] + self.env + self.job.env)
        env.update(UPSTART_JOB=self.job.name, UPSTART_INSTANCE="")
        job = self.job
        try:
            with open("%s/%s.log" % (LOGS, job.name), "ab") as log:
                self.processes[process] = subprocess.Popen(
                    argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=job.chdir or "/",
                    start_new_session=True, user=job.user, group=job.group, extra_groups=[] if job.user else None,
                    umask=-1 if job.umask is None else job.umask, preexec_fn=self.prepare)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            self.manager.log("Failed to spawn %s %s process: %s" % (job.name, process, error))
            return False
        return True

    def prepare(self):
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        for what, *limits in self.job.limits:
            number = getattr(resource, "RLIMIT_" + what.upper())
            # Process 1 of a container may not raise its own limits.
            most = resource.getrlimit(number)[1]
            resource.setrlimit(number, tuple(most if word == "unlimited" else min(int(word), most) for word in limits))
