//! What the configuration takes, and what it says of what it does not take.

use super::*;
use std::collections::HashMap;

/// A configuration of these files, e.g. `agent.toml` and `agent.d/10.toml`.
fn read_files(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Config, String> {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("agent.d")).expect("made");
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect("written");
    }
    let variables: HashMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let path = directory.path().join("agent.toml");
    Config::read(&path, environment().source(Some(variables)))
        .map_err(|error| crate::causes::told(&error).replace(&*directory.path().to_string_lossy(), "DIR"))
}

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    read_files(&[("agent.toml", text)], variables)
}

/// What a file says, wherever it stood.
fn settings(text: &str) -> Config {
    let nowhere = PathBuf::from("agent.toml");
    let config = read(text, &[]).expect("a configuration");
    Config { node_is_set_in: Place::File(nowhere.clone()), file: nowhere, ..config }
}

#[test]
fn an_empty_file_has_every_default() {
    let config = read("", &[]).expect("a configuration");
    assert_eq!((config.coordinator, config.node, config.log.as_str()), (None, None, "info"));
    assert_eq!(config.state_directory, Path::new("/var/lib/wavegate/agent"));
    assert_eq!((config.reconnect_min.as_secs(), config.reconnect_max.as_secs()), (1, 20));
}

#[test]
fn the_shipped_file_is_valid_and_says_the_defaults() {
    let shipped = include_str!("../../../packaging/config/agent.toml");
    let set = |line: &&str| !line.is_empty() && !line.starts_with('#');
    assert_eq!(shipped.lines().find(set), None, "a node waits until somebody says where its coordinator is");
    assert_eq!(settings(shipped), settings(""));
    let uncommented: String =
        shipped.lines().filter_map(|line| line.strip_prefix("#= ")).map(|line| format!("{line}\n")).collect();
    let all = read(&uncommented, &[]).expect("what is shown as an example is valid");
    assert_eq!(all.coordinator.expect("an address").as_str(), "coordinator.example:7443");
    assert_eq!(all.join_token_file, settings("").join_token_file);
}

#[test]
fn the_environment_wins() {
    let file = "coordinator = \"a:1\"\nroles = [\"compute\"]";
    let variables = [
        ("WAVEGATE_AGENT_COORDINATOR", "b:2"),
        ("WAVEGATE_AGENT_ROLES", "control,etcd-proxy"),
        ("WAVEGATE_AGENT_STATE_DIRECTORY", "/srv/w"),
        ("WAVEGATE_AGENT_RECONNECT_MAX_S", "7"),
        ("WAVEGATE_AGENT_ETCD__CA", "/ca.pem"),
        ("WAVEGATE_AGENT_ETCD__ENDPOINTS", "http://a:1,http://b:2"),
        ("OTHER", "x"),
    ];
    let config = read(file, &variables).expect("a configuration");
    assert_eq!(config.coordinator.expect("an address").as_str(), "b:2");
    assert_eq!(config.roles, BTreeSet::from([Role::EtcdProxy, Role::Control]));
    assert_eq!((config.state_directory, config.reconnect_max.as_secs()), ("/srv/w".into(), 7));
    assert_eq!(config.etcd.ca.as_deref(), Some(Path::new("/ca.pem")));
    assert_eq!(config.etcd.endpoints, ["http://a:1", "http://b:2"]);
}

