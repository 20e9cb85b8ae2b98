"""Process 1: the jobs of /etc/init, events, orphans, and the socket that initctl talks to."""

import json
import os
import selectors
import signal
import socket
import sys
import time

import conf
from condition import Condition, Event
from instance import LOGS, Instance

JOBS = "/etc/init"
# Upstart's own, an abstract one: it belongs to the network namespace.
SOCKET = "\0/com/ubuntu/upstart"
VERSION = "1.12.1"


class Manager:
    def __init__(self):
        self.classes, self.conditions, self.seen = {}, {}, {}
        self.instances = {}
        self.events = []
        self.runlevel, self.previous = "N", "N"
        self.ending = None
        self.selector = selectors.DefaultSelector()

    def log(self, text):
        print("init: " + text, flush=True)
        with open(LOGS + "/init.log", "a") as log:
            log.write("init: %s\n" % text)

    # What upstart learns by inotify is looked for whenever something is asked or happens.
    def read_jobs(self):
        seen = {}
        for file in os.listdir(JOBS):
            name, suffix = os.path.splitext(file)
            if suffix in (".conf", ".override"):
                stat = os.stat(os.path.join(JOBS, file))
                seen.setdefault(name, set()).add((suffix, stat.st_mtime_ns, stat.st_ino, stat.st_size))
        for name in set(seen) | set(self.seen):
            if seen.get(name) != self.seen.get(name):
                self.read_job(name, any(suffix == ".conf" for suffix, *_ in seen.get(name, ())))
        self.seen = seen

    def read_job(self, name, is_there):
        self.classes.pop(name, None)
        self.conditions.pop(name, None)
        if not is_there:
            return
        try:
            job = conf.read(JOBS, name)
        except (OSError, ValueError, IndexError) as error:
            self.log("%s/%s.conf: %s" % (JOBS, name, error))
            return
        self.classes[name] = job
        self.conditions[name] = [Condition(text) if text else None for text in (job.start_on, job.stop_on)]

    def emit(self, event):
        self.events.append(event)

    def emit_about(self, name, instance):
        self.emit(Event(name, [("JOB", instance.job.name), ("INSTANCE", "")]))

    def handle_events(self):
        while self.events:
            event = self.events.pop(0)
            if event.name == "runlevel":
                self.previous, self.runlevel = self.runlevel, event.value("RUNLEVEL")
            for name in sorted(self.classes):
                self.offer(name, event)

    def offer(self, name, event):
        start_on, stop_on = self.conditions[name]
        if stop_on and stop_on.offer(event) and name in self.instances:
            self.instances[name].stop()
        seen = start_on.offer(event) if start_on and self.ending is None else None
        if seen:
            env = [pair for one in seen for pair in one.env]
            env.append(("UPSTART_EVENTS", " ".join(one.name for one in seen)))
            self.instance(name, env).start()

    def instance(self, name, env=()):
        if name not in self.instances:
            self.instances[name] = Instance(self, self.classes[name], list(env))
        return self.instances[name]

    def gone(self, instance):
        self.instances.pop(instance.job.name, None)
        self.emit_about("stopped", instance)

    def status(self, name):
        return self.instances[name].status() if name in self.instances else name + " stop/waiting"

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for instance in list(self.instances.values()):
                for name, process in list(instance.processes.items()):
                    if process.pid == pid:
                        # Collected here: Popen must not wait for another process that got the same pid.
                        process.returncode = status
                        instance.ended(name, status)

    def run(self):
        os.makedirs(LOGS, exist_ok=True)
        wake, waker = socket.socketpair()
        for end in (wake, waker):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        server = socket.socket(socket.AF_UNIX)
        server.bind(SOCKET)
        server.listen(64)
        self.selector.register(wake, selectors.EVENT_READ, lambda: wake.recv(4096))
        self.selector.register(server, selectors.EVENT_READ, lambda: self.accept(server))
        self.read_jobs()
        # mountall's event: here everything is mounted when process 1 begins.
        self.emit(Event("startup"))
        self.emit(Event("filesystem"))
        while True:
            self.handle_events()
            for key, _ in self.selector.select(0.1 if self.needs_clock() else 30):
                key.data()
            self.reap()
            for instance in list(self.instances.values()):
                instance.tick(time.monotonic())
            if self.ending is not None and not self.events:
                self.end_if_due()

    def needs_clock(self):
        return self.ending is not None or any(i.kill_at is not None for i in self.instances.values())

    def accept(self, server):
        client, _ = server.accept()
        client.settimeout(10)
        try:
            request = json.loads(client.makefile().readline())
        except (OSError, ValueError) as error:
            self.log("a request could not be read: %s" % error)
            client.close()
            return
        self.read_jobs()
        self.answer(client, request)

    def answer(self, client, request):
        def reply(text, error=""):
            try:
                client.sendall(json.dumps({"text": text, "error": error}).encode() + b"\n")
            except OSError:
                pass
            client.close()

        verb, arguments = request["verb"], request["arguments"]
        call = getattr(self, "do_" + verb.replace("-", "_"), None)
        if call is None:
            reply("", "invalid command: " + verb)
        elif verb in ("start", "stop", "restart", "reload", "status") and arguments[0] not in self.classes \
                and arguments[0] not in self.instances:
            reply("", "Unknown job: " + arguments[0])
        else:
            call(arguments, request.get("wait", True), reply)

    def do_status(self, arguments, _wait, reply):
        reply(self.status(arguments[0]))

    def do_list(self, _arguments, _wait, reply):
        reply("\n".join(self.status(name) for name in sorted(set(self.classes) | set(self.instances))))

    def do_version(self, _arguments, _wait, reply):
        reply("init (upstart %s)" % VERSION)

    def do_reload_configuration(self, _arguments, _wait, reply):
        reply("")

    def do_start(self, arguments, wait, reply):
        name = arguments[0]
        if name in self.instances and self.instances[name].goal == "start":
            return reply("", "Job is already running: " + name)
        env = [tuple(word.split("=", 1)) for word in arguments[1:] if "=" in word]
        instance = self.instance(name, env)
        self.when(instance, instance.on_started, wait, reply)
        instance.start()

    def do_stop(self, arguments, wait, reply):
        instance = self.started(arguments[0], reply)
        if instance:
            self.when(instance, instance.on_stopped, wait, reply)
            instance.stop()

    def do_restart(self, arguments, wait, reply):
        instance = self.started(arguments[0], reply)
        if instance:
            self.when(instance, instance.on_started, wait, reply)
            instance.restart()

    def started(self, name, reply):
        """The instance, if it is meant to run; replies with upstart's refusal otherwise."""
        instance = self.instances.get(name)
        if not instance:
            reply("", "Unknown instance: ")
        elif instance.goal == "stop":
            reply("", "Job has already been stopped: " + name)
            return None
        return instance

    def when(self, instance, waiting, wait, reply):
        name = instance.job.name
        waiting.append(lambda error: reply("" if error else self.status(name), error or "") if wait else None)
        if not wait:
            reply(self.status(name))

    def do_reload(self, arguments, _wait, reply):
        name = arguments[0]
        main = self.instances[name].processes.get("main") if name in self.instances else None
        if name not in self.instances:
            return reply("", "Unknown instance: ")
        if main is None:
            return reply("", "Not running")
        os.kill(main.pid, self.instances[name].job.reload_signal)
        reply("")

    def do_show_config(self, arguments, _wait, reply):
        names = [word for word in arguments if not word.startswith("-")] or sorted(self.classes)
        unknown = [name for name in names if name not in self.classes]
        if unknown:
            return reply("", "Unknown job: " + unknown[0])
        lines = []
        for name in names:
            lines.append(name)
            for what, condition in zip(("start on", "stop on"), self.conditions[name]):
                for leaf in condition.leaves() if condition else []:
                    lines.append("  %s %s (job:, env:%s)" % (what, leaf.name, "".join(" " + a for a in leaf.arguments)))
        reply("\n".join(lines))

    def do_emit(self, arguments, _wait, reply):
        self.emit(Event(arguments[0], [tuple(word.split("=", 1)) for word in arguments[1:]]))
        reply("")

    def do_runlevel(self, _arguments, _wait, reply):
        reply("%s %s" % (self.previous, self.runlevel) if self.runlevel != "N" else "unknown")

    def do_shutdown(self, arguments, _wait, reply):
        self.ending = time.monotonic()
        self.emit(Event("runlevel", [("RUNLEVEL", arguments[0]), ("PREVLEVEL", self.runlevel)]))
        reply("")

    def end_if_due(self):
        """The jobs end by themselves; what is left of them and whatever else runs is killed after a while."""
        waited = time.monotonic() - self.ending
        if self.instances and waited < 20:
            return
        if waited < 3600:
            self.ending -= 7200
            os.kill(-1, signal.SIGTERM)
            self.deadline = time.monotonic() + 3
        elif time.monotonic() > self.deadline or not self.others():
            os.kill(-1, signal.SIGKILL) if self.others() else None
            os.sync()
            sys.exit(0)

    def others(self):
        return [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]
