//! Resource agents as cluster units: an address of `ocf:heartbeat:IPaddr2` and what its stop leaves behind; a mount of
//! `ocf:heartbeat:Filesystem`.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{Node, Output};
use scenarios::{Cluster, Moment, Plan, UnitFile, run, say};

const UNIT: &str = "convoke-ocf@ip.service";
const ADDRESS: &str = "10.99.7.7";
const LATE: Duration = Duration::from_secs(60);
const CONF: &str = "/etc/convoke/ocf/ip.conf";
const AGENT: &str = "/usr/lib/ocf/resource.d/heartbeat/IPaddr2";

const DISK: &str = "convoke-ocf@disk.service";
const MOUNT: &str = "/srv/disk";
/// A folder that all nodes share stands for a disk; who is at work below the mount is told by the nodes' own processes, as all
/// mounts of that folder are one file system.
const DISK_CONF: &str = "OCF_AGENT=ocf:heartbeat:Filesystem\nOCF_RESKEY_device=/shared/disk\nOCF_RESKEY_directory=/srv/disk\n\
     OCF_RESKEY_fstype=none\nOCF_RESKEY_options=bind\nOCF_RESKEY_force_unmount=safe\nOCF_MONITOR_INTERVAL=500ms\n";

#[test]
fn resource_agents_are_units() -> Result<()> {
    let mut plan = Plan::three();
    // `Filesystem` does nothing without `fuser` and `modprobe`.
    plan.packages = vec!["psmisc".to_owned(), "kmod".to_owned()];
    run("ocf", plan, |scenario| {
        scenario.part("a file is held against its agent", files);
        scenario.part("an address moves, and is on one node", moves);
        scenario.part("an address that somebody takes away is recovered", monitored);
        scenario.part("a mount moves, though somebody is at work in it, and is recovered", mounted);
        scenario.part("a stop that fails fences the node, and nothing starts beside it", stuck);
        scenario.part("without GoneExec= it is not started", unguarded);
    })
}

fn unit() -> UnitFile {
    UnitFile::new(UNIT)
        .key("GoneExec=/usr/bin/convoke ocf gone %i")
        .key("Fencing=required")
        .service("TimeoutStopSec=3")
}

fn conf() -> String {
    format!(
        "OCF_AGENT=ocf:heartbeat:IPaddr2\nOCF_RESKEY_ip={ADDRESS}\nOCF_RESKEY_cidr_netmask=24\nOCF_RESKEY_nic=host0\n\
         OCF_MONITOR_INTERVAL=500ms\n"
    )
}

fn put(c: &Cluster, text: &str) -> Result<()> {
    c.nodes().iter().try_for_each(|node| node.write(CONF, text))
}

/// Nodes on which a command line says something; asked of all that have power.
fn nodes_where(c: &Cluster, line: &str) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    for node in c.nodes().into_iter().filter(Node::is_on) {
        if !node.run_ok(line)?.is_empty() {
            found.push(node.index());
        }
    }
    Ok(found)
}

/// Which nodes have the address.
fn places(c: &Cluster) -> Result<Vec<usize>> {
    nodes_where(c, &format!("ip -4 -o address show to {ADDRESS}"))
}

fn is_on(c: &Cluster, i: usize) -> Result<()> {
    c.wait_for(&format!("n{i} alone has the address"), LATE, || {
        let places = places(c)?;
        ensure!(places.len() < 2, "it is on {places:?}");
        Ok((places == [i]).then_some(()))
    })
}

/// Which nodes have the mount.
fn mounts(c: &Cluster) -> Result<Vec<usize>> {
    nodes_where(c, &format!("awk '$2 == \"{MOUNT}\"' /proc/self/mounts"))
}

fn says(out: &Output, code: i32, words: &[&str]) -> Result<()> {
    let text = format!("{}{}", out.stdout, out.stderr);
    ensure!(out.code == code, "exit status {}: {text}", out.code);
    words.iter().try_for_each(|word| {
        ensure!(text.contains(word), "it does not say `{word}`: {text}");
        Ok(())
    })
}

