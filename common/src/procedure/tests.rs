//! Every way in which a procedure or a site's values can be wrong, with the exact message; and that the shipped
//! procedure is right.

use super::*;
use crate::platform::Stage;
use crate::waves::{Amount, Batches};
use proptest::prelude::*;

const GOOD: &str = r#"
[procedure]
name = "small"
version = "1"
title = "A small one"
platforms = ["debian", "redhat"]

[parameters.packages]
type = "packages"
default = ["etcd"]
help = "Packages."

[parameters.sha256]
type = "sha256"
help = "A digest."

[parameters.upgrade]
type = "flag"
default = true
help = "Whether."

[parameters.release]
type = "release"
default = "auto"
help = "Which."

[[stages]]
stage = "etcd"
roles = ["etcd-member"]
canary = 1
max_unavailable = 1
errors_allowed = 0
when = ["${upgrade}"]

[[stages.steps]]
id = "install"
title = "Install"
page = "1"
platforms = ["debian"]
action = "package.install"
with = { packages = "${packages}" }

[[stages.steps]]
id = "install"
title = "Install"
page = "1"
platforms = ["redhat"]
when = ["${release} >= liberty"]
action = "etcd.install_archive"
with = { url = "http://m/etcd.tgz", sha256 = "${sha256}", binaries = ["etcd"], directory = "/usr/bin", unit = "etcd" }

[[stages.steps]]
id = "restart"
title = "Restart"
page = "1"
action = "service.restart"
with = { unit = "etcd", newer_than_packages = ["${packages}"], newer_than_steps = ["install"] }

[[stages.steps]]
id = "check"
title = "Check"
page = "1"
action = "http.check"
with = { url = "http://127.0.0.1:2379/health", within_s = 60 }

[[stages]]
stage = "compute"
roles = ["compute"]
canary = 1
max_unavailable = 2
errors_allowed = 0

[[stages.steps]]
id = "check"
title = "Check"
page = "2"
action = "version.check"
with = { component = "felix", package = "calico-felix" }
"#;

