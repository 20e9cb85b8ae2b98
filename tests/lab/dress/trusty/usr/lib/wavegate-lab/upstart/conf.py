"""Reads job files, /etc/init/NAME.conf and NAME.override: the stanzas of init(5) that services use. Runs nothing."""

import os
import signal

from condition import Condition

PROCESSES = ("pre-start", "post-start", "pre-stop", "post-stop")
# Taken and of no effect here.
IGNORED = ("author", "version", "emits", "usage", "console", "apparmor", "oom", "nice", "cgroup", "debug", "export")


class JobClass:
    """A job as its files describe it."""

    def __init__(self, name):
        self.name = name
        self.description = ""
        self.start_on = self.stop_on = None
        self.env = []
        # Name of the process -> ("exec" | "script", text).
        self.processes = {}
        self.task = self.respawn = False
        # Count and seconds; none: without a limit.
        self.respawn_limit = (10, 5)
        # Wait statuses that are no failure.
        self.normal_exit = []
        self.kill_timeout, self.kill_signal, self.reload_signal = 5, signal.SIGTERM, signal.SIGHUP
        self.user = self.group = self.chdir = self.umask = None
        self.limits = []


def signal_number(word):
    word = word.upper()
    return int(word) if word.isdigit() else int(getattr(signal, word if word.startswith("SIG") else "SIG" + word))


def unquoted(words):
    return " ".join(words).strip().strip("\"'")


class Parser:
    def __init__(self, job, text):
        self.job = job
        self.lines = text.split("\n")

    def parse(self):
        while self.lines:
            words = self.logical_line().split()
            if words:
                self.stanza(words)

    def logical_line(self):
        """One line without its comment, joined with what a backslash or an open bracket continues."""
        line = self.lines.pop(0)
        line = "" if line.lstrip().startswith("#") else line.split(" #")[0].rstrip()
        while self.lines and line.endswith("\\"):
            line = line[:-1] + " " + self.lines.pop(0).rstrip()
        if line.split()[:2] in (["start", "on"], ["stop", "on"]):
            while self.lines and line.count("(") > line.count(")"):
                line += " " + self.lines.pop(0).split("#")[0].strip()
        return line

    def body(self):
        """The lines of a script, up to `end script`."""
        taken = []
        while self.lines:
            line = self.lines.pop(0)
            if line.split() == ["end", "script"]:
                return "\n".join(taken)
            taken.append(line)
        raise ValueError("a script has no `end script`")

    def process(self, name, words):
        if words[0] == "exec":
            self.job.processes[name] = ("exec", " ".join(words[1:]))
        elif words[0] == "script":
            self.job.processes[name] = ("script", self.body())
        else:
            raise ValueError("unknown stanza: " + " ".join(words))

    def stanza(self, words):
        job, first, rest = self.job, words[0], words[1:]
        if first in ("exec", "script"):
            self.process("main", words)
        elif first in PROCESSES:
            self.process(first, rest)
        elif words[:2] == ["start", "on"]:
            job.start_on = " ".join(words[2:])
            Condition(job.start_on)
        elif words[:2] == ["stop", "on"]:
            job.stop_on = " ".join(words[2:])
            Condition(job.stop_on)
        elif first == "manual":
            job.start_on = None
        elif first == "description":
            job.description = unquoted(rest)
        elif first == "env":
            key, found, value = " ".join(rest).partition("=")
            job.env.append((key, value.strip("\"'") if found else os.environ.get(key, "")))
        elif first == "task":
            job.task = True
        elif first == "respawn":
            self.respawn(rest)
        elif words[:2] == ["normal", "exit"]:
            for word in words[2:]:
                job.normal_exit.append(int(word) << 8 if word.isdigit() else signal_number(word))
        elif words[:2] == ["kill", "timeout"]:
            job.kill_timeout = int(words[2])
        elif words[:2] == ["kill", "signal"]:
            job.kill_signal = signal_number(words[2])
        elif words[:2] == ["reload", "signal"]:
            job.reload_signal = signal_number(words[2])
        elif first in ("setuid", "setgid", "chdir", "umask"):
            name = {"setuid": "user", "setgid": "group"}.get(first, first)
            setattr(job, name, int(rest[0], 8) if first == "umask" else unquoted(rest))
        elif first == "limit":
            job.limits.append((rest[0], rest[1], rest[2]))
        elif first not in IGNORED:
            # `expect`, `instance`, `chroot`: what this stand-in would do wrong it refuses.
            raise ValueError("unknown stanza: " + " ".join(words))

    def respawn(self, rest):
        if not rest:
            self.job.respawn = True
        elif rest[:2] == ["limit", "unlimited"]:
            self.job.respawn_limit = None
        elif rest[0] == "limit":
            self.job.respawn_limit = (int(rest[1]), int(rest[2]))
        else:
            raise ValueError("unknown stanza: respawn " + " ".join(rest))


def read(directory, name):
    """The job of that name, with its override on top."""
    job = JobClass(name)
    for suffix in (".conf", ".override"):
        path = os.path.join(directory, name + suffix)
        if suffix == ".override" and not os.path.exists(path):
            continue
        with open(path) as file:
            Parser(job, file.read()).parse()
    return job
