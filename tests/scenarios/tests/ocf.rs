//! Resource agents as cluster units: an address of `ocf:heartbeat:IPaddr2` and what its stop leaves behind.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::Output;
use scenarios::{Cluster, Moment, Plan, UnitFile, run, say};

const UNIT: &str = "convoke-ocf@ip.service";
const ADDRESS: &str = "10.99.7.7";
const LATE: Duration = Duration::from_secs(60);
const CONF: &str = "/etc/convoke/ocf/ip.conf";
const AGENT: &str = "/usr/lib/ocf/resource.d/heartbeat/IPaddr2";

#[test]
fn resource_agents_are_units() -> Result<()> {
    run("ocf", Plan::three(), |scenario| {
        scenario.part("a file is held against its agent", files);
        scenario.part("an address moves, and is on one node", moves);
        scenario.part("an address that somebody takes away is recovered", monitored);
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

/// Which nodes have the address; asked of all that run.
fn places(c: &Cluster) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    for node in c.nodes() {
        let seen = node.run(&format!("ip -4 -o address show to {ADDRESS}"));
        if seen.is_ok_and(|seen| !seen.stdout.trim().is_empty()) {
            found.push(node.index());
        }
    }
    Ok(found)
}

fn is_on(c: &Cluster, i: usize) -> Result<()> {
    c.wait_for(&format!("n{i} alone has the address"), LATE, || {
        let places = places(c)?;
        ensure!(places.len() < 2, "it is on {places:?}");
        Ok((places == [i]).then_some(()))
    })
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
    // Every agent of the distribution describes itself.
    let all = "for a in $(convoke ocf list | grep ocf:heartbeat); do convoke ocf describe $a >/dev/null 2>&1 || echo $a; done";
    let odd = c.ok(1, all)?;
    say(&format!(
        "    agents that cannot be described: {}",
        odd.split_whitespace().collect::<Vec<_>>().join(" ")
    ));
    ensure!(odd.split_whitespace().count() < 10, "{odd}");
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
    ensure!(places(c)?.is_empty(), "{:?}", places(c)?);
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
    let places = places(c)?;
    ensure!(places.len() == 1 && places[0] != to, "it is on {places:?}");
    c.until("it is back", LATE, |now| now.nodes.iter().all(|node| node.state == "online"))?;
    c.ok(to, &format!("mv {AGENT}.whole {AGENT}"))?;
    c.ok(to, &format!("convoke reset-failed {UNIT}")).map(drop)
}

fn unguarded(c: &Cluster) -> Result<()> {
    c.ok(1, &format!("convoke stop {UNIT}"))?;
    c.install(&UnitFile::new(UNIT))?;
    let out = c.run(1, &format!("convoke start {UNIT} --timeout 5s"))?;
    ensure!(!out.ok(), "it was started");
    ensure!(places(c)?.is_empty(), "{:?}", places(c)?);
    let why = c.ok(1, &format!("journalctl -u {UNIT} -o cat -n 40; convoke why {UNIT} || true"))?;
    ensure!(
        why.contains("without `GoneExec=`")
            || c.ok(2, &format!("journalctl -u {UNIT} -o cat -n 40"))?.contains("without `GoneExec=`"),
        "{why}"
    );
    Ok(())
}
