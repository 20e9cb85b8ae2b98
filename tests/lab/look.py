"""Runs on a node: prints what its processes named by argv are, as JSON. `dnsmasq` or a list of pids."""

import json
import os
import sys


def look(pid):
    base = "/proc/%d/" % pid
    try:
        with open(base + "cmdline") as cmdline:
            argv = cmdline.read().split("\0")[:-1]
        with open(base + "stat") as stat:
            text = stat.read()
        exe = os.readlink(base + "exe")
        image = os.stat(base + "exe")
    except OSError:
        return None
    fields = text.rsplit(")", 1)[1].split()
    try:
        disk = os.stat(argv[0] if argv and argv[0].startswith("/") else exe.split(" (deleted)")[0])
        fresh = (disk.st_dev, disk.st_ino) == (image.st_dev, image.st_ino)
    except OSError:
        fresh = False
    return {
        "pid": pid, "starttime": int(fields[19]), "name": text.split("(", 1)[1].rsplit(")", 1)[0],
        "exe": exe, "exe_is_file_on_disk": fresh, "argv": argv,
    }


if sys.argv[1] == "dnsmasq":
    found = [look(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    found = [process for process in found if process and process["name"] == "dnsmasq"]
    print(json.dumps(sorted(found, key=lambda process: process["pid"])))
else:
    print(json.dumps([look(int(pid)) for pid in sys.argv[1:]]))
