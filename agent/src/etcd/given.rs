//! How etcd was told to run: flags, environment and configuration file read into one set of settings, by the names of the
//! flags. Text only; who reads the files is `here`.
//!
//! The rules are etcd's own (etcdmain/config.go): a flag wins over the environment's `ETCD_...`; where a configuration file is
//! named, neither flags nor environment count.

use std::collections::BTreeMap;
use wavegate_common::etcd::Part;

/// Settings by the names of their flags, e.g. `data-dir`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// `gateway` or `grpc-proxy`, which are programs of their own.
    verb: Option<String>,
    settings: BTreeMap<String, String>,
}

impl Given {
    /// What a process was given: its arguments, the program first, and its environment.
    #[must_use]
    pub fn to_process(arguments: &[String], environment: &BTreeMap<String, String>) -> Self {
        Self::by_arguments(arguments).with(environment)
    }

    fn with(self, environment: &BTreeMap<String, String>) -> Self {
        // The programs beside the server take flags alone.
        if self.verb.is_some() { self } else { self.over(Self::by_environment(environment)) }
    }

    /// By flags: `--name a`, `-name=a`, `--enable-v2`.
    fn by_arguments(arguments: &[String]) -> Self {
        let verb = arguments.get(1).filter(|verb| matches!(verb.as_str(), "gateway" | "grpc-proxy")).cloned();
        let mut settings = BTreeMap::<String, String>::new();
        let mut rest = arguments.iter().skip(1).peekable();
        while let Some(argument) = rest.next() {
            let flag = argument.trim_start_matches('-');
            if flag.len() == argument.len() || flag.is_empty() {
                continue;
            }
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => match rest.next_if(|next| !next.starts_with('-')) {
                    Some(value) => (flag, value.clone()),
                    None => (flag, "true".to_owned()),
                },
            };
            match settings.get_mut(name) {
                // The gateway's list may come in pieces; of anything else the last counts.
                Some(before) if name == "endpoints" => *before = format!("{before},{value}"),
                Some(_) | None => drop(settings.insert(name.to_owned(), value)),
            }
        }
        Self { verb, settings }
    }

    /// By the environment: `ETCD_DATA_DIR`.
    fn by_environment(environment: &BTreeMap<String, String>) -> Self {
        let of_etcd =
            environment.iter().filter_map(|(name, value)| Some((name.strip_prefix("ETCD_")?, value)));
        let settings = of_etcd.filter(|(_, value)| !value.is_empty());
        let settings =
            settings.map(|(name, value)| (name.to_lowercase().replace('_', "-"), value.clone())).collect();
        Self { verb: None, settings }
    }

    /// By a configuration file: YAML as etcd's sample shows it, a key a line, and one level below
    /// `client-transport-security`, whose keys are those of the flags.
    #[must_use]
    pub fn by_file(text: &str) -> Self {
        let mut settings = BTreeMap::new();
        let mut below = None;
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let indented = name.starts_with([' ', '\t']);
            let (name, value) = (unquoted(name.trim()), plain(value));
            if !indented {
                below = value.is_empty().then_some(name);
            }
            // What secures the talk between members is not how clients ask.
            let counts = !indented || below == Some("client-transport-security");
            if counts && !value.is_empty() {
                settings.insert(name.to_owned(), value.to_owned());
            }
        }
        Self { verb: None, settings }
    }

    fn over(mut self, other: Self) -> Self {
        for (name, value) in other.settings {
            self.settings.entry(name).or_insert(value);
        }
        self
    }

    /// A setting's value; `None` if none was given.
    #[must_use]
    pub fn get(&self, flag: &str) -> Option<&str> {
        self.settings.get(flag).map(String::as_str)
    }

    /// A setting that is a list.
    #[must_use]
    pub fn list(&self, flag: &str) -> Vec<String> {
        let words = self.get(flag).unwrap_or_default().split(',').map(str::trim);
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// A setting that is on or off.
    #[must_use]
    pub fn flag(&self, flag: &str) -> Option<bool> {
        match self.get(flag)? {
            "true" | "1" | "t" | "T" | "TRUE" | "True" => Some(true),
            "false" | "0" | "f" | "F" | "FALSE" | "False" => Some(false),
            _ => None,
        }
    }

    /// The part that etcd plays when it runs like this. `grpc-proxy` passes on what it is asked, as the gateway does.
    #[must_use]
    pub fn part(&self) -> Part {
        match (&self.verb, self.get("proxy")) {
            (Some(_), _) => Part::Gateway,
            (None, Some("on" | "readonly")) => Part::Proxy,
            (None, Some(_) | None) => Part::Member,
        }
    }
}

