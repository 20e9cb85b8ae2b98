"""yum's verbs, resolved and carried out by the real dnf library and rpm, and told in yum 3.4's words.

Told apart from dnf: `install` of what is there in an older version updates it, `update` of what is not there is no error,
no verb removes what is in the way of an update.
"""

import logging
import os
import sys

import dnf
import dnf.exceptions
import dnf.subject
import dnf.transaction

import screen
import traces

INBOUND = {dnf.transaction.PKG_INSTALL: "Installing", dnf.transaction.PKG_UPGRADE: "Updating",
           dnf.transaction.PKG_DOWNGRADE: "Downgrading", dnf.transaction.PKG_REINSTALL: "Reinstalling"}
OUTBOUND = {dnf.transaction.PKG_ERASE: "Erasing", dnf.transaction.PKG_UPGRADED: "Cleanup",
            dnf.transaction.PKG_DOWNGRADED: "Cleanup", dnf.transaction.PKG_OBSOLETED: "Obsoleted"}


class Failure(Exception):
    """What yum ends with, with code 1, after `Error: ` or without."""


class Display:
    """rpm's progress: yum's lines without a terminal, its log and its files."""

    output = True

    def __init__(self, yum, progress):
        self.yum, self.files, self.begun, self.last = yum, progress, False, None

    def progress(self, package, action, ti_done, ti_total, ts_done, ts_total):
        if not self.begun:
            self.begun = True
            self.yum.say("Transaction test succeeded\nRunning transaction")
            types = {1: "install", 2: "erase"}
            self.files.begin((types.get(te.Type(), str(te.Type())), te.E() or "0", te.N(), te.V(), te.R(), te.A())
                             for te in self.yum.base._ts)
        words = {**INBOUND, **OUTBOUND, dnf.transaction.PKG_VERIFY: "Verifying"}
        words[dnf.transaction.PKG_DOWNGRADE] = "Installing"
        line = "  %-10.10s : %s" % (words.get(action, ""), package)
        if action in words and ti_done == ti_total and line != self.last:
            self.last = line
            self.yum.say("  %-10.10s : %-56.56s %d/%d " % (words[action], screen.envra(package), ts_done, ts_total))

    def filelog(self, package, action):
        # The next element begins, so the one before has ended.
        if self.last is not None:
            self.files.element_done()
        words = {"Installing": "Installed", "Updating": "Updated", "Downgrading": "Installed", "Erasing": "Erased"}
        word = words.get(INBOUND.get(action) or OUTBOUND.get(action))
        if word:
            traces.log(word, package.name if word == "Erased" else screen.envra(package))

    def scriptout(self, messages):
        for line in (messages or "").splitlines():
            self.yum.say(line)

    def error(self, message):
        print(message, file=sys.stderr)

    def verify_tsi_package(self, package, count, total):
        self.progress(package, dnf.transaction.PKG_VERIFY, 1, 1, count, total)


