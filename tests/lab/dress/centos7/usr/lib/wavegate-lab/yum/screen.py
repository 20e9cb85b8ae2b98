"""What yum 3.4 prints: the table before a transaction and the lists after it, 80 columns wide as without a terminal."""

WIDTH = 80
# The repository of an installed package, as the library names it.
SYSTEM = "@System"
# And of one that was named as a file.
COMMAND_LINE = "@commandline"
TITLES = (
    ("Installing", "Installed"), ("Updating", "Updated"), ("Removing", "Removed"), ("Downgrading", "Downgraded"),
    ("Installing for dependencies", "Dependency Installed"), ("Updating for dependencies", "Dependency Updated"),
    ("Removing for dependencies", "Dependency Removed"),
)
SUMMARY = (("Install", "Installing"), ("Upgrade", "Updating"), ("Remove", "Removing"), ("Downgrade", "Downgrading"))


def evr(package):
    """`[EPOCH:]VERSION-RELEASE`, as yum's tables have it."""
    epoch = "%s:" % package.epoch if package.epoch else ""
    return "%s%s-%s" % (epoch, package.version, package.release)


def envra(package):
    """`[EPOCH:]NAME-VERSION-RELEASE.ARCH`, as yum names a package."""
    epoch = "%s:" % package.epoch if package.epoch else ""
    return "%s%s-%s-%s.%s" % (epoch, package.name, package.version, package.release, package.arch)


def size(number):
    for unit in (" ", "k", "M", "G"):
        if number < 1000:
            return "%.3g %s" % (number, unit)
        number /= 1024.0
    return "%.3g T" % number


def row(cells, widths):
    """One row; a cell too long for its column ends its line, and the next begins under the column after it."""
    text, line = "", " "
    for index, (cell, width) in enumerate(zip(cells, widths)):
        last = index == len(cells) - 1
        line += cell.rjust(width) if last else cell.ljust(width)
        if len(cell) > width and not last:
            text += line + "\n"
            line = " " * (1 + sum(widths[:index + 1]) + index + 1)
        else:
            line += " "
    return text + line.rstrip()


def table(groups):
    """The text from the first ruler to the summary; `groups` are packages by the titles of TITLES."""
    rows = [package for packages in groups.values() for package in packages]
    cells = lambda p: (p.name, p.arch, evr(p), repository(p), size(p.installsize if p.reponame == SYSTEM else p.downloadsize))
    widths = [max([len(cells(p)[column]) for p in rows] + [minimum]) for column, minimum in enumerate((7, 4, 7, 10, 5))]
    # What does not fit is taken from the names: their rows are broken.
    widths[0] = max(8, min(widths[0], WIDTH - 6 - sum(widths[1:])))
    lines = ["", "=" * WIDTH, row(("Package", "Arch", "Version", "Repository", "Size"), widths), "=" * WIDTH]
    for title, _ in TITLES:
        if groups.get(title):
            lines.append(title + ":")
            lines.extend(row(cells(package), widths) for package in sorted(groups[title]))
    lines += ["", "Transaction Summary", "=" * WIDTH]
    for word, title in SUMMARY:
        count, more = len(groups.get(title, ())), len(groups.get(title + " for dependencies", ()))
        packages = "Package" if count == 1 else "Packages"
        dependent = "Dependent package" if more == 1 else "Dependent packages"
        if count and more:
            lines.append("%s  %d %s (+%d %s)" % (word.ljust(7), count, packages, more, dependent))
        elif count:
            lines.append("%s  %d %s" % (word.ljust(7), count, packages))
        elif more:
            lines.append("%s             ( %d %s)" % (word.ljust(7), more, dependent))
    return "\n".join(lines) + "\n"


def repository(package):
    if package.reponame == COMMAND_LINE:
        return "/%s-%s-%s.%s" % (package.name, package.version, package.release, package.arch)
    return "installed" if package.reponame == SYSTEM else package.reponame


def afterwards(groups):
    text = ""
    for title, word in TITLES:
        if groups.get(title):
            text += "\n%s:\n" % word
            for p in sorted(groups[title]):
                text += "  %s\n" % ("%s.%s %d:%s-%s" % (p.name, p.arch, p.epoch, p.version, p.release)).ljust(WIDTH - 2)
    return text
