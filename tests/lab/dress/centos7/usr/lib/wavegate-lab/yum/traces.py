"""What yum leaves on disk: its lock, the two files of a transaction that has not ended, and its log."""

import glob
import os
import sys
import time

LOCK = "/var/run/yum.pid"
DIRECTORY = "/var/lib/yum"
LOG = "/var/log/yum.log"


def lock(exit_on_lock=False):
    """Takes the lock; while another yum has it waits for ever and says so, or with exit_on_lock ends."""
    said = None
    while True:
        try:
            descriptor = os.open(LOCK, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            holder = lock_holder()
            if holder is None:
                continue
            message = "Existing lock %s: another copy is running as pid %d." % (LOCK, holder)
            if message != said:
                print(message, file=sys.stderr)
                said = message
            if exit_on_lock:
                sys.exit("Another app is currently holding the yum lock; exiting as configured by exit_on_lock")
            print("Another app is currently holding the yum lock; waiting for it to exit...", file=sys.stderr)
            show_owner(holder)
            sys.stderr.flush()
            time.sleep(2)
        except OSError as error:
            print("Could not create lock at %s: %s " % (LOCK, error), file=sys.stderr)
            sys.exit("Can't create lock file; exiting")
        else:
            os.write(descriptor, b"%d" % os.getpid())
            os.close(descriptor)
            return


def lock_holder():
    """The process in the lock; none, and the file is gone, when there is no such process."""
    try:
        with open(LOCK) as file:
            pid = int(file.read() or "0")
        os.kill(pid, 0)
        return pid
    except ValueError:
        sys.exit("Malformed lock file found: %s.\nEnsure no other yum process is running and remove the lock file or "
                 "run systemd-tmpfiles --remove yum.conf." % LOCK)
    except (FileNotFoundError, ProcessLookupError):
        unlock()
        return None


def show_owner(pid):
    try:
        with open("/proc/%d/status" % pid) as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        with open("/proc/%d/stat" % pid) as file:
            fields = file.read().rsplit(")", 1)[1].split()
        with open("/proc/stat") as file:
            boot = [int(line.split()[1]) for line in file if line.startswith("btime")][0]
    except (OSError, IndexError):
        return
    started = boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    ago = int(time.time() - started)
    kilobytes = lambda name: "%3.0f M" % (int(status.get(name, "0 kB").split()[0]) / 1024.0)
    states = {"R": "Running", "S": "Sleeping", "D": "Uninterruptible", "Z": "Zombie", "T": "Traced/Stopped"}
    print("  The other application is: %s" % status.get("Name", "yum"), file=sys.stderr)
    print("    Memory : %5s RSS (%5sB VSZ)" % (kilobytes("VmRSS"), kilobytes("VmSize")), file=sys.stderr)
    print("    Started: %s - %02d:%02d ago" % (time.ctime(started), ago // 60, ago % 60), file=sys.stderr)
    print("    State  : %s, pid: %d" % (states.get(fields[0], "Unknown"), pid), file=sys.stderr)


def unlock():
    try:
        os.unlink(LOCK)
    except FileNotFoundError:
        pass


def unfinished():
    """The moments of transactions that have not ended, the newest last."""
    return sorted(path.rsplit("/transaction-all.", 1)[1] for path in glob.glob(DIRECTORY + "/transaction-all.*"))


def remaining(moment):
    """`(install|erase, package)` of what such a transaction has not done."""
    def lines(kind):
        try:
            with open("%s/transaction-%s.%s" % (DIRECTORY, kind, moment)) as file:
                return [line.split(" ", 1) for line in file.read().splitlines() if " " in line]
        except FileNotFoundError:
            return []

    done = lines("done")
    return [tuple(element) for element in lines("all") if element not in done]


def forget(moment):
    for kind in ("all", "done"):
        try:
            os.unlink("%s/transaction-%s.%s" % (DIRECTORY, kind, moment))
        except FileNotFoundError:
            pass


class Progress:
    """The two files, written as rpm goes: what it will do, then what it has done."""

    def __init__(self):
        os.makedirs(DIRECTORY, exist_ok=True)
        self.moment = time.strftime("%Y-%m-%d.%H:%M.%S")
        self.elements, self.done = [], None

    def path(self, kind):
        return "%s/transaction-%s.%s" % (DIRECTORY, kind, self.moment)

    def begin(self, elements):
        self.elements = list(elements)
        with open(self.path("all"), "w") as file:
            file.writelines("%s %s:%s-%s-%s.%s\n" % element for element in self.elements)
        self.done = open(self.path("done"), "w")

    def element_done(self):
        if self.elements:
            self.done.write("%s %s:%s-%s-%s.%s\n" % self.elements.pop(0))
            self.done.flush()

    def end(self):
        forget(self.moment)


def log(word, package):
    with open(LOG, "a") as file:
        file.write("%s %s: %s\n" % (time.strftime("%b %d %H:%M:%S"), word, package))
