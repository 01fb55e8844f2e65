//! The whole service: formed, stopped, without power, and begun again by whoever has the latest.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use scenarios::{Cluster, Dice, Moment, Outage, UnitFile, say, table};

use super::{ADDRESS, ALL, PRIMARY, SERVER, address, all_follow, ledger, primary, sql, up, whole, written};

/// Their configuration, as `docs/recipes/postgresql.md` asks for it; the database is on n1.
fn configure(c: &Cluster) -> Result<()> {
    let nodes = c.nodes();
    let hosts: Vec<_> = nodes.iter().map(|node| node.address()).collect();
    let network = format!("{}.0/24", hosts[0].rsplit_once('.').context("an address")?.0);
    let secret = "/etc/postgresql/15/main/replication.pass";
    let settings = format!(
        "listen_addresses = '*'\nwal_log_hints = on\nwal_keep_size = '256MB'\n\
         synchronous_standby_names = 'ANY 1 (\"15/main\")'\nwal_sender_timeout = '5s'\nwal_receiver_timeout = '5s'\n\
         wal_retrieve_retry_interval = '500ms'\nprimary_conninfo = 'host={} user=replicator passfile={secret} \
         tcp_user_timeout=3000 target_session_attrs=primary'\n",
        hosts.join(",")
    );
    let access = format!(
        "host replication replicator {network} scram-sha-256\nhost postgres replicator {network} scram-sha-256\n\
         host postgres client {network} trust\n"
    );
    c.everywhere("pg_createcluster 15 main")?;
    c.ok(1, "pg_ctlcluster --skip-systemctl-redirect 15-main start")?;
    for statement in [
        "CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'secret'",
        "GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), \
         pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO replicator",
        "CREATE ROLE client LOGIN",
        "CREATE TABLE writes (name text NOT NULL)",
        "GRANT INSERT ON writes TO client",
    ] {
        c.ok(1, &format!("cd /; runuser -u postgres -- psql -qc \"{statement}\""))?;
    }
    c.ok(1, "pg_ctlcluster --skip-systemctl-redirect 15-main stop")?;
    for node in &nodes {
        node.write("/etc/postgresql/15/main/conf.d/replication.conf", &settings)?;
        node.write("/root/access", &access)?;
        node.write(
            "/etc/postgresql-client",
            format!("host={} user=client dbname=postgres connect_timeout=2", address(c)),
        )?;
        node.run_ok("cat /root/access >>/etc/postgresql/15/main/pg_hba.conf")?;
        node.run_ok(&format!(
            "echo '*:*:*:replicator:secret' | install -o postgres -m 600 /dev/stdin {secret}"
        ))?;
        if node.index() != 1 {
            node.run_ok("mv /var/lib/postgresql/15/main /var/lib/postgresql/15/main.old")?;
        }
    }
    Ok(())
}

pub(crate) fn formed(c: &Cluster) -> Result<()> {
    configure(c)?;
    SERVER.enable(c)?;
    PRIMARY.enable(c)?;
    let address = address(c);
    c.install(
        &UnitFile::new(ADDRESS)
            .fragment(&format!(
                "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/sbin/ip address replace {address}/32 dev host0\n\
                 ExecStart=-/bin/sh -c 'arping -q -U -c 2 -I host0 {address} &'\n\
                 ExecStop=/usr/sbin/ip address delete {address}/32 dev host0\n"
            ))
            .key(&format!("SameNodeAs={}", PRIMARY.unit))
            .key(&format!("BindsTo={}", PRIMARY.unit))
            .key(&format!("After={}", PRIMARY.unit)),
    )?;
    SERVER.start(c)?;
    PRIMARY.start(c)?;
    // Nobody is a primary of its own accord, not the one that has a database either.
    SERVER.runs_on(c, &ALL[..1])?;
    PRIMARY.why(c, "", "convoke assemble")?;
    ensure!(sql(c, 1, "SELECT pg_is_in_recovery()")?.trim() == "t", "a primary before the word");
    PRIMARY.assemble(c, "--from n1")?;
    c.ok(c.anybody()?, &format!("convoke start {ADDRESS}"))?;
    let primary = all_follow(c)?;
    ensure!(primary == 1, "n{primary} is the primary");
    written(c, 20)?;
    whole(c)
}

pub(crate) fn stopped(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    ledger().rest(c)?;
    c.ok(c.anybody()?, &format!("convoke stop {ADDRESS} {} {}", PRIMARY.unit, SERVER.unit))?;
    for i in 1..=3 {
        // `failed`, if it was stopped in the midst of its restart as a standby.
        let state = c.node(i).show(SERVER.unit, "ActiveState")?;
        ensure!(["inactive", "failed"].contains(&state.as_str()), "n{i} is not stopped but {state}");
    }
    let begin = Moment::now();
    c.ok(c.anybody()?, &format!("convoke start {} {} {ADDRESS}", SERVER.unit, PRIMARY.unit))?;
    say(&format!("    started again in {:.1?}", begin.elapsed()));
    written(c, 20)?;
    whole(c)
}

pub(crate) fn blackout(c: &Cluster) -> Result<()> {
    up(c)?;
    let mut dice = Dice::new();
    let mut outages = Vec::new();
    for round in 1..=10 {
        let what = format!("round {round}, seed {}", dice.seed());
        written(c, 20)?;
        std::thread::sleep(Duration::from_millis(dice.roll(4_000)));
        let follow = || all_follow(c).map(drop);
        let outage = Outage::with_role(c, &SERVER, &PRIMARY, follow).with_context(|| what.clone())?;
        let role = outage.role.context("no role")?;
        say(&format!(
            "    round {round}: a primary {:.1?} after the power, all follow after {:.1?}",
            role.held, role.whole
        ));
        outages.push(outage);
        whole(c).context(what)?;
    }
    say(&table(&outages));
    Ok(())
}

pub(crate) fn wiped(c: &Cluster) -> Result<()> {
    up(c)?;
    written(c, 20)?;
    let empty = primary(c)? % 3 + 1;
    c.lab.power_off_all()?;
    c.node(empty).boot()?;
    c.ok(empty, "mv /var/lib/postgresql/15/main /var/lib/postgresql/15/main.lost")?;
    c.lab.boot_all()?;
    // It may have acknowledged what no other one got; and there is no primary to copy from.
    PRIMARY.why(c, &format!("n{empty} may have the latest data"), &format!("--without n{empty}"))?;
    PRIMARY.assemble(c, &format!("--without n{empty}"))?;
    let to = all_follow(c)?;
    ensure!(to != empty, "n{to} is the primary, and was empty");
    written(c, 20)?;
    whole(c)
}