/// What a service's files say: assignments of its environment, and the command line that it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    assignments: BTreeMap<String, String>,
    command: String,
}

impl Files {
    /// Reads one more file: unit, upstart job or environment file. What comes later counts more. Files that it names as
    /// environment files are returned, and are to be read next.
    pub fn read(&mut self, text: &str) -> Vec<String> {
        let mut named = Vec::new();
        for line in text.replace("\\\n", " ").lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(path) = line.strip_prefix("EnvironmentFile=") {
                named.push(path.trim_start_matches('-').to_owned());
            } else if let Some(several) = line.strip_prefix("Environment=") {
                let words = words(several);
                self.assignments.extend(words.iter().filter_map(|word| assignment(word)));
            } else if is_command(line) {
                line.clone_into(&mut self.command);
            } else {
                let line =
                    ["export ", "env "].iter().find_map(|word| line.strip_prefix(word)).unwrap_or(line);
                self.assignments.extend(assignment(line));
            }
        }
        named
    }

    /// What a process of this service would be given.
    #[must_use]
    pub fn given(&self) -> Given {
        let mut arguments: Vec<String> = Vec::new();
        for word in command_words(&self.command) {
            let whole = word.strip_prefix('$').map(|name| name.trim_matches(['{', '}']));
            match whole.and_then(|name| self.assignments.get(name)) {
                Some(several) => arguments.extend(words(several)),
                None => arguments.push(self.expanded(&word).unwrap_or(word)),
            }
        }
        let start = arguments.iter().position(|word| word.rsplit(['/', '=']).next() == Some("etcd"));
        let arguments = start.map_or(&[][..], |start| &arguments[start..]);
        let mut flags = Given::by_arguments(arguments);
        // What a variable that is not known here stands for.
        flags.settings.retain(|_, value| !value.contains('$'));
        flags.with(&self.assignments)
    }

    /// A word with `${NAME}` or `$NAME` as its value; `None` for one whose value nobody says.
    fn expanded(&self, word: &str) -> Option<String> {
        let Some((before, variable)) = word.split_once('$') else { return Some(word.to_owned()) };
        let variable = variable.trim_start_matches('{');
        let end = variable.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(variable.len());
        let (name, after) = variable.split_at(end);
        let value = self.assignments.get(name)?;
        let after = after.strip_prefix('}').unwrap_or(after);
        (!after.contains('$')).then(|| format!("{before}{value}{after}"))
    }
}

/// Whether a line of a unit or a job runs etcd.
fn is_command(line: &str) -> bool {
    let runs = line.starts_with("ExecStart=") || line.starts_with("exec ");
    runs && command_words(line).iter().any(|word| word.rsplit(['/', '=']).next() == Some("etcd"))
}

/// The words of a command, those of one that a shell is given (`sh -c "..."`) too.
fn command_words(line: &str) -> Vec<String> {
    let inner = |word: String| if word.contains(char::is_whitespace) { words(&word) } else { vec![word] };
    words(line).into_iter().flat_map(inner).collect()
}

/// `NAME=VALUE`, its value unquoted.
fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (name.to_owned(), unquoted(value.trim()).to_owned()))
}