fn files(c: &Cluster) -> Result<()> {
    says(&c.run(1, "convoke ocf list")?, 0, &["ocf:heartbeat:IPaddr2\n", "ocf:heartbeat:Filesystem\n"])?;
    says(&c.run(1, "convoke ocf describe ocf:heartbeat:IPaddr2")?, 0, &["OCF_RESKEY_ip (string, required)"])?;
    says(&c.run(1, "convoke ocf describe ocf:heartbeat:IPaddr9")?, 4, &["convoke ocf list"])?;
    says(&c.run(1, "convoke ocf check ip")?, 2, &["/etc/convoke/ocf/ip.conf cannot be read"])?;
    put(c, "OCF_AGENT=ocf:heartbeat:IPaddr2\nOCF_RESKEY_cidr_netmusk=24\n")?;
    let words = ["ip.conf:2: ", "`OCF_RESKEY_cidr_netmask` was probably meant", "needs `ip`"];
    says(&c.run(1, "convoke ocf check ip")?, 2, &words)?;
    put(c, &conf())?;
    says(&c.run(1, "convoke ocf check ip")?, 0, &["ocf:heartbeat:IPaddr2", "looked at every 0.5 s"])?;
    // Every agent of the distribution is listed, and describes itself.
    let agents = c.ok(1, "convoke ocf list | grep '^ocf:heartbeat:'")?;
    let programs = "find -L /usr/lib/ocf/resource.d/heartbeat -name '[!.]*' -type f -executable | wc -l";
    let programs: usize = c.ok(1, programs)?.trim().parse()?;
    ensure!(agents.lines().count() == programs, "of {programs} it lists {agents}");
    say(&format!("    {programs} agents"));
    let all = "for a in $(convoke ocf list | grep '^ocf:heartbeat:'); do convoke ocf describe $a >/dev/null 2>&1 || echo $a; done";
    let odd = c.ok(1, all)?;
    ensure!(odd.is_empty(), "these cannot be described: {odd}");
    Ok(())
}

fn moves(c: &Cluster) -> Result<()> {
    put(c, &conf())?;
    c.install(&unit())?;
    c.run_unit(UNIT, 1)?;
    is_on(c, 1)?;
    let begun = Moment::now();
    c.ok(2, &format!("convoke move {UNIT} n2"))?;
    say(&format!("    the move took {:.2?}", begun.elapsed()));
    is_on(c, 2)?;
    // A stop uses what the start used.
    put(c, &conf().replace(ADDRESS, "10.99.7.8"))?;
    c.ok(2, &format!("systemctl stop {UNIT}"))?;
    let found = places(c)?;
    ensure!(found.is_empty(), "it is on {found:?}");
    // A person's word, though the target that the start brought along came up a moment ago.
    c.until("it stays down by the word of a person", LATE, |now| {
        let by = now.unit(UNIT).and_then(|unit| unit.goal_by.clone());
        by.is_some_and(|by| by.contains("operator on n2 (systemctl stop)"))
    })?;
    put(c, &conf())
}

fn monitored(c: &Cluster) -> Result<()> {
    c.run_unit(UNIT, 1)?;
    is_on(c, 1)?;
    let begun = Moment::now();
    c.ok(1, &format!("ip address del {ADDRESS}/24 dev host0"))?;
    c.until("it runs elsewhere", LATE, |now| now.runs_on(UNIT, "n2") || now.runs_on(UNIT, "n3"))?;
    say(&format!("    it was found and was up elsewhere after {:.2?}", begun.elapsed()));
    let why = c.ok(1, &format!("journalctl -u {UNIT} -o cat -n 30"))?;
    ensure!(why.contains("ocf:heartbeat:IPaddr2: not running (7)"), "{why}");
    c.ok(1, &format!("convoke reset-failed {UNIT}")).map(drop)
}

