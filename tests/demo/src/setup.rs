//! What an operator does once: a cluster of three, its fence devices, a database on the shared storage and its units.
//!
//! Every step is a command of the tutorial (`docs/tutorial.md`), and every file is one of `tests/demo/files`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{BMC_PASSWORD, Lab, Node, Options, Suite};

use crate::cluster::{ADDRESS, Cluster, DATABASE};
use crate::timeline::Timeline;

const CLUSTER: &str = include_str!("../files/cluster.toml");
const DIRECT: &str = include_str!("../files/postgresql-direct.conf");
const CONVOKE: &str = include_str!("../files/postgresql-convoke.conf");
const ADDRESS_UNIT: &str = include_str!("../files/pg-address.service");
const POSTGRESQL: &str = include_str!("../files/postgresql.conf");
const LEDGER: &str = include_str!("../files/ledger.sql");

/// Enough for a slow machine; each step takes a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three nodes with the package, still off.
pub(crate) fn nodes(t: &Timeline, name: &str, deb: &Path) -> Result<Cluster> {
    ensure!(deb.exists(), "there is no package {}; make it with `make deb`", deb.display());
    let options = Options::of(3, Suite::Bookworm).with_deb(deb);
    let lab = t.during("nodes", "making three nodes", || Lab::new(name, &options))?;
    Ok(Cluster { lab })
}

/// Powers them on.
pub(crate) fn boot(t: &Timeline, cluster: &Cluster) -> Result<()> {
    t.during("nodes", "they boot", || cluster.lab.boot_all())?;
    let (n1, names) = (cluster.lab.node(1), names(cluster));
    let systemd = n1.run_ok("systemctl --version | sed -n '1s/.*(\\(.*\\))/\\1/p'")?;
    let package = n1.run_ok("dpkg-query -W -f '${Package} ${Version}' convoke")?;
    t.say(
        "nodes",
        &format!("{names} are up: Debian 12, systemd {systemd}, {package}, on one network and one SAN"),
    );
    Ok(())
}

fn names(cluster: &Cluster) -> String {
    cluster.lab.nodes().iter().map(Node::name).collect::<Vec<_>>().join(", ")
}

/// `init`, `token`, `join`: one command on each node.
pub(crate) fn form(t: &Timeline, cluster: &Cluster) -> Result<()> {
    let first = cluster.lab.node(1);
    t.during("cluster", "n1 makes the cluster", || first.run_ok("convoke init --name demo"))?;
    t.say("cluster", "n1: convoke init --name demo");
    for node in cluster.lab.nodes().iter().skip(1) {
        let name = node.name();
        t.during("cluster", &format!("{name} joins"), || -> Result<()> {
            let token = first.run_ok("convoke token")?;
            let out = node.feed("convoke join -", token.as_bytes())?;
            ensure!(out.ok(), "{name}: `convoke join` exits {}\n{}{}", out.code, out.stdout, out.stderr);
            Ok(())
        })?;
        t.say("", &format!("{name}: convoke join TOKEN"));
    }
    let online = |state: &str| state == "online";
    cluster.wait("three nodes online", PATIENCE, |p| {
        p.nodes.len() == 3 && p.nodes.iter().all(|n| online(&n.state))
    })
}

/// Each node's IPMI controller, told to the cluster in one file.
pub(crate) fn fencing(t: &Timeline, cluster: &Cluster) -> Result<()> {
    for node in cluster.lab.nodes() {
        node.run_ok(
            "install -d -m 0700 /etc/convoke/secrets && install -m 0600 /dev/null /etc/convoke/secrets/bmc",
        )?;
        node.write("/etc/convoke/secrets/bmc", format!("{BMC_PASSWORD}\n"))?;
    }
    cluster.lab.node(1).write("/root/cluster.toml", CLUSTER)?;
    cluster.convoke("config apply /root/cluster.toml")?;
    t.during("fencing", "every power switch is asked whether its node is on", || {
        cluster.wait("all fence devices ready", PATIENCE, |p| p.nodes.iter().all(|n| n.fencing == "ready"))
    })?;
    t.say("fencing", "convoke config apply cluster.toml: fence_ipmilan, one IPMI switch per node");
    t.quote(&cluster.convoke("list-nodes")?);
    Ok(())
}

/// PostgreSQL as the distribution makes it, with its data on the storage that all nodes share.
pub(crate) fn database(t: &Timeline, cluster: &Cluster, address: &str) -> Result<()> {
    let first = cluster.lab.node(1);
    let network =
        address.rsplit_once('.').map(|(net, _)| format!("{net}.0/24")).context("no IPv4 address")?;
    t.during("postgres", "n1 creates the database", || -> Result<()> {
        first.run_ok(
            "pg_createcluster --datadir=/shared/postgresql/15/main --start-conf=manual 15 main -- --data-checksums",
        )?;
        first.write("/etc/postgresql/15/main/conf.d/cluster.conf", POSTGRESQL)?;
        first.run_ok(&format!(
            "echo 'host ledger ledger {network} scram-sha-256' >>/etc/postgresql/15/main/pg_hba.conf"
        ))?;
        first.run_ok("tar -C /etc/postgresql -cf /shared/postgresql/etc.tar 15")?;
        for node in cluster.lab.nodes().iter().skip(1) {
            node.run_ok("tar -C /etc/postgresql -xpf /shared/postgresql/etc.tar")?;
        }
        Ok(())
    })?;
    t.say("postgres", "n1: pg_createcluster in /shared/postgresql; its /etc/postgresql copied to n2 and n3");
    Ok(())
}

/// The files that make database and address cluster units, and the wish that they run.
pub(crate) fn units(t: &Timeline, cluster: &Cluster, address: &str) -> Result<()> {
    let dropins = format!("/etc/systemd/system/{DATABASE}.d");
    for node in cluster.lab.nodes() {
        node.write(&format!("{dropins}/20-direct.conf"), DIRECT)?;
        node.write(&format!("{dropins}/50-convoke.conf"), CONVOKE)?;
        node.write(&format!("/etc/systemd/system/{ADDRESS}"), ADDRESS_UNIT)?;
        node.write("/etc/default/pg-address", format!("ADDRESS={address}\nDEVICE=host0\n"))?;
        node.run_ok("systemctl daemon-reload")?;
    }
    let verify = cluster.lab.node(1).run("convoke verify")?;
    ensure!(verify.ok(), "`convoke verify` finds mistakes\n{}{}", verify.stdout, verify.stderr);
    t.say("units", &format!("{DATABASE} and {ADDRESS}: [X-Convoke] on all nodes"));
    t.during("units", "they start", || cluster.convoke(&format!("start {DATABASE} {ADDRESS}")))?;
    let node = cluster.wait_settled("", PATIENCE)?;
    t.say("", &format!("convoke start {DATABASE} {ADDRESS}: active on {}", node.name()));
    node.write("/root/ledger.sql", LEDGER)?;
    let sql = "runuser -u postgres -- psql --quiet --set=ON_ERROR_STOP=1 </root/ledger.sql";
    node.run_ok(sql)?;
    Ok(())
}