class Yum:
    def __init__(self, yes=False, no=False, quiet=False, enable=(), disable=()):
        self.yes, self.no, self.quiet = yes, no, quiet
        self.enable, self.disable = enable, disable
        self.base = dnf.Base()
        self.wanted = set()
        logging.getLogger("dnf").setLevel(logging.CRITICAL + 1)

    def say(self, text):
        if not self.quiet:
            print(text, flush=True)

    def open(self, repositories=True):
        base = self.base
        base.conf.read()
        base.conf.substitutions.update_from_etc("/")
        base.conf.assumeyes = True
        # yum takes what it can and refuses the rest; it has no `best` to give up.
        base.conf.best, base.conf.obsoletes, base.conf.clean_requirements_on_remove = True, True, False
        # yum's default; Debian's dnf.conf has another.
        base.conf.skip_if_unavailable = False
        base.read_all_repos()
        for pattern in self.disable:
            base.repos.get_matching(pattern).disable()
        for pattern in self.enable:
            base.repos.get_matching(pattern).enable()
        try:
            base.fill_sack(load_system_repo=True, load_available_repos=repositories)
        except dnf.exceptions.RepoError as error:
            raise Failure(unreachable(base, str(error))) from error

    def installed(self, name=None):
        query = self.base.sack.query().installed()
        return query.filter(name=name) if name else query

    def newest(self, pattern):
        """What a pattern means: installed packages and available ones, the newest of each name."""
        found = dnf.subject.Subject(pattern).get_best_query(self.base.sack, with_provides=False, with_filenames=False)
        return list(found.installed()), list(found.available().latest())

    def install(self, patterns):
        found = False
        for pattern in patterns:
            if pattern.endswith(".rpm") and os.path.exists(pattern):
                self.local(pattern)
                continue
            there, available = self.newest(pattern)
            if not there and not available:
                self.say("No package %s available." % pattern)
                continue
            found = True
            self.mark(pattern, there, available)
        if not self.wanted:
            raise Failure("Error: Nothing to do") if not found else Nothing("Nothing to do")

    def local(self, path):
        """A file in place of a name: installed, or what is there in an older version updated by it."""
        try:
            package, = self.base.add_remote_rpms([path])
        except (dnf.exceptions.Error, OSError, ValueError):
            self.say("Cannot open: %s. Skipping." % path)
            return
        self.say("Examining %s: %s" % (path, screen.envra(package)))
        present = max(self.installed(package.name), default=None)
        if present is None:
            self.say("Marking %s to be installed" % path)
            self.base.package_install(package)
        elif present < package:
            self.say("Marking %s as an update to %s" % (path, screen.envra(present)))
            self.base.package_upgrade(package)
        else:
            self.say("%s: does not update installed package." % path)
            return
        self.wanted.add(package.name)

    def mark(self, pattern, there, available):
        names = {package.name for package in available} or {package.name for package in there}
        for name in sorted(names):
            best = max([package for package in available if package.name == name], default=None)
            present = max(self.installed(name), default=None)
            if best is None or (present is not None and present.evr == best.evr):
                self.say("Package %s already installed and latest version" % screen.envra(present))
            elif present is not None and present > best:
                self.say("Package matching %s already installed. Checking for update." % screen.envra(best))
            elif present is not None:
                self.base.package_upgrade(best)
                self.wanted.add(name)
            else:
                self.base.package_install(best)
                self.wanted.add(name)

    def update(self, patterns):
        if not patterns:
            self.base.upgrade_all()
            self.wanted.update(package.name for package in self.installed())
        for pattern in patterns:
            there, available = self.newest(pattern)
            names = {package.name for package in there + available}
            present = [package for name in names for package in self.installed(name)]
            if not present:
                self.say("Package(s) %s available, but not installed." % pattern if available
                         else "No package %s available." % pattern)
                continue
            for package in available:
                if any(older.name == package.name and older < package for older in present):
                    self.base.package_upgrade(package)
                    self.wanted.add(package.name)
        if not self.wanted:
            raise Nothing("No packages marked for update")

    def downgrade(self, patterns):
        found = False
        for pattern in patterns:
            there, available = self.newest(pattern)
            available = list(dnf.subject.Subject(pattern).get_best_query(self.base.sack).available())
            present = {package.name: package for name in {p.name for p in there + available}
                       for package in self.installed(name)}
            older = [p for p in available if p.name in present and p < present[p.name]]
            if not available:
                self.say("No package %s available." % pattern)
                continue
            found = True
            if not older:
                self.say("Only Upgrade available on package: %s" % screen.envra(available[0]))
                continue
            self.base.package_downgrade(max(older))
            self.wanted.add(max(older).name)
        if not self.wanted:
            raise Nothing("Nothing to do") if found else Failure("Error: Nothing to do")

    def remove(self, patterns):
        for pattern in patterns:
            there, _ = self.newest(pattern)
            for package in there:
                self.base.package_remove(package)
                self.wanted.add(package.name)
            if not there:
                self.say("No Match for argument: %s" % pattern)
        if not self.wanted:
            raise Nothing("No Packages marked for removal")

    def groups(self):
        """The packages of the transaction by yum's titles."""
        groups, replaced = {}, {dnf.transaction.PKG_UPGRADED, dnf.transaction.PKG_DOWNGRADED}
        for item in self.base.transaction:
            title = INBOUND.get(item.action) or ("Removing" if item.action == dnf.transaction.PKG_ERASE else None)
            if title and item.action not in replaced:
                more = "" if item.pkg.name in self.wanted or title == "Downgrading" else " for dependencies"
                groups.setdefault(title + more, []).append(item.pkg)
        return groups

    def resolve(self, allow_erasing=False):
        self.say("Resolving Dependencies")
        if traces.unfinished():
            self.say("There are unfinished transactions remaining. You might consider running yum-complete-transaction, or "
                     "\"yum-complete-transaction --cleanup-only\" and \"yum history redo last\", first to finish them. If "
                     "those don't work you'll have to try removing/installing packages by hand (maybe package-cleanup can "
                     "help).")
        self.say("--> Running transaction check")
        try:
            self.base.resolve(allow_erasing=allow_erasing)
        except dnf.exceptions.DepsolveError as error:
            self.say("--> Finished Dependency Resolution")
            raise Failure(conflict(str(error))) from error
        verbs = {"Installing": "will be installed", "Updating": "will be an update", "Removing": "will be erased",
                 "Downgrading": "will be a downgrade"}
        for title, packages in self.groups().items():
            for p in sorted(packages):
                self.say("---> Package %s.%s %d:%s-%s %s"
                         % (p.name, p.arch, p.epoch, p.version, p.release, verbs.get(title.split(" ")[0], "")))
        self.say("--> Finished Dependency Resolution")
        self.say("\nDependencies Resolved")

    def carry_out(self):
        """Prints the table, and unless the answer is no runs the transaction."""
        groups = self.groups()
        if not self.quiet or not self.yes:
            print(screen.table(groups), flush=True)
        inbound = list(self.base.transaction.install_set)
        if inbound:
            self.say("Total download size: %s" % screen.size(sum(package.downloadsize for package in inbound)))
        if self.no or not self.yes:
            self.say("Exiting on user command\nYour transaction was saved, rerun it with:\n"
                     " yum load-transaction /tmp/yum_save_tx.yumtx")
            return 1
        self.say("Downloading packages:")
        try:
            self.base.download_packages(inbound)
        except dnf.exceptions.DownloadError as error:
            raise Failure("\n\nError downloading packages:\n  %s" % error) from error
        self.say("Running transaction check\nRunning transaction test")
        progress = traces.Progress()
        try:
            self.base.do_transaction(Display(self, progress))
        except dnf.exceptions.Error as error:
            # Nothing was begun, or rpm gave up in the middle: then its files stay.
            text = str(error).replace("Transaction test error:", "Transaction check error:")
            raise Failure("\n\n" + text) from error
        progress.end()
        self.say(screen.afterwards(groups) + "\nComplete!")
        return 0


class Nothing(Exception):
    """There is nothing to do, which is no error."""


def conflict(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = "\n           ".join(line.removeprefix("Problem: ") for line in lines)
    return "Error: %s\n You could try using --skip-broken to work around the problem" % told


def unreachable(base, text):
    urls = [url for repo in base.repos.iter_enabled() for url in repo.baseurl]
    repo = next((repo.id for repo in base.repos.iter_enabled()), "?")
    where = "%s/repodata/repomd.xml" % (urls[0] if urls else "")
    cause = text.split("Curl error ", 1)[-1]
    number, _, rest = cause.partition("): ")
    number, rest = (number.lstrip("("), rest) if rest else ("7", cause)
    line = '%s: [Errno 14] curl#%s - "%s"' % (where, number, rest.split(" for http")[0].rstrip("]"))
    return ("\n\n One of the configured repositories failed (%s),\n and yum doesn't have enough cached data to continue.\n\n"
            "failure: repodata/repomd.xml from %s: [Errno 256] No more mirrors to try.\n%s" % (repo, repo, line))