/// Words with blanks between them; quotes keep blanks together and are left out, but for those behind a backslash.
fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let (mut word, mut quote, mut begun) = (String::new(), None, false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if c == '\\'
            && let Some(quoted) = characters.next_if(|next| matches!(next, '"' | '\''))
        {
            word.push(quoted);
            begun = true;
            continue;
        }
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') => (quote, begun) = (Some(c), true),
            (None, c) if c.is_whitespace() => {
                if std::mem::take(&mut begun) {
                    all.push(std::mem::take(&mut word));
                }
            }
            (Some(_) | None, c) => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        all.push(word);
    }
    all
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(['"', '\''])
}

/// A plain value of YAML: without quotes, and without a comment after it.
fn plain(value: &str) -> &str {
    let value = value.trim();
    if value.starts_with(['"', '\'']) {
        return unquoted(value.split(" #").next().unwrap_or_default().trim());
    }
    if value.starts_with('#') { "" } else { value.split(" #").next().unwrap_or_default().trim() }
}

/// The environment of a process as `/proc/PID/environ` has it.
#[must_use]
pub fn environment(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The service that a process belongs to, by `/proc/PID/cgroup` of systemd: `etcd` of `/system.slice/etcd.service`.
#[must_use]
pub fn unit_of_cgroup(text: &str) -> Option<&str> {
    let parts = text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).flat_map(|path| path.rsplit('/'));
    parts
        .filter_map(|part| part.strip_suffix(".service"))
        .find(|unit| !unit.is_empty() && !unit.starts_with("user@"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn by_line(line: &str) -> Given {
        Given::to_process(&split(line), &BTreeMap::new())
    }

    fn of_service(texts: &[&str]) -> Given {
        let mut files = Files::default();
        for text in texts {
            files.read(text);
        }
        files.given()
    }

    #[test]
    fn flags_say_which_part_it_plays() {
        for (line, part) in [
            ("/usr/bin/etcd --name a", Part::Member),
            ("/usr/bin/etcd --proxy on --name a", Part::Proxy),
            ("etcd -proxy=readonly", Part::Proxy),
            ("etcd --proxy=off", Part::Member),
            ("etcd --proxy-failure-wait 5000", Part::Member),
            ("etcd gateway start --endpoints=a:2379", Part::Gateway),
            ("etcd grpc-proxy start --endpoints a:2379", Part::Gateway),
            ("etcd --name gateway", Part::Member),
        ] {
            assert_eq!(by_line(line).part(), part, "{line}");
        }
    }

    #[test]
    fn flags_win_over_the_environment() {
        let environment = environment("ETCD_NAME=env\0ETCD_DATA_DIR=/srv/etcd\0PATH=/bin\0ETCD_PROXY=\0x");
        let given = Given::to_process(&split("etcd --name flag --enable-v2 --debug=false"), &environment);
        assert_eq!((given.get("name"), given.get("data-dir")), (Some("flag"), Some("/srv/etcd")));
        assert_eq!(
            (given.flag("enable-v2"), given.flag("debug"), given.flag("name")),
            (Some(true), Some(false), None)
        );
        assert_eq!(given.part(), Part::Member);
        let gateway =
            Given::to_process(&split("etcd gateway start --endpoints a:1 --endpoints b:2,c:3"), &environment);
        assert_eq!(
            (gateway.list("endpoints").join(" "), gateway.get("data-dir")),
            ("a:1 b:2 c:3".to_owned(), None)
        );
    }

    #[test]
    fn a_configuration_file_is_read() {
        let given = Given::by_file(
            "# a comment\nname: 'm1'   # its name\ndata-dir: /srv/etcd\nwal-dir:\nlisten-client-urls: https://10.0.0.1:2379,http://127.0.0.1:2379\n\
             proxy: \"readonly\"\nclient-transport-security:\n  # client\n  cert-file: /c.pem\n  key-file: /k.pem\n  trusted-ca-file: /ca.pem\n\
             peer-transport-security:\n  cert-file: /peer.pem\nenable-v2: true\n",
        );
        assert_eq!(
            (given.get("name"), given.get("data-dir"), given.get("wal-dir")),
            (Some("m1"), Some("/srv/etcd"), None)
        );
        assert_eq!((given.get("cert-file"), given.get("trusted-ca-file")), (Some("/c.pem"), Some("/ca.pem")));
        assert_eq!(given.list("listen-client-urls"), ["https://10.0.0.1:2379", "http://127.0.0.1:2379"]);
        assert_eq!((given.part(), given.flag("enable-v2")), (Part::Proxy, Some(true)));
    }

    #[test]
    fn a_services_files_say_what_its_process_is_given() {
        for (texts, part) in [
            (&["ETCD_DATA_DIR=/var/lib/etcd\n"][..], Part::Member),
            (&["# ETCD_PROXY=on\nETCD_PROXY=\"off\"\n"], Part::Member),
            (&["ETCD_PROXY=off\nETCD_PROXY=\"on\"\n"], Part::Proxy),
            (&["[Service]\nExecStart=/usr/local/bin/etcd gateway start\n"], Part::Gateway),
            (&["exec /usr/bin/etcd --proxy on \\\n  --name a\n"], Part::Proxy),
            (&["description \"etcd gateway\"\nchown etcd /var/lib/etcd\n"], Part::Member),
            (&["ETCD_PROXY_DIAL_TIMEOUT=5\n"], Part::Member),
            (
                &["DAEMON_ARGS=\"--proxy on --name x\"\n", "ExecStart=/usr/bin/etcd $DAEMON_ARGS\n"],
                Part::Proxy,
            ),
        ] {
            assert_eq!(of_service(texts).part(), part, "{texts:?}");
        }
        // CentOS 7's unit: every flag is a variable of the environment file.
        let unit = "[Service]\nEnvironmentFile=-/etc/etcd/etcd.conf\nExecStart=/bin/bash -c \"GOMAXPROCS=$(nproc) \
                    /usr/bin/etcd --name=\\\"${ETCD_NAME}\\\" --data-dir=\\\"${ETCD_DATA_DIR}\\\"\"\n";
        let centos = of_service(&["ETCD_NAME=default\nETCD_DATA_DIR=\"/var/lib/etcd/default.etcd\"\n", unit]);
        assert_eq!(
            (centos.get("name"), centos.get("data-dir")),
            (Some("default"), Some("/var/lib/etcd/default.etcd"))
        );
        let mut files = Files::default();
        assert_eq!(files.read(unit), ["/etc/etcd/etcd.conf"]);
        let several = of_service(&[
            "Environment=\"ETCD_NAME=a b\" ETCD_DATA_DIR=/srv\n",
            "ExecStart=/usr/bin/etcd --name $UNKNOWN --debug\n",
        ]);
        assert_eq!((several.get("name"), several.get("data-dir")), (Some("a b"), Some("/srv")));
    }

    #[test]
    fn the_unit_is_told_by_the_cgroup() {
        assert_eq!(unit_of_cgroup("0::/system.slice/etcd.service\n"), Some("etcd"));
        let first = "3:cpu:/\n1:name=systemd:/lab/system.slice/etcd-gateway.service\n";
        assert_eq!(unit_of_cgroup(first), Some("etcd-gateway"));
        assert_eq!(unit_of_cgroup("0::/user.slice/user-0.slice/session-1.scope\n"), None);
        assert_eq!(unit_of_cgroup(""), None);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(
            text in any::<String>(),
            soup in "(etcd|proxy|--proxy|ExecStart=|EnvironmentFile=|Environment=|exec |\\$|\\{|\\}|A| |=|:|\"|'|\\\\|on|\n|\0|\\.service|/){0,12}",
        ) {
            for text in [text, soup] {
                let _ = (by_line(&text), Given::by_file(&text), of_service(&[&text, &text]), environment(&text), unit_of_cgroup(&text));
            }
        }
    }
}
