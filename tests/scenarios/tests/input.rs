//! Wrong input gets a clear error, and harms nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{Output, Suite};
use scenarios::{Cluster, Moment, Plan, Process, UnitFile, run, unwrapped};

const UNIT: &str = "witness.service";
const LATE: Duration = Duration::from_secs(40);
const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn wrong_input_gets_a_clear_error_and_harms_nothing() -> Result<()> {
    // The fourth machine is in no cluster, or in one of its own.
    let mut plan = Plan::of(4, Suite::Bookworm);
    plan.joined = 3;
    run("input", plan, |scenario| {
        scenario.part("a token that is none, changed, or cut", bad_token);
        scenario.part("a token that has expired", expired_token);
        scenario.part("an unknown key in a drop-in", unknown_key);
        scenario.part("a settings document with mistakes", bad_settings);
        scenario.part("a node of another cluster at a known address", other_cluster);
        scenario.part("a machine with the certificate of another cluster", wrong_certificate);
        scenario.part("a machine that is in a cluster already", already_in);
        scenario.part("a full disk under the store", full_disk);
        scenario.part("a truncated store", truncated_store);
    })
}

/// Fails unless a command failed, said these words, and did not panic.
fn says(out: &Output, words: &[&str]) -> Result<()> {
    let text = unwrapped(&format!("{}{}", out.stdout, out.stderr));
    ensure!(!out.ok(), "it was taken: {text}");
    ensure!(!text.contains("panicked"), "it panics: {text}");
    for word in words {
        ensure!(text.contains(word), "it does not say `{word}`: {text}");
    }
    Ok(())
}

fn in_no_cluster(c: &Cluster, i: usize) -> Result<()> {
    let out = c.run(i, "test -e /var/lib/convoke/identity")?;
    ensure!(!out.ok(), "n{i} has an identity now");
    Ok(())
}

/// A unit that must not notice any of it.
fn bystander(c: &Cluster) -> Result<Process> {
    c.run_unit(UNIT, 1)?;
    c.process(1, UNIT)
}

fn bad_token(c: &Cluster) -> Result<()> {
    let witness = bystander(c)?;
    let nodes = c.overview()?.nodes.len();
    let token = c.token(1)?;
    let middle = token.len() / 2;
    let changed: String = token
        .char_indices()
        .map(|(i, l)| if i == middle { if l == 'A' { 'B' } else { 'A' } } else { l })
        .collect();
    for bad in ["nonsense", changed.as_str(), &token[..token.len() - 4]] {
        says(&c.run(4, &format!("convoke join '{bad}'"))?, &["token"])?;
        in_no_cluster(c, 4)?;
    }
    ensure!(c.overview()?.nodes.len() == nodes, "a node was enrolled");
    c.still_runs(&witness)
}

fn expired_token(c: &Cluster) -> Result<()> {
    let text = c.ok(1, "convoke token --valid 1s")?;
    let token = text
        .lines()
        .map(str::trim)
        .find(|l| !l.is_empty() && !l.contains(' '))
        .unwrap_or_default()
        .to_owned();
    std::thread::sleep(S(3));
    let nodes = c.overview()?.nodes.len();
    says(
        &c.run(4, &format!("convoke join --address {} '{token}'", c.node(4).address()))?,
        &["token", "expired"],
    )?;
    in_no_cluster(c, 4)?;
    ensure!(c.overview()?.nodes.len() == nodes, "a node was enrolled");
    Ok(())
}

fn unknown_key(c: &Cluster) -> Result<()> {
    let witness = bystander(c)?;
    let unit = UnitFile::new("witness@typo.service").key("Replicas=1").key("Fensing=none");
    for node in c.nodes() {
        unit.write(&node)?;
    }
    c.everywhere("systemctl daemon-reload")?;
    let out = c.run(2, "convoke verify witness@typo.service")?;
    says(&out, &["U0020", "Fensing", "Fencing", &unit.drop_in(), "convoke.conf:5:"])?;
    // The gate holds all the same, and the cluster does not start it.
    c.until("status says it", LATE, |now| now.unit(unit.name()).is_some())?;
    c.run(1, &format!("convoke start --timeout 2s {}", unit.name()))?;
    let why = c.run(1, &format!("convoke why {}", unit.name()))?.stdout;
    ensure!(why.contains("Fensing"), "`why` does not name the key:\n{why}");
    let out = c.run(3, &format!("systemctl start {}", unit.name()))?;
    ensure!(!out.ok(), "a unit with an error in its section was started by hand");
    ensure!(c.beat(unit.name()).is_none(), "a unit with an error in its section has run");
    c.still_runs(&witness)
}