fn mounted(c: &Cluster) -> Result<()> {
    c.ok(1, "mkdir -p /shared/disk")?;
    for node in c.nodes() {
        node.write("/etc/convoke/ocf/disk.conf", DISK_CONF)?;
    }
    c.install(
        &UnitFile::new(DISK)
            .key("GoneExec=/usr/bin/convoke ocf gone %i")
            .key("Fencing=required")
            .service("TimeoutStopSec=20"),
    )?;
    c.run_unit(DISK, 1)?;
    let found = mounts(c)?;
    ensure!(found == [1], "it is on {found:?}");
    c.ok(1, &format!("echo written >{MOUNT}/file"))?;
    let work = format!("systemd-run --quiet --unit=work sh -c 'cd {MOUNT} && exec sleep infinity'");
    c.ok(1, &work)?;
    c.wait_for("somebody is at work in it", LATE, || {
        let at = c.ok(1, &format!("readlink /proc/{}/cwd", c.node(1).pid_of("work.service")?))?;
        Ok((at == MOUNT).then_some(()))
    })?;

    let begun = Moment::now();
    c.ok(2, &format!("convoke move {DISK} n2"))?;
    say(&format!("    the move took {:.2?}", begun.elapsed()));
    let found = mounts(c)?;
    ensure!(found == [2], "it is on {found:?}");
    ensure!(c.node(1).show("work.service", "ActiveState")? != "active", "the work goes on on n1");
    ensure!(c.ok(2, &format!("cat {MOUNT}/file"))? == "written", "it is another folder");
    ensure!(c.ok(1, &format!("ls -A {MOUNT}"))?.is_empty(), "n1 sees the folder still");

    let begun = Moment::now();
    c.ok(2, &format!("umount {MOUNT}"))?;
    c.until("it runs elsewhere", LATE, |now| now.runs_on(DISK, "n1") || now.runs_on(DISK, "n3"))?;
    say(&format!("    it was found and was up elsewhere after {:.2?}", begun.elapsed()));
    let found = mounts(c)?;
    ensure!(found == [1] || found == [3], "it is on {found:?}");
    let why = c.ok(2, &format!("journalctl -u {DISK} -o cat -n 60"))?;
    ensure!(why.contains("ocf:heartbeat:Filesystem: not running (7)"), "{why}");
    c.ok(1, &format!("convoke reset-failed {DISK} && convoke stop {DISK}"))?;
    let found = mounts(c)?;
    ensure!(found.is_empty(), "after its stop it is on {found:?}");
    Ok(())
}

fn stuck(c: &Cluster) -> Result<()> {
    let to = if c.leader()? == 1 { 2 } else { 1 };
    c.run_unit(UNIT, to)?;
    is_on(c, to)?;
    let name = c.node(to).name();
    // The agent says that it stops, and does not; then it says that it cannot.
    c.ok(to, &format!("cp {AGENT} {AGENT}.whole && sed -i '2i [ \"$1\" = stop ] && exit 1' {AGENT}"))?;
    let asked = c.follower(&[to])?;
    let begun = Moment::now();
    c.run(asked, &format!("convoke move {UNIT} --no-wait"))?;
    c.wait_for("why says what is left", LATE, || {
        let why = c.why(UNIT)?;
        Ok(format!("{why:?}").contains("GoneExec= says that it is not gone").then_some(()))
    })?;
    c.until("it runs elsewhere", LATE, |now| {
        now.unit(UNIT).is_some_and(|unit| unit.state == "active") && !now.runs_on(UNIT, &name)
    })?;
    say(&format!(
        "    a node that could not let go was taken down, and it ran elsewhere after {:.2?}",
        begun.elapsed()
    ));
    // One that is on its way up cannot be asked for a moment.
    let found = c.wait_for("all nodes with power can be asked", LATE, || places(c).map(Some))?;
    ensure!(found.len() == 1 && found[0] != to, "it is on {found:?}");
    c.until("it is back", LATE, |now| now.nodes.iter().all(|node| node.state == "online"))?;
    c.ok(to, &format!("mv {AGENT}.whole {AGENT}"))?;
    c.ok(to, &format!("convoke reset-failed {UNIT}")).map(drop)
}

fn unguarded(c: &Cluster) -> Result<()> {
    c.ok(1, &format!("convoke stop {UNIT}"))?;
    c.install(&UnitFile::new(UNIT))?;
    let out = c.run(1, &format!("convoke start {UNIT} --timeout 5s"))?;
    ensure!(!out.ok(), "it was started");
    let found = places(c)?;
    ensure!(found.is_empty(), "it is on {found:?}");
    let why = c.ok(1, &format!("journalctl -u {UNIT} -o cat -n 40; convoke why {UNIT} || true"))?;
    ensure!(
        why.contains("without `GoneExec=`")
            || c.ok(2, &format!("journalctl -u {UNIT} -o cat -n 40"))?.contains("without `GoneExec=`"),
        "{why}"
    );
    Ok(())
}
