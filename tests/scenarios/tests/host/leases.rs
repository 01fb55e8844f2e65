//! What must stop at the end of a lease does, whatever hangs or is gone: others count on it and start it elsewhere.

use anyhow::{Context as _, Result, ensure};
use lab::Fault;
use scenarios::{Cluster, Moment, UnitFile, say};

use crate::{LATE, S, UNIT, nothing_happened, own_disk, small_disk, whole};

/// A unit that others take over once the lease has ended, without a fence.
fn leased_unit(c: &Cluster) -> Result<&'static str> {
    let unit = "witness@leased.service";
    c.install(
        &UnitFile::new(unit)
            .key("Replicas=1")
            .key("Fencing=lease")
            .key("OnQuorumLoss=stop")
            .service("TimeoutStopSec=1"),
    )?;
    Ok(unit)
}

/// The daemon cannot even start, and the unit has to stop all the same: others count on its lease.
fn leased_unit_stops(c: &Cluster, home: usize, spoil: &str, mend: &str) -> Result<()> {
    let unit = leased_unit(c)?;
    let asked = c.follower(&[home])?;
    let name = c.node(home).name();
    c.run_unit(unit, home)?;
    c.bmc_faults(home, &[Fault::FailOff])?;
    c.mute(home);
    c.ok(home, spoil)?;
    let then = Moment::now();
    c.kill_daemon(home)?;
    let beat = c.wait_for("it runs elsewhere", LATE, || {
        c.run(asked, "timeout 5 convoke token")?;
        Ok(c.beat(unit).filter(|b| b.since > then))
    })?;
    say(&format!("    it ran on {} after {:.1?}", beat.node, beat.since.since(then)));
    ensure!(beat.node != name, "it runs on {name}");
    std::thread::sleep(S(2));
    c.never_twice(unit)?;
    c.ok(home, mend)?;
    whole(c)?;
    c.ok(asked, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)
}

pub(crate) fn full_disk(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    small_disk(c, home)?;
    let filler = "/var/lib/convoke/filler";
    let fill = format!("dd if=/dev/zero of={filler} bs=64k 2>/dev/null; true");
    leased_unit_stops(c, home, &fill, &format!("rm -f {filler}"))?;
    own_disk(c, home)
}

pub(crate) fn lost_identity(c: &Cluster) -> Result<()> {
    let identity = "/var/lib/convoke/identity/identity.toml";
    let back = format!("mv /root/identity.toml {identity} && systemctl start --no-block convoked");
    leased_unit_stops(c, c.follower(&[])?, &format!("mv {identity} /root/"), &back)
}

/// Its next daemon does not even come so far as to fail.
pub(crate) fn hanging_disk(c: &Cluster) -> Result<()> {
    let home = c.follower(&[])?;
    for hanging in ["/var/lib/convoke/raft.redb", "/etc/convoke/convoke.toml"] {
        let then = c.node(home).journal("convoked")?.len();
        c.ok(home, &format!("touch {hanging}"))?;
        c.hang(home, hanging)?;
        let mend = format!("systemctl stop hang; umount -l {hanging}");
        leased_unit_stops(c, home, "true", &mend)?;
        let log = c.node(home).journal("convoked")?;
        let told = log.get(then..).is_some_and(|log| log.contains("the start lasts past the lease"));
        ensure!(told, "its log does not say why it did not start");
    }
    Ok(())
}

/// Fills the socket of journald, so that whoever sends to it waits. Fails if it can still be sent to.
const FLOOD: &str = "for i in $(seq 1 600); do printf 'PRIORITY=6\\nMESSAGE=flood\\n' | timeout 1 logger --journald || break; \
                     done; ! printf 'MESSAGE=full\\n' | timeout 1 logger --journald";

fn signal_journald(c: &Cluster, i: usize, signal: &str) -> Result<()> {
    c.ok(i, &format!("systemctl kill --kill-who=main --signal={signal} systemd-journald")).map(drop)
}

/// Neither whoever ends a lease may wait for it, nor a daemon that starts.
pub(crate) fn journald_hangs(c: &Cluster) -> Result<()> {
    let unit = leased_unit(c)?;
    let home = c.follower(&[])?;
    let away = c.follower(&[home])?;
    c.run_unit(unit, home)?;
    c.run_unit(UNIT, away)?;
    let starts = || Ok::<_, anyhow::Error>(c.node(home).journal("convoked")?.matches(": starting").count());
    let before = starts()?;
    signal_journald(c, home, "STOP")?;
    let outcome = while_journald_hangs(c, unit, home, away);
    // Whatever came of it: the evidence is in the journal.
    let thawed = signal_journald(c, home, "CONT");
    outcome?;
    thawed?;
    c.wait_for("what was logged meanwhile is there", LATE, || Ok((starts()? > before).then_some(())))?;
    c.ok(away, &format!("convoke stop {unit}"))?;
    c.never_twice(unit)?;
    c.never_twice(UNIT)
}

fn while_journald_hangs(c: &Cluster, unit: &str, home: usize, away: usize) -> Result<()> {
    c.ok(home, FLOOD)?;
    let name = c.node(home).name();
    let process = c.process(home, unit)?;
    // Much is to be logged.
    for there in [home, away] {
        c.run_unit(UNIT, there)?;
    }
    let index = c.overview()?.index;
    // Longer than a lease.
    std::thread::sleep(S(5));
    whole(c)?;
    c.still_runs(&process)?;
    nothing_happened(c, index)?;

    // Only the end of the lease can say that it is over.
    c.bmc_faults(home, &[Fault::FailOff])?;
    let then = Moment::now();
    c.cut(home)?;
    let beat = c.next_life(unit, then, LATE)?;
    ensure!(beat.node != name, "it runs on {name}");
    say(&format!(
        "    the node that was cut off had stopped it after {:.2?}, it ran on {} after {:.2?}",
        Moment(c.gap_after(unit, then)?.from_ns).since(then),
        beat.node,
        beat.since.since(then)
    ));
    std::thread::sleep(S(3));
    c.never_twice(unit)?;
    c.heal(home)?;
    whole(c)?;

    c.ok(home, "timeout 30 systemctl restart convoked").context("a daemon does not start")?;
    whole(c)?;
    c.ok(home, "convoke status")?;
    c.ok(home, FLOOD).context("journald has not hung all the time")?;
    c.never_twice(unit)
}