fn good() -> Procedure {
    Procedure::parse("small.toml", GOOD).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What is said of the good procedure with one text (its only or first occurrence) replaced by another.
fn complaint(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from} is not in the text");
    match Procedure::parse("p.toml", &GOOD.replacen(from, to, 1)) {
        Ok(_) => "nothing".to_owned(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn the_shipped_procedures_are_right() {
    for name in shipped_names() {
        let (file, text) = shipped(name).expect("shipped");
        let procedure = Procedure::parse(file, text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(procedure.name, name);
        assert_eq!(file, format!("{name}.toml"));
    }
    assert_eq!(shipped("nothing"), None);
}

#[test]
fn what_is_read_is_what_is_written() {
    let procedure = good();
    assert_eq!((procedure.name.as_str(), procedure.version.as_str()), ("small", "1"));
    assert_eq!(
        procedure.stages.iter().map(|stage| stage.stage).collect::<Vec<_>>(),
        [Stage::Etcd, Stage::Compute]
    );
    let etcd = &procedure.stages[0];
    assert_eq!((etcd.waves.canary, etcd.waves.max_unavailable), (1, Amount::Count(1)));
    assert_eq!((&etcd.waves.batches, etcd.waves.soak_s), (&Batches::MaxUnavailable, 0));
    assert_eq!(etcd.steps.len(), 4);
    assert_eq!(etcd.steps[2].platforms, procedure.platforms, "no platforms are all of the procedure's");
    assert_eq!(etcd.steps[0].timeout_s, Argument::Number(1800), "the action's own limit");
    assert_eq!(procedure.digest.len(), 64);
    let restart = etcd.steps[2].build(&|name| procedure.value(name, &Values::default())).expect("an action");
    let json = serde_json::to_string(&restart.0).expect("json");
    assert_eq!(
        json,
        r#"{"action":"service.restart","unit":"etcd","newer_than_packages":["etcd"],"newer_than_steps":["install"],"enable":false}"#
    );
}

macro_rules! complaints {
    ($($name:ident: $from:expr => $to:expr, $message:expr;)+) => {
        $(#[test] fn $name() { assert_eq!(complaint($from, $to), $message); })+
    };
}

complaints! {
    syntax_error: "version = \"1\"" => "version = ",
        "p.toml:4:11: this is not TOML: string values must be quoted, expected literal string";
    two_syntax_errors: "version = \"1\"\ntitle = \"A small one\"" => "version = \ntitle \"A small one\"",
        "p.toml:4:11: this is not TOML: string values must be quoted, expected literal string\np.toml:5:7: this is not TOML: key with no value, expected `=`";
    unknown_top_level_field: "[parameters.packages]" => "[parameter.x]\n[parameters.packages]",
        "p.toml:8:2: unknown field 'parameter' in the procedure; did you mean 'parameters'?";
    missing_version: "version = \"1\"\n" => "",
        "p.toml:2:1: [procedure] has no 'version'; write one";
    version_of_another_type: "version = \"1\"" => "version = 1",
        "p.toml:4:11: 'version' is a number; it must be a string";
    empty_title: "title = \"A small one\"" => "title = \" \"",
        "p.toml:5:9: 'title' of [procedure] is empty; write one";
    unknown_field_of_the_procedure: "version = \"1\"" => "version = \"1\"\nplatform = []",
        "p.toml:5:1: unknown field 'platform' in [procedure]; did you mean 'platforms'?";
    unknown_platform: "platforms = [\"debian\", \"redhat\"]" => "platforms = [\"debian\", \"redhat\", \"suse\"]",
        "p.toml:6:34: unknown platform 'suse'; known: debian, redhat";
    no_platform: "platforms = [\"debian\", \"redhat\"]" => "platforms = []",
        "p.toml:6:13: a procedure for no platform does nothing; name at least one platform";
    platform_twice: "platforms = [\"debian\", \"redhat\"]" => "platforms = [\"debian\", \"redhat\", \"debian\"]",
        "p.toml:6:34: 'debian' is there twice; once is enough";

    parameter_that_is_no_table: "[parameters.packages]" => "[parameters]\nx = 1\n[parameters.packages]",
        "p.toml:9:1: parameter 'x' is not used by any step; use it or remove it\np.toml:9:5: parameter 'x' is a number; write a table, [parameters.x]";
    parameter_name: "[parameters.packages]" => "[parameters.X-y]\ntype = \"flag\"\nhelp = \"h\"\n[parameters.packages]",
        "p.toml:8:13: 'X-y' is not a parameter name; use a-z, 0-9 and '_', and start with a letter\np.toml:8:13: parameter 'X-y' is not used by any step; use it or remove it";
    unknown_parameter_type: "type = \"sha256\"" => "type = \"sha-256\"",
        "p.toml:14:8: unknown parameter type 'sha-256'; did you mean 'sha256'?";
    parameter_without_help: "help = \"A digest.\"\n" => "",
        "p.toml:13:1: parameter 'sha256' has no 'help'; write one";
    bad_default: "default = [\"etcd\"]" => "default = [\"--force\"]",
        "p.toml:10:11: the default of parameter 'packages': '--force' is not a package: write 'name' or 'name=version', of letters, digits and '+ - . _ : ~'";
    default_of_another_type: "default = [\"etcd\"]" => "default = \"etcd\"",
        "p.toml:10:11: the default of parameter 'packages': it is a string; it must be a list of packages, each 'name' or 'name=version'";
    default_that_is_a_float: "default = true" => "default = 1.5",
        "p.toml:19:11: the default of parameter 'upgrade': it is a number with a fraction; it must be true or false";
    unused_parameter: "when = [\"${upgrade}\"]\n" => "",
        "p.toml:17:13: parameter 'upgrade' is not used by any step; use it or remove it";
    unknown_parameter: "packages = \"${packages}\"" => "packages = \"${package}\"",
        "p.toml:41:21: unknown parameter 'package'; did you mean 'packages'?";
    second_release: "type = \"flag\"\ndefault = true" => "type = \"release\"\ndefault = \"auto\"",
        "p.toml:17:13: 'upgrade' is a second parameter of type release; keep one, a node has one release\np.toml:33:9: parameter 'upgrade' is of type release; this condition needs one of type flag";

    unknown_stage: "stage = \"etcd\"" => "stage = \"ectd\"",
        "p.toml:28:9: unknown stage 'ectd'; did you mean 'etcd'?";
    stage_twice: "stage = \"compute\"" => "stage = \"etcd\"",
        "p.toml:67:9: stage 'etcd' is there twice; write its steps in one stage";
    stages_out_of_order: "stage = \"etcd\"" => "stage = \"control\"",
        "p.toml:67:9: stage 'compute' stands after stage 'control'; the order is etcd, compute, control";
    unknown_field_of_a_stage: "max_unavailable = 1" => "max_unavailable = 1\nmax_unavailble = 1",
        "p.toml:32:1: unknown field 'max_unavailble' in stage 'etcd'; did you mean 'max_unavailable'?";
    missing_limit: "max_unavailable = 1\n" => "",
        "p.toml:27:1: stage 'etcd' has no 'max_unavailable'; write one";
    canary_zero: "canary = 1" => "canary = 0",
        "p.toml:30:10: canary 0 would let no node start; it must be 1 or more";
    max_unavailable_zero: "max_unavailable = 1" => "max_unavailable = 0",
        "p.toml:31:19: max_unavailable 0 would let no node start; it must be 1 or more";
    negative_limit: "errors_allowed = 0" => "errors_allowed = -1",
        "p.toml:32:18: 'errors_allowed' is a negative number; it must be a whole number, 0 or more, or a part of the stage, e.g. \"25%\"";
    no_part: "errors_allowed = 0" => "errors_allowed = \"125%\"",
        "p.toml:32:18: 'errors_allowed' is a string; it must be a whole number, 0 or more, or a part of the stage, e.g. \"25%\"";
    no_part_at_once: "max_unavailable = 1" => "max_unavailable = \"0%\"",
        "p.toml:31:19: max_unavailable 0 would let no node start; it must be 1 or more";
    no_batches: "canary = 1" => "canary = 1\nbatches = []",
        "p.toml:31:11: batches has no size in it; leave it out, or name at least one";
    empty_batch: "canary = 1" => "canary = 1\nbatches = [1, \"0%\"]",
        "p.toml:31:11: batches 0 would let no node start; it must be 1 or more";
    batches_of_what: "canary = 1" => "canary = 1\nbatches = \"growing\"",
        "p.toml:31:11: 'batches' is a string; it must be a list of sizes, e.g. [1, 5, \"25%\"], or \"doubling\"";
    one_bad_batch: "canary = 1" => "canary = 1\nbatches = [1, true]",
        "p.toml:31:15: 'batches' is true or false; it must be a whole number, 0 or more, or a part of the stage, e.g. \"25%\"";
    long_soak: "canary = 1" => "canary = 1\nsoak_s = 3000000",
        "p.toml:31:10: soak_s 3000000 is longer than 30 days; it must be 2592000 at most";
    unknown_start: "canary = 1" => "canary = 1\nstart = \"manuel\"",
        "p.toml:31:9: unknown mode 'manuel'; did you mean 'manual'?";
    no_group: "canary = 1" => "canary = 1\ngroup_by = \"\"",
        "p.toml:31:12: 'group_by' of stage 'etcd' is empty; write one";
    unknown_role: "roles = [\"etcd-member\"]" => "roles = [\"etcd-members\"]",
        "p.toml:29:10: unknown role 'etcd-members'; did you mean 'etcd-member'?";
    no_roles: "roles = [\"compute\"]\n" => "",
        "p.toml:66:1: stage 'compute' has no roles; name in 'roles' who takes part: etcd-member, etcd-proxy, etcd-gateway, etcd-client, compute, control";
    empty_stage: "[[stages]]\nstage = \"compute\"" => "[[stages]]\nstage = \"compute\"\nroles = [\"compute\"]\ncanary = 1\nmax_unavailable = 1\nerrors_allowed = 0\nsteps = []\n\n[[stages]]\nstage = \"control\"",
        "p.toml:66:1: stage 'compute' has no steps; write at least one [[stages.steps]]";
    platform_without_steps: "page = \"2\"" => "page = \"2\"\nplatforms = [\"debian\"]",
        "p.toml:66:1: stage 'compute' has no step for platform 'redhat'; write one, or take 'redhat' out of the procedure's platforms";

    missing_id: "id = \"restart\"\n" => "",
        "p.toml:52:1: this step has no 'id'; write one";
    bad_id: "id = \"restart\"" => "id = \"Restart etcd\"",
        "p.toml:53:6: 'Restart etcd' is not a step id: use 1 to 64 of a-z, 0-9, '-', '.', '_', and start with a letter or digit";
    duplicate_id: "id = \"check\"" => "id = \"install\"",
        "p.toml:60:6: step id 'install' is there twice on a platform of this stage; give one another id";
    missing_title: "title = \"Restart\"\n" => "",
        "p.toml:52:1: step 'restart' has no 'title'; write one";
    missing_page: "page = \"2\"\n" => "",
        "p.toml:73:1: step 'check' has no 'page'; write one";
    step_for_no_platform: "page = \"2\"" => "page = \"2\"\nplatforms = []",
        "p.toml:77:13: step 'check' is for no platform; name one, or leave 'platforms' out for all of the procedure's";
    step_for_unknown_platform: "platforms = [\"debian\"]" => "platforms = [\"debain\"]",
        "p.toml:39:14: unknown platform 'debain'; did you mean 'debian'?";
    step_for_a_platform_that_is_not_the_procedures: "platforms = [\"debian\", \"redhat\"]" => "platforms = [\"redhat\"]",
        "p.toml:39:13: platform 'debian' is not one of the procedure's; add it to [procedure] platforms";
    unknown_field_of_a_step: "action = \"http.check\"" => "action = \"http.check\"\ntimeout = 5",
        "p.toml:64:1: unknown field 'timeout' in step 'check'; did you mean 'timeout_s'?";
    missing_action: "action = \"http.check\"\n" => "",
        "p.toml:59:1: step 'check' has no 'action'; write one";
    unknown_action: "action = \"package.install\"" => "action = \"package.instal\"",
        "p.toml:40:10: unknown action 'package.instal'; did you mean 'package.install'?";
    shell_is_no_action: "action = \"package.install\"" => "action = \"shell\"",
        "p.toml:40:10: unknown action 'shell'; known: package.install, etcd.install_archive, etcd.install_packages, etcd.check_cluster, etcd.back_up, etcd.check_member, etcd.check_endpoint, pip.uninstall, python.install_archive, service.restart, service.disable, process.kill_stale, ini.set, service.check, process.check, version.check, http.check";
    bad_condition: "when = [\"${release} >= liberty\"]" => "when = [\"release >= liberty\"]",
        "p.toml:48:9: 'release >= liberty' is not a condition; write '${flag}', 'not ${flag}', '${release} >= liberty' or '${release} < liberty'";
    condition_with_an_unknown_release: "when = [\"${release} >= liberty\"]" => "when = [\"${release} < rokcy\"]",
        "p.toml:48:9: unknown OpenStack release 'rokcy'; did you mean 'rocky'?";
    condition_on_another_type: "when = [\"${release} >= liberty\"]" => "when = [\"${release}\"]",
        "p.toml:48:9: parameter 'release' is of type release; this condition needs one of type flag";
    conditions_are_a_list: "when = [\"${upgrade}\"]" => "when = \"${upgrade}\"",
        "p.toml:17:13: parameter 'upgrade' is not used by any step; use it or remove it\np.toml:33:8: 'when' is a string; it must be a list of strings";

    missing_arguments: "with = { component = \"felix\", package = \"calico-felix\" }\n" => "",
        "p.toml:73:1: version.check needs argument 'component', a component whose version can be asked for\np.toml:73:1: version.check needs argument 'package', a string";
    missing_argument: ", within_s = 60" => "",
        "p.toml:64:8: http.check needs argument 'within_s', a whole number, 0 or more";
    unknown_argument: "within_s = 60" => "within = 60",
        "p.toml:64:8: http.check needs argument 'within_s', a whole number, 0 or more\np.toml:64:48: unknown argument 'within' of http.check; did you mean 'within_s'?";
    argument_of_another_type: "within_s = 60" => "within_s = \"60\"",
        "p.toml:64:59: argument 'within_s' of http.check: it is a string; it must be a whole number, 0 or more";
    string_where_a_list_is_wanted: "packages = \"${packages}\"" => "packages = \"etcd\"",
        "p.toml:41:21: argument 'packages' of package.install: it is a string; it must be a list of packages, each 'name' or 'name=version'";
    number_in_a_list_of_words: "roles = [\"compute\"]" => "roles = [\"compute\", 1]",
        "p.toml:68:21: 'roles' has a number in it; it must be a list of strings";
    text_where_a_list_is_wanted: "packages = \"${packages}\"" => "packages = \"etcd ${packages}\"",
        "p.toml:41:21: argument 'packages' of package.install: parameter 'packages' of type packages cannot stand here; a list is no part of a text";
    list_of_numbers: "binaries = [\"etcd\"]" => "binaries = [1]",
        "p.toml:50:70: argument 'binaries' of etcd.install_archive: it is a list of other things than strings; it must be a list of strings";
    empty_list: "binaries = [\"etcd\"]" => "binaries = []",
        "p.toml:50:70: argument 'binaries' of etcd.install_archive: it is empty; it must be a list of strings, with at least one";
    bad_package: "with = { packages = \"${packages}\" }" => "with = { packages = [\"${packages}\", \"a b\"] }",
        "p.toml:41:21: argument 'packages' of package.install: 'a b' is not a package: write 'name' or 'name=version', of letters, digits and '+ - . _ : ~'";
    bad_path: "directory = \"/usr/bin\"" => "directory = \"usr/bin\"",
        "p.toml:50:92: argument 'directory' of etcd.install_archive: 'usr/bin' is not right; it must be an absolute path, a string beginning with /";
    parameter_of_another_type: "url = \"http://m/etcd.tgz\"" => "url = \"${sha256}\"",
        "p.toml:50:16: argument 'url' of etcd.install_archive: parameter 'sha256' of type sha256 cannot stand here; it must be a URL, a string beginning with http://, https:// or file:///";
    list_inside_a_text: "unit = \"etcd\", newer" => "unit = \"etcd-${packages}\", newer",
        "p.toml:57:17: argument 'unit' of service.restart: parameter 'packages' of type packages cannot stand here; a list is no part of a text";
    open_brace: "url = \"http://m/etcd.tgz\"" => "url = \"http://${sha256/\"",
        "p.toml:50:16: argument 'url' of etcd.install_archive: '${' in 'http://${sha256/' has no '}'; write '${name}', or '$${' for a plain '${'";
    unknown_component: "component = \"felix\"" => "component = \"Felix\"",
        "p.toml:78:22: argument 'component' of version.check: unknown component 'Felix'; did you mean 'felix'?";
    parameter_where_only_a_word_may_stand: "component = \"felix\"" => "component = \"${sha256}\"",
        "p.toml:78:22: argument 'component' of version.check: parameter 'sha256' of type sha256 cannot stand here; write the name itself";
    newer_than_a_later_step: "newer_than_steps = [\"install\"]" => "newer_than_steps = [\"check\"]",
        "p.toml:57:84: step 'check' does not stand before this one on platform 'debian'; known: install";
    newer_than_a_step_of_another_platform: "id = \"install\"" => "id = \"install-package\"",
        "p.toml:57:84: step 'install' does not stand before this one on platform 'debian'; known: install-package";
    timeout_shorter_than_the_check: "within_s = 60 }" => "within_s = 60 }\ntimeout_s = 60",
        "p.toml:59:1: timeout_s 60 ends the step before within_s 60 is over; make timeout_s greater";
    timeout_zero: "within_s = 60 }" => "within_s = 0 }\ntimeout_s = 0",
        "p.toml:59:1: timeout_s 0 leaves no time; it must be a number of seconds, 1 or more";
    settling_that_never_ends: "action = \"http.check\"\nwith = { url = \"http://127.0.0.1:2379/health\", within_s = 60 }" =>
        "action = \"etcd.check_member\"\nwith = { within_s = 60, settle_s = 60, max_lag = 1000 }",
        "p.toml:59:1: settle_s 60 does not fit in within_s 60; make within_s greater";
    timeout_of_another_type: "within_s = 60 }" => "within_s = 60 }\ntimeout_s = \"${upgrade}\"",
        "p.toml:65:13: 'timeout_s': parameter 'upgrade' of type flag cannot stand here; it must be a whole number, 0 or more";
}

/// What is said of the good procedure with two roles in stage etcd, and texts of it replaced in turn.
fn complaint_of_roles(changes: &[(&str, &str)]) -> String {
    let two = ("roles = [\"etcd-member\"]", "roles = [\"etcd-member\", \"etcd-proxy\"]");
    let text = [two].iter().chain(changes).fold(GOOD.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in the text");
        text.replacen(from, to, 1)
    });
    Procedure::parse("p.toml", &text).map_or_else(|errors| errors.to_string(), |_| "nothing".to_owned())
}

#[test]
fn steps_are_for_roles_of_their_stage_and_every_role_has_one() {
    assert_eq!(complaint_of_roles(&[]), "nothing", "a step without roles is for all");
    let (check, restart) = ("id = \"check\"\n", "id = \"restart\"\n");
    let proxies = "id = \"check\"\nroles = [\"etcd-proxy\"]\n";
    assert_eq!(complaint_of_roles(&[(check, proxies)]), "nothing");
    let wrong = |roles: &str| complaint_of_roles(&[(check, &format!("{check}roles = {roles}\n"))]);
    insta::assert_snapshot!(wrong("[]"), @"p.toml:61:9: step 'check' is for no role; name one, or leave 'roles' out for all of the stage's");
    insta::assert_snapshot!(wrong("[\"etcd-prxy\"]"), @"p.toml:61:10: unknown role 'etcd-prxy'; did you mean 'etcd-proxy'?");
    insta::assert_snapshot!(wrong("[\"compute\"]"), @"p.toml:61:9: role 'compute' takes no part in the stage; add it to the stage's roles");
    let first = "id = \"install\"\ntitle = \"Install\"\npage = \"1\"\nplatforms = [\"debian\"]\n";
    let members = format!("{first}roles = [\"etcd-member\"]\n");
    insta::assert_snapshot!(complaint_of_roles(&[(first, &members)]), @"p.toml:58:84: step 'install' is not for role 'etcd-proxy'; this one is for that role too: name the role there, or leave it out here");
    let restarted = format!("{restart}roles = [\"etcd-member\"]\n");
    insta::assert_snapshot!(complaint_of_roles(&[(first, &members), (restart, &restarted)]), @"nothing");
    let checked = format!("{check}roles = [\"etcd-member\"]\n");
    insta::assert_snapshot!(complaint_of_roles(&[(first, &members), (restart, &restarted), (check, &checked)]), @"p.toml:27:1: stage 'etcd' has no step for role 'etcd-proxy' on platform 'debian'; write one, or take 'etcd-proxy' out of the stage's roles");
}

#[test]
fn everything_is_said_at_once_in_the_order_of_the_text() {
    let text = GOOD
        .replace("type = \"sha256\"", "type = \"sha\"")
        .replace("canary = 1", "canary = 0")
        .replace("http.check", "http.chek")
        .replace("package = \"calico-felix\"", "pakage = \"calico-felix\"");
    insta::assert_snapshot!(Procedure::parse("p.toml", &text).expect_err("wrong"), @r"
    p.toml:14:8: unknown parameter type 'sha'; known: packages, patterns, strings, string, flag, number, sha256, url, path, release, scope
    p.toml:30:10: canary 0 would let no node start; it must be 1 or more
    p.toml:63:10: unknown action 'http.chek'; did you mean 'http.check'?
    p.toml:69:10: canary 0 would let no node start; it must be 1 or more
    p.toml:78:8: version.check needs argument 'package', a string
    p.toml:78:31: unknown argument 'pakage' of version.check; did you mean 'package'?
    ");
}

#[test]
fn an_empty_text_lacks_everything() {
    insta::assert_snapshot!(Procedure::parse("p.toml", "").expect_err("empty"), @r"
    p.toml:1:1: the procedure has no 'procedure'; write one
    p.toml:1:1: the procedure has no 'stages'; write one
    ");
    let (head, _) = GOOD.split_once("[parameters.packages]").expect("split");
    insta::assert_snapshot!(Procedure::parse("p.toml", head).expect_err("no stages"), @r"
    p.toml:1:1: the procedure has no 'stages'; write one
    ");
}

fn site(text: &str, set: &[&str]) -> Result<Values, Diagnostics> {
    let set: Vec<String> = set.iter().map(ToString::to_string).collect();
    good().values(Some(SiteFile { name: "site.toml", text }), &set)
}

#[test]
fn a_site_sets_values_and_the_command_line_wins() {
    let digest = "A".repeat(64);
    let text = format!("packages = ['etcd=2.3.8']\nupgrade = false\nsha256 = '{digest}'");
    let values = site(&text, &["packages=etcd=3.0.17,etcd-x", "release=kilo"]).expect("values");
    let procedure = good();
    assert_eq!(values.get("packages"), Some(&Value::List(vec!["etcd=3.0.17".into(), "etcd-x".into()])));
    assert_eq!(values.get("sha256"), Some(&Value::Text(digest)));
    assert_eq!(procedure.value("upgrade", &values), Some(Value::Flag(false)));
    assert_eq!(procedure.value("upgrade", &Values::default()), Some(Value::Flag(true)));
    assert_eq!(procedure.value("sha256", &Values::default()), None);
}

#[test]
fn wrong_values_of_a_site() {
    let text = "packages = 'etcd'\nsha-256 = ''\nupgrade = 1\nsha256 = 'abc'\nrelease = 'Mitaka'";
    let set = [
        "packages",
        "upgrad=on",
        "upgrade=maybe",
        "packages=[\"a\", \"b\"]",
        "sha256=",
        "packages=a",
        "packages=b",
    ];
    insta::assert_snapshot!(site(text, &set).expect_err("wrong"), @r#"
    site.toml:1:12: parameter 'packages': it is a string; it must be a list of packages, each 'name' or 'name=version'
    site.toml:2:1: procedure small has no parameter 'sha-256'; did you mean 'sha256'?
    site.toml:3:11: parameter 'upgrade': it is a number; it must be true or false
    site.toml:4:10: parameter 'sha256': 'abc' is not a SHA-256 digest: 64 hexadecimal digits, as `sha256sum FILE` prints them
    site.toml:5:11: parameter 'release': unknown OpenStack release 'Mitaka'; did you mean 'mitaka'?
    --set packages: there is no '='; write --set key=value
    --set upgrad=on: procedure small has no parameter 'upgrad'; did you mean 'upgrade'?
    --set upgrade=maybe: 'maybe' is not a flag; write true or false
    --set packages=["a", "b"]: a list is written with commas here, without brackets and quotes: a,b
    --set sha256=: '' is not a SHA-256 digest: 64 hexadecimal digits, as `sha256sum FILE` prints them
    --set packages=b: parameter 'packages' is set twice; set it once
    "#);
    insta::assert_snapshot!(site("packages = [", &[]).expect_err("wrong"), @r"
    site.toml:1:13: this is not TOML: unclosed array, expected `]`
    ");
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = Procedure::parse("p.toml", &text);
        let _ = site(&text, &[&text]);
    }

    #[test]
    fn no_text_of_its_words_panics(words in prop::collection::vec(prop::sample::select(vec![
        "[procedure]", "[[stages]]", "[[stages.steps]]", "[parameters.x]", "[stages.steps.with]", "with = {}",
        "stage = \"etcd\"", "id = \"a\"", "steps = [1]", "when = [\"${x}\"]", "roles = [[]]", "x = ", "\"${", "1e9", "\n",
        "action = \"http.check\"", "type = \"number\"", "default = -1", "with.url = \"${x}\"", "timeout_s = 1979-05-27",
    ]), 0..30)) {
        let _ = Procedure::parse("p.toml", &words.join("\n"));
    }

    #[test]
    fn no_mutation_of_the_shipped_procedure_panics(
        at in 0.0..1.0f64, cut in 0usize..60, insert in "[ -~\\n]{0,12}|[\\[\\]{}\"$=,#'\\n]{0,4}",
    ) {
        let (file, text) = shipped("calico-openstack").expect("shipped");
        let characters: Vec<char> = text.chars().collect();
        let start = (at * characters.len() as f64) as usize;
        let end = (start + cut).min(characters.len());
        let mutated = characters[..start].iter().chain(insert.chars().collect::<Vec<_>>().iter())
            .chain(&characters[end..]).collect::<String>();
        if let Err(errors) = Procedure::parse(file, &mutated) {
            prop_assert!(!errors.0.is_empty());
            prop_assert!(errors.0.iter().all(|error| error.place.starts_with("calico-openstack.toml:")));
        }
    }
}