#[test]
fn what_is_wrong_is_named() {
    let message = |text: &str| read(text, &[]).expect_err("refused");
    insta::assert_snapshot!(message("cordinator = \"a:1\""), @"the configuration in DIR/agent.toml cannot be used: unknown field `cordinator`, expected one of `coordinator`, `node`, `roles`, `etcd`, `state_directory`, `policy_file`, `join_token_file`, `log`, `reconnect_min_s`, `reconnect_max_s`");
    insta::assert_snapshot!(message("roles = [\"etcd\"]"), @r"
    roles in DIR/agent.toml: unknown role 'etcd'; known: etcd-member, etcd-proxy, etcd-gateway, etcd-client, compute, control
    ");
    insta::assert_snapshot!(message("reconnect_min_s = \"soon\""), @r#"the configuration in DIR/agent.toml cannot be used: invalid type: string "soon", expected an integer for key `reconnect_min_s`"#);
    insta::assert_snapshot!(message("coordinator = \"https://a\""), @r"
    coordinator in DIR/agent.toml: 'https://a' is not the address of a coordinator: write HOST:PORT, e.g. coordinator.example:7443
    ");
    insta::assert_snapshot!(message("node = \"Compute 1\""), @r"
    node in DIR/agent.toml: 'Compute 1' is not a node name: use 1 to 64 of a-z, 0-9, '-', '.', '_', and start with a letter or digit
    ");
    insta::assert_snapshot!(message("state_directory = \"state\""), @r"
    state_directory in DIR/agent.toml: 'state' is not an absolute path
    ");
    insta::assert_snapshot!(message("log = \"chatty=very\""), @r#"
    log in DIR/agent.toml: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5; write a level (error, warn, info, debug, trace) or TARGET=LEVEL, divided by commas
    "#);
    insta::assert_snapshot!(message("reconnect_min_s = 30"), @"reconnect_min_s in DIR/agent.toml: 30 must be at most reconnect_max_s, 20");
    insta::assert_snapshot!(message("etcd.ca = \"ca.pem\""), @"etcd.ca in DIR/agent.toml: 'ca.pem' is not an absolute path");
    insta::assert_snapshot!(message("etcd.key = \"/k.pem\""), @"etcd.certificate in DIR/agent.toml: it must be set where etcd.key is: neither is of use alone");
    insta::assert_snapshot!(message("etcd.user = \"root\""), @"etcd.password_file in DIR/agent.toml: it must be set where etcd.user is: neither is of use alone");
    insta::assert_snapshot!(message("etcd.endpoints = [\"10.0.0.1:2379\"]"), @"etcd.endpoints in DIR/agent.toml: '10.0.0.1:2379' is not where etcd is asked: write http://HOST:PORT or https://HOST:PORT");
    insta::assert_snapshot!(message("etcd.peers = 1"), @"the configuration in DIR/agent.toml cannot be used: unknown field `peers`, expected one of `ca`, `certificate`, `key`, `user`, `password_file`, `endpoints` for key `etcd`");
    insta::assert_snapshot!(message("node ="), @r"
    the configuration in DIR/agent.toml cannot be used: TOML parse error at line 1, column 7
      |
    1 | node =
      |       ^
    string values must be quoted, expected literal string
    ");
    insta::assert_snapshot!(read("", &[("WAVEGATE_AGENT_NOD", "x")]).expect_err("refused"), @"the configuration in the environment (WAVEGATE_AGENT_*) cannot be used: unknown field `nod`, expected one of `coordinator`, `node`, `roles`, `etcd`, `state_directory`, `policy_file`, `join_token_file`, `log`, `reconnect_min_s`, `reconnect_max_s`");
    let missing = Config::load(Some(Path::new("/nonexistent/agent.toml"))).expect_err("missing").to_string();
    insta::assert_snapshot!(missing, @r"
    there is no configuration file /nonexistent/agent.toml: write one, or name another with --config
    ");
}

#[test]
fn drop_ins_are_over_the_file_in_name_order_and_the_environment_is_over_all() {
    let files = [
        (
            "agent.toml",
            "coordinator = \"a:1\"\nlog = \"warn\"\nroles = [\"compute\"]\n[etcd]\nca = \"/ca.pem\"",
        ),
        ("agent.d/20-site.toml", "coordinator = \"c:3\"\nnode = \"n-20\""),
        (
            "agent.d/10-fleet.toml",
            "coordinator = \"b:2\"\nlog = \"debug\"\n[etcd]\nendpoints = [\"http://e:1\"]",
        ),
        ("agent.d/.30-open-in-an-editor.toml", "nonsense"),
        ("agent.d/30.toml.bak", "nonsense"),
        ("agent.d/30.toml~", "nonsense"),
    ];
    let config = read_files(&files, &[("WAVEGATE_AGENT_NODE", "n-env")]).expect("a configuration");
    assert_eq!(config.coordinator.as_ref().expect("an address").as_str(), "c:3");
    assert_eq!((config.log.as_str(), config.node.as_ref().expect("a name").as_str()), ("debug", "n-env"));
    assert_eq!(config.roles, BTreeSet::from([Role::Compute]));
    assert_eq!(config.etcd.ca.as_deref(), Some(Path::new("/ca.pem")), "a section is not replaced whole");
    assert_eq!(config.etcd.endpoints, ["http://e:1"]);
    assert_eq!(config.node_is_set_in, Place::Environment);
    let without_a_file = read_files(&files[1..2], &[]).expect("a configuration");
    assert_eq!(without_a_file.coordinator.expect("an address").as_str(), "c:3");
}

#[test]
fn the_file_that_is_wrong_is_named() {
    let good = ("agent.toml", "coordinator = \"a:1\"\nreconnect_max_s = 20\n[etcd]\nca = \"/ca.pem\"");
    let message = |text: &str, variables: &[(&str, &str)]| {
        read_files(&[good, ("agent.d/10.toml", "node = \"n\""), ("agent.d/20.toml", text)], variables)
            .expect_err("refused")
    };
    insta::assert_snapshot!(message("cordinator = \"b:1\"", &[]), @"the configuration in DIR/agent.d/20.toml cannot be used: unknown field `cordinator`, expected one of `coordinator`, `node`, `roles`, `etcd`, `state_directory`, `policy_file`, `join_token_file`, `log`, `reconnect_min_s`, `reconnect_max_s`");
    insta::assert_snapshot!(message("reconnect_max_s = \"x\"", &[]), @r#"the configuration in DIR/agent.d/20.toml cannot be used: invalid type: string "x", expected an integer for key `reconnect_max_s`"#);
    insta::assert_snapshot!(message("coordinator = \"b\"", &[]), @"coordinator in DIR/agent.d/20.toml: 'b' is not the address of a coordinator: write HOST:PORT, e.g. coordinator.example:7443");
    insta::assert_snapshot!(message("node =", &[]), @r"
    the configuration in DIR/agent.d/20.toml cannot be used: TOML parse error at line 1, column 7
      |
    1 | node =
      |       ^
    string values must be quoted, expected literal string
    ");
    insta::assert_snapshot!(message("etcd.key = \"/k.pem\"", &[]), @"etcd.certificate in DIR/agent.d/20.toml: it must be set where etcd.key is: neither is of use alone");
    insta::assert_snapshot!(message("reconnect_min_s = 30", &[]), @"reconnect_min_s in DIR/agent.d/20.toml: 30 must be at most reconnect_max_s, 20");
    insta::assert_snapshot!(message("", &[("WAVEGATE_AGENT_RECONNECT_MAX_S", "0")]), @"reconnect_max_s in the environment (WAVEGATE_AGENT_*): 0 must be at least reconnect_min_s, 1");
    insta::assert_snapshot!(message("", &[("WAVEGATE_AGENT_COORDINATOR", "b")]), @"coordinator in the environment (WAVEGATE_AGENT_*): 'b' is not the address of a coordinator: write HOST:PORT, e.g. coordinator.example:7443");
    insta::assert_snapshot!(message("", &[("WAVEGATE_AGENT_LOK", "b")]), @"the configuration in the environment (WAVEGATE_AGENT_*) cannot be used: unknown field `lok`, expected one of `coordinator`, `node`, `roles`, `etcd`, `state_directory`, `policy_file`, `join_token_file`, `log`, `reconnect_min_s`, `reconnect_max_s`");
    let config = read("", &[]).expect("a configuration");
    let unset = |or| config.coordinator(or).expect_err("not set").to_string();
    let directory = config.file.parent().expect("a directory").to_string_lossy().into_owned();
    insta::assert_snapshot!(unset("").replace(&directory, "DIR"), @r#"the coordinator's address is not known: write coordinator = "HOST:PORT" into DIR/agent.d/site.toml"#);
    insta::assert_snapshot!(unset("dial 1, or ").replace(&directory, "DIR"), @r#"the coordinator's address is not known: dial 1, or write coordinator = "HOST:PORT" into DIR/agent.d/site.toml"#);
}

#[test]
fn a_drop_in_that_can_not_be_read_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("agent.toml");
    std::fs::create_dir_all(directory.path().join("agent.d/10.toml")).expect("made");
    let refused = Config::load(Some(&path)).expect_err("no file");
    assert!(matches!(refused, ConfigError::NoFile { .. }));
    std::fs::write(&path, "").expect("written");
    let message = Config::load(Some(&path)).expect_err("a directory").to_string();
    assert!(message.contains("agent.d/10.toml"), "{message}");
}

#[test]
fn addresses_have_host_and_port() {
    for good in ["c:7443", "10.0.0.1:1", "[::1]:7443", "coordinator.example:65535"] {
        assert!(good.parse::<Address>().is_ok(), "{good}");
    }
    for bad in ["", "c", "c:", ":1", "c:0", "c:65536", "::1:7443", "http://c:1", "a b:1"] {
        assert!(bad.parse::<Address>().is_err(), "{bad}");
    }
}

#[test]
fn a_drop_in_that_is_a_link_to_nothing_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let drop_ins = directory.path().join("agent.d");
    std::fs::create_dir(&drop_ins).expect("made");
    std::os::unix::fs::symlink("/nonexistent/settings", drop_ins.join("10.toml")).expect("a link");
    let error = Config::read(&directory.path().join("agent.toml"), environment()).expect_err("it is there");
    let text = error.to_string();
    assert!(text.starts_with("cannot read ") && text.contains("agent.d/10.toml"), "{text}");
}

#[test]
fn what_is_wrong_can_be_said_in_one_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("agent.toml");
    let line = |text: &str| {
        std::fs::write(&path, text).expect("written");
        let line = Config::load(Some(&path)).expect_err("refused").in_one_line();
        line.replace(&*directory.path().to_string_lossy(), "DIR")
    };
    insta::assert_snapshot!(line("log = \"info\"\nnode ="), @"DIR/agent.toml: TOML parse error at line 2, column 7: string values must be quoted, expected literal string");
    insta::assert_snapshot!(line("reconnect_min_s = \"soon\""), @r#"DIR/agent.toml: invalid type: string "soon", expected an integer for key `reconnect_min_s`"#);
    insta::assert_snapshot!(line("state_directory = \"state\""), @"state_directory in DIR/agent.toml: 'state' is not an absolute path");
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a directory");
    let error = Config::load(Some(&path)).expect_err("a directory").in_one_line();
    assert!(error.ends_with("agent.toml of the configuration: Is a directory (os error 21)"), "{error}");
}

#[test]
fn what_holds_where_nothing_is_set_is_what_an_empty_file_says() {
    let (empty, defaults) =
        (read("", &[]).expect("a configuration"), Config::of_defaults().expect("defaults"));
    let (file, node_is_set_in) = (defaults.file.clone(), defaults.node_is_set_in.clone());
    assert_eq!(defaults, Config { file, node_is_set_in, ..empty });
}