fn bad_settings(c: &Cluster) -> Result<()> {
    let before = c.ok(1, "convoke config show")?;
    let cases: &[(&str, &[&str])] = &[
        ("detect = \"1ms\"\n", &["cluster.toml:1:", "out of range"]),
        ("detekt = \"2s\"\n", &["cluster.toml:1:", "detekt", "detect"]),
        ("[fence.a]\nagent = \"/bin/sh\"\ntargets = { n1 = {} }\n", &["cluster.toml:2:", "fence_"]),
        ("[fence.a]\nagent = \"fence_x\"\ntargets = { n9 = {} }\n", &["cluster.toml:3:", "n9", "n1, n2, n3"]),
        (
            "[fence.a]\nagent = \"fence_x\"\ntargets = { n1 = {} }\noptions = { password = \"x\" }\n",
            &["secrets"],
        ),
        // The agents of the node are asked themselves: one real, one of the lab.
        (
            "[fence.a]\nagent = \"fence_ipmilan\"\ntargets = { n1 = { ip = \"a\" } }\noptions = { lanplsu = \"1\" }\n",
            &["cluster.toml:4:13", "no option `lanplsu`", "`lanplus` may be meant"],
        ),
        (
            "[fence.a]\nagent = \"fence_bad\"\ntargets = { n1 = { power_wait = \"soon\" } }\n",
            &["cluster.toml:3:33", "`power_wait` is a number of seconds", "wants `ip`"],
        ),
        (
            "[fence.a]\nagent = \"fence_kdump\"\ntargets = { n1 = {} }\n",
            &["cluster.toml:2:9", "has no `status`"],
        ),
        ("not toml", &["cluster.toml:1:"]),
    ];
    for (text, words) in cases {
        c.node(1).write("/root/cluster.toml", text)?;
        let out = c.run(1, "convoke config apply /root/cluster.toml")?;
        says(&out, words)?;
        ensure!(out.code == 2, "it exits {} for {text}", out.code);
    }
    ensure!(c.ok(1, "convoke config show")? == before, "the settings have changed");
    let known = c.ok(1, "convoke fence describe fence_ipmilan")?;
    ensure!(known.contains("usable   yes") && known.contains("cipher"), "{known}");
    // Neither a daemon nor a cluster is needed to choose a device.
    let listed = c.ok(4, "convoke fence agents")?;
    ensure!(listed.contains("fence_bad") && !listed.contains("fence_ack_manual"), "{listed}");
    Ok(())
}

/// The fourth machine makes a cluster of its own; each part begins with it in none.
fn own_cluster(c: &Cluster) -> Result<()> {
    leave_cluster(c)?;
    c.init(4, "other")
}

fn leave_cluster(c: &Cluster) -> Result<()> {
    c.ok(4, "systemctl stop convoked; rm -rf /var/lib/convoke/* /run/convoke/*").map(drop)
}

fn other_cluster(c: &Cluster) -> Result<()> {
    let witness = bystander(c)?;
    own_cluster(c)?;
    let index = c.overview()?.index;
    // A node of this cluster is told of an address where the other cluster answers.
    c.ok(3, "systemctl stop convoked")?;
    let book = c.node(3).read("/var/lib/convoke/peers.toml")?;
    let crossed = book.replace(&c.node(1).address(), &c.node(4).address());
    ensure!(book != crossed, "the book does not name n1:\n{book}");
    c.node(3).write("/var/lib/convoke/peers.toml", &crossed)?;
    c.ok(3, "systemctl start convoked")?;
    // The other voter still leads it back.
    c.until("n3 is online", LATE, |now| now.online("n3"))?;
    let other = c.overview_of(4)?;
    ensure!(other.nodes.len() == 1 && other.quorum, "the other cluster has {:?}", other.nodes);
    ensure!(c.overview()?.nodes.len() == 3, "a foreign node was taken in");
    let events = c.events_after(index)?;
    ensure!(!events.iter().any(|e| e.kind.starts_with("fence")), "{events:#?}");
    leave_cluster(c)?;
    c.still_runs(&witness)
}

fn wrong_certificate(c: &Cluster) -> Result<()> {
    let witness = bystander(c)?;
    own_cluster(c)?;
    c.ok(4, "systemctl stop convoked")?;
    // It knows our nodes as its own.
    let ours = c.node(1).read("/var/lib/convoke/peers.toml")?;
    c.node(4).write("/var/lib/convoke/peers.toml", ours)?;
    let begin = Moment::now();
    c.ok(4, "systemctl start convoked")?;
    std::thread::sleep(S(4));
    ensure!(c.overview()?.nodes.len() == 3, "a foreign node was taken in after {:?}", begin.elapsed());
    ensure!(c.overview()?.nodes.iter().all(|n| n.state == "online"), "a foreign node disturbs ours");
    leave_cluster(c)?;
    // Its identity, with the certificates of its own cluster, is refused by name where the two are mixed.
    own_cluster(c)?;
    c.ok(4, "systemctl stop convoked")?;
    let ca = c.node(1).read("/var/lib/convoke/identity/ca.crt")?;
    c.node(4).write("/var/lib/convoke/identity/ca.crt", ca)?;
    let out = c.run(4, "systemctl start convoked")?;
    ensure!(!out.ok(), "it starts with the certificate of another cluster");
    let log = c.node(4).journal("convoked")?;
    ensure!(log.contains("ca.crt") || log.contains("cluster"), "its log does not say why:\n{log}");
    leave_cluster(c)?;
    c.still_runs(&witness)
}

