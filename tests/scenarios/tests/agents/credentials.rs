//! Passwords that are encrypted credentials of systemd: one that is missing, another machine's or open is red before it is needed, and a good one
//! fences.

use anyhow::{Result, ensure};
use lab::BMC_PASSWORD;
use scenarios::{Cluster, Moment, Overview, unwrapped};

use crate::{LATE, SECRET, UNIT, recovered};

const NAME: &str = "convoke.bmc";
const ENCRYPTED: &str = "/etc/credstore.encrypted/convoke.bmc";
const CLEAR: &str = "/etc/credstore/convoke.bmc";
/// Makes the node's own credential, as the remedy says, of a password on standard input.
const ENCRYPT: &str = "mkdir -p -m 700 /etc/credstore.encrypted && systemd-creds encrypt --with-key=host --name=convoke.bmc - \
    /etc/credstore.encrypted/convoke.bmc";
/// Where a password on standard input is to be read: files, systemd's properties, and all that the cluster says.
const LOOK: &str = "cat >/root/words; cd /; grep -rlsaF -D skip -f /root/words etc run tmp var/lib/convoke var/log; \
    said() { name=$1; shift; \"$@\" 2>&1 | grep -qaF -f /root/words && echo \"$name\"; }; \
    said journal journalctl --no-pager -o export; said properties systemctl show '*'; \
    said status convoke status --json; said events convoke events -n 2000 --json; \
    said settings convoke config show; said history convoke fence history; \
    said decrypted systemd-creds decrypt /etc/credstore.encrypted/convoke.bmc -; rm /root/words";

pub(crate) fn credential(c: &Cluster) -> Result<()> {
    let told = apply(c)?;
    let by = c.node(told.by).name();
    for words in [
        format!("there is no credential {NAME} on {by}, in none of /etc/credstore.encrypted, "),
        format!("--name={NAME} - {ENCRYPTED}` there"),
    ] {
        ensure!(told.text.contains(&words), "`convoke config apply` does not say `{words}`: {}", told.text);
    }
    red(c, &format!("there is no credential {NAME} on n"))?;
    let daemons = daemons(c)?;

    // Each node gets what its neighbour encrypted.
    for node in c.nodes() {
        node.feed(ENCRYPT, BMC_PASSWORD.as_bytes())?;
    }
    let made: Vec<String> = c.nodes().iter().map(|node| node.read(ENCRYPTED)).collect::<Result<_>>()?;
    for (node, other) in c.nodes().iter().zip(made.iter().cycle().skip(1)) {
        ensure!(!other.contains(BMC_PASSWORD), "it is not encrypted: {other}");
        node.write(ENCRYPTED, other)?;
    }
    anew(c)?;
    red(c, &format!("the credential {ENCRYPTED} cannot be decrypted on n"))?;

    c.everywhere(&format!("rm {ENCRYPTED}; mkdir -p -m 700 /etc/credstore"))?;
    for node in c.nodes() {
        node.write(CLEAR, BMC_PASSWORD)?;
        node.run_ok(&format!("chmod 644 {CLEAR}"))?;
    }
    anew(c)?;
    red(c, &format!("; run `chmod 600 {CLEAR}` there"))?;

    c.everywhere(&format!("rm {CLEAR}"))?;
    for node in c.nodes() {
        node.feed(ENCRYPT, BMC_PASSWORD.as_bytes())?;
    }
    anew(c)?;
    c.until("every node is green", LATE, |now| {
        now.alarms.is_empty() && now.nodes.iter().all(|node| node.fencing == "ready")
    })?;
    ensure!(self::daemons(c)? == daemons, "a daemon was restarted");

    let victim = c.follower(&[])?;
    c.run_unit(UNIT, victim)?;
    let (index, then) = (c.overview()?.index, Moment::now());
    c.cut(victim)?;
    recovered(c, victim, then, index, &["began bmc-NODE", "proven"])?;
    for i in (1..=3).filter(|i| *i != victim) {
        nowhere_else(c, i)?;
    }
    c.heal(victim)?;
    c.node(victim).boot()?;
    c.configure(&c.settings())
}

/// Who was told what.
struct Told {
    by: usize,
    text: String,
}

/// Puts settings in force whose passwords are credentials.
fn apply(c: &Cluster) -> Result<Told> {
    let by = c.anybody()?;
    let file = format!("\"{SECRET}\"");
    let document = c.settings();
    ensure!(document.contains(&file), "the settings name no {SECRET}: {document}");
    c.node(by).write("/root/cluster.toml", document.replace(&file, &format!("\"credential:{NAME}\"")))?;
    let out = c.run(by, "convoke config apply /root/cluster.toml")?;
    ensure!(out.ok(), "{out:?}");
    Ok(Told { by, text: unwrapped(&format!("{} {}", out.stdout, out.stderr)) })
}

/// No node can be fenced, and everybody can see why.
fn red(c: &Cluster, words: &str) -> Result<()> {
    let is = |now: &Overview| {
        now.nodes.iter().all(|node| {
            let device = format!("bmc-{0} does not see {0} as running: ", node.name);
            node.fencing == "unready"
                && node.fencing_error.as_ref().is_some_and(|error| error.contains(words))
                && now.alarms.iter().any(|one| {
                    one.severity == "alert" && one.text.contains(&device) && one.text.contains(words)
                })
        })
    };
    c.until(&format!("every node is red for `{words}`"), LATE, is)?;
    for question in ["convoke status", "convoke fence why n1"] {
        let shown = unwrapped(&c.ok(c.anybody()?, question)?);
        ensure!(shown.contains(words), "`{question}` does not say `{words}`: {shown}");
    }
    Ok(())
}

/// Somebody says that it is mended.
fn anew(c: &Cluster) -> Result<()> {
    let asked = c.anybody()?;
    for node in c.nodes() {
        c.ok(asked, &format!("convoke reset-failed {}", node.name()))?;
    }
    Ok(())
}

fn daemons(c: &Cluster) -> Result<Vec<u32>> {
    c.nodes().iter().map(|node| node.pid_of("convoked.service")).collect()
}

/// The password is where other scenarios have put it, and in nothing that this one did.
fn nowhere_else(c: &Cluster, i: usize) -> Result<()> {
    let found = c.node(i).feed(LOOK, format!("{BMC_PASSWORD}\n").as_bytes())?;
    let mut places: Vec<&str> = found.stdout.lines().collect();
    places.sort_unstable();
    let expected = ["decrypted", SECRET.trim_start_matches('/')];
    ensure!(places == expected, "n{i}: the password is to be read in {places:?}{}", found.stderr);
    Ok(())
}
