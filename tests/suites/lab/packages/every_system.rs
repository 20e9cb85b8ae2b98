//! Every system of the lab takes the packages, and gives back all that they brought.

use anyhow::{Context, Result, anyhow, ensure};
use wavegate_tests::deploy::packages::{purge, remove};
use wavegate_tests::deploy::{Package, Packages, Wavegate};
use wavegate_tests::lab::{Family, FleetSpec, Node, Role, System};

use super::{
    AGENT, agent_comes_online_by_itself, boot, coordinator_is_installed_and_set_up, inventory, is_there,
    left_since,
};

/// Empty directories that every Red Hat has in its package `filesystem`, and the Debian under the lab's rpm hosts has not.
const OF_RED_HAT: [&str; 3] = ["/usr/share/licenses", "/usr/share/man/man5", "/usr/share/man/man8"];
/// rpm has no purge: what docs/install.md says to do in its place.
const IN_PLACE_OF_A_PURGE: &str = "rm -rf /var/lib/wavegate/agent /etc/wavegate/agent.* /etc/wavegate/join-token* /etc/wavegate/policy.toml; \
                                   rmdir /var/lib/wavegate /etc/wavegate";
const SYSTEMS: [System; 4] = [System::Debian, System::Trusty, System::Rocky9, System::Centos7];

#[test]
fn every_system_takes_the_agent_and_gives_back_what_it_brought() -> Result<()> {
    let spec = SYSTEMS.iter().fold(FleetSpec::new("systems"), |spec, system| spec.with(Role::Bare, *system));
    let Some(fleet) = boot(spec)? else { return Ok(()) };
    let (wavegate, packages) = (Wavegate::on(&fleet), Packages::made()?);
    coordinator_is_installed_and_set_up(&packages, &wavegate)?;
    std::thread::scope(|scope| {
        let hosts: Vec<_> = wavegate
            .managed()
            .map(|node| (node.name(), scope.spawn(|| it_comes_and_goes(&packages, &wavegate, node))))
            .collect();
        for (name, host) in hosts {
            let done = host.join().map_err(|_| anyhow!("{name}: the test panicked"))?;
            done.with_context(|| name.to_owned())?;
        }
        anyhow::Ok(())
    })?;
    fleet.tear_down()
}

fn it_comes_and_goes(packages: &Packages, wavegate: &Wavegate<'_>, node: &Node) -> Result<()> {
    let before = inventory(node)?;
    agent_comes_online_by_itself(packages, wavegate, node)?;
    let owned = node.run(&["stat", "-c", "%U %a", "/var/lib/wavegate", "/var/lib/wavegate/agent"])?;
    ensure!(owned.lines().eq(["root 711", "root 700"]), "{owned}");
    ensure!(
        is_there(node, "/etc/init/wavegate-agent.conf")? == node.system().has_upstart(),
        "the job of upstart"
    );

    // A configuration that cannot be read keeps nobody from removing the package.
    node.write_file("/etc/wavegate/agent.d/typo.toml", b"cordinator = \"c:1\"\n", 0o644)?;
    remove(Package::Agent, node)?;
    ensure!(node.unit(AGENT)?.load == "not-found", "the service is still there: {:?}", node.unit(AGENT)?);
    ensure!(is_there(node, "/var/lib/wavegate/agent/journal")?, "its journal is gone");
    match node.family() {
        Family::Apt => purge(Package::Agent, node).map(|_| ())?,
        Family::Rpm => node.shell(IN_PLACE_OF_A_PURGE).map(|_| ())?,
    }
    let mut left = left_since(&before, node)?;
    left.retain(|path| !OF_RED_HAT.contains(&path.as_str()));
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}