fn already_in(c: &Cluster) -> Result<()> {
    let witness = bystander(c)?;
    let token = c.token(1)?;
    says(&c.run(2, &format!("convoke join '{token}'"))?, &["already", "lab"])?;
    says(&c.run(2, "convoke init --name second")?, &["already", "lab"])?;
    own_cluster(c)?;
    says(&c.run(4, &format!("convoke join '{token}'"))?, &["already", "other"])?;
    leave_cluster(c)?;
    c.still_runs(&witness)
}

/// The store of a follower is on a small disk, which somebody fills.
fn full_disk(c: &Cluster) -> Result<()> {
    let witness = bystander(c)?;
    let victim = c.follower(&[1])?;
    let name = c.node(victim).name();
    c.ok(
        victim,
        "systemctl stop convoked && cp -a /var/lib/convoke /root/store && mount -t tmpfs -o size=16m,mode=700 tmpfs \
         /var/lib/convoke && cp -a /root/store/. /var/lib/convoke/ && systemctl start convoked",
    )?;
    c.until("it is online", LATE, |now| now.online(&name))?;
    c.ok(
        victim,
        "dd if=/dev/zero of=/var/lib/convoke/filler bs=64k 2>/dev/null; df /var/lib/convoke | tail -1",
    )?;
    // The others go on: what they write, the full one cannot.
    c.wait_for("its log names the disk", Duration::from_secs(60), || {
        for _ in 0..20 {
            c.ok(1, "convoke token")?;
        }
        let log = c.node(victim).journal("convoked")?;
        Ok(log.contains("No space left").then_some(()))
    })?;
    ensure!(c.overview()?.quorum, "two of three have no quorum");
    c.still_runs(&witness)?;
    // Room again: it comes back by itself, or by a restart, without being joined anew.
    c.ok(victim, "rm -f /var/lib/convoke/filler; systemctl restart convoked")?;
    c.until("it is online again", LATE, |now| now.online(&name))?;
    c.ok(
        victim,
        "systemctl stop convoked && cp -a /var/lib/convoke/. /root/store/ && umount /var/lib/convoke && \
         cp -a /root/store/. /var/lib/convoke/ && rm -rf /root/store && systemctl start convoked",
    )?;
    c.until("it is online on its own disk", LATE, |now| now.online(&name))?;
    c.still_runs(&witness)?;
    c.never_twice(UNIT)
}

fn truncated_store(c: &Cluster) -> Result<()> {
    let witness = bystander(c)?;
    let victim = c.follower(&[1])?;
    let name = c.node(victim).name();
    c.ok(victim, "systemctl stop convoked && cp /var/lib/convoke/raft.redb /root/good.redb")?;
    for (what, damage) in [
        ("half of it", "truncate -s 40% "),
        ("nothing of it", "truncate -s 0 "),
        ("no file at all", "rm -f "),
    ] {
        let damage = match damage.contains('%') {
            true => "truncate -s $(( $(stat -c %s /root/good.redb) * 2 / 5 )) /var/lib/convoke/raft.redb"
                .to_owned(),
            false => format!("{damage}/var/lib/convoke/raft.redb"),
        };
        c.ok(victim, &damage)?;
        c.ok(victim, "journalctl --rotate --vacuum-time=1s >/dev/null 2>&1; true")?;
        let out = c.run(victim, "timeout 8 systemctl start convoked")?;
        ensure!(!out.ok(), "with {what} left of its store the daemon starts");
        let log = c.node(victim).journal("convoked")?;
        ensure!(
            log.contains("raft.redb") || log.contains("store"),
            "{what}: the log does not name the store:\n{log}"
        );
        ensure!(!log.contains("panicked"), "{what}: it panics:\n{log}");
        c.ok(victim, "systemctl stop convoked")?;
    }
    c.until("the others go on", LATE, |now| now.node(&name).is_some_and(|n| n.state != "online"))?;
    c.still_runs(&witness)?;
    c.ok(victim, "cp /root/good.redb /var/lib/convoke/raft.redb && systemctl start convoked")?;
    c.until("it is online again", LATE, |now| now.online(&name))?;
    c.still_runs(&witness)
}
