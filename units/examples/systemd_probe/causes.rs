//! Who stopped a unit, or started it, in every way that is known.

use anyhow::{Result, ensure};
use units::systemd::starts::{self, StartBatch};

use crate::files::UNITS;
use crate::probe::{LONG, Probe, Score, run};

pub(crate) async fn causes(probe: &mut Probe, score: &mut Score) -> Result<()> {
    const PLAIN: &[&str] = &["plain.service"];
    for (unit, _) in UNITS {
        probe.systemd.watch(unit).await?;
    }
    let stories: [(&str, &[&str], &str, &str, &str); 18] = [
        (
            "stop of what exits with 143",
            &["java.service"],
            "java.service",
            "systemctl stop java.service",
            "OperatorStop",
        ),
        (
            "a start that changes nothing, then a crash",
            PLAIN,
            "plain.service",
            "for i in 1 2 3; do systemctl start plain.service; done; systemctl kill -s KILL plain.service",
            "Failed { result: \"signal\" }",
        ),
        (
            "a restart, then a crash",
            PLAIN,
            "plain.service",
            "systemctl restart plain.service; systemctl kill -s KILL plain.service",
            "Failed { result: \"signal\" }",
        ),
        ("systemctl stop", PLAIN, "plain.service", "systemctl stop plain.service", "OperatorStop"),
        ("systemctl kill", PLAIN, "plain.service", "systemctl kill plain.service", "CleanExit"),
        (
            "kill -9",
            PLAIN,
            "plain.service",
            "systemctl kill -s KILL plain.service",
            "Failed { result: \"signal\" }",
        ),
        ("exit 0", &["exits.service"], "exits.service", "true", "CleanExit"),
        (
            "stop of what it requires",
            &["base.service", "needs.service"],
            "needs.service",
            "systemctl stop base.service",
            "Propagated { by: \"base.service\" }",
        ),
        (
            "stop of what it is bound to",
            &["base.service", "bound.service"],
            "bound.service",
            "systemctl stop base.service",
            "Propagated { by: \"base.service\" }",
        ),
        (
            "crash of what it is bound to",
            &["base.service", "bound.service"],
            "bound.service",
            "systemctl kill -s KILL base.service",
            "BondEnded { by: \"base.service\" }",
        ),
        (
            "stop of its target",
            &["group.target", "part.service"],
            "part.service",
            "systemctl stop group.target",
            "Propagated { by: \"group.target\" }",
        ),
        (
            "stop of itself, of a target's part",
            &["group.target", "part.service"],
            "part.service",
            "systemctl stop part.service",
            "OperatorStop",
        ),
        (
            "a rival starts",
            PLAIN,
            "plain.service",
            "systemctl start rival.service",
            "Opposed { by: \"rival.service\" }",
        ),
        (
            "stop without waiting",
            PLAIN,
            "plain.service",
            "systemctl stop --no-block plain.service",
            "OperatorStop",
        ),
        (
            "nobody needs it",
            &["wanter.service"],
            "unneeded.service",
            "systemctl stop wanter.service",
            "Unneeded",
        ),
        (
            "stop of a target",
            &["short.target"],
            "short.target",
            "systemctl stop short.target",
            "OperatorStop",
        ),
        ("stop of a mount", &["mnt-x.mount"], "mnt-x.mount", "systemctl stop mnt-x.mount", "OperatorStop"),
        ("umount by hand", &["mnt-x.mount"], "mnt-x.mount", "umount /mnt/x", "CleanExit"),
    ];
    for (what, units, subject, deed, wanted) in stories {
        let got = probe.story(units, subject, deed).await;
        run("systemctl stop rival.service")?;
        score.expect(&format!("cause: {what}"), got, wanted);
    }
    score.expect(
        "cause: a loop of crashes",
        crashloop_cause(probe).await,
        "Failed { result: \"exit-code\" }",
    );
    score.note(
        "cause: 40 quick stops",
        many_causes(probe, "systemctl stop plain.service", "OperatorStop").await,
    );
    score.note(
        "cause: 40 quick crashes",
        many_causes(probe, "systemctl kill -s KILL plain.service", "Failed { result: \"signal\" }").await,
    );
    score.expect("cause: our own stop", own_cause(probe).await, "Own");
    score.expect("cause: restart", restart_cause(probe).await, "RestartHalf");
    score.expect("cause: isolate", isolate_cause(probe).await, "Isolate { target: \"other.target\" }");

    for (what, deed, wanted) in [
        ("systemctl start", "systemctl start --no-block slow.service", "Wish"),
        ("a timer", "systemctl start tick.timer", "Triggered { by: \"tick.timer\" }"),
        ("a target", "systemctl start --no-block pull.target", "PulledIn { by: \"pull.target\" }"),
    ] {
        score.expect(&format!("start: {what}"), start_cause(probe, deed).await, wanted);
        run("systemctl stop tick.timer slow.service pull.target")?;
        probe.settle(400).await;
    }
    Ok(())
}

async fn crashloop_cause(probe: &mut Probe) -> Result<String> {
    drop(probe.systemd.start("crashloop.service", LONG).await?);
    probe.settle(1500).await;
    let cause = probe.cause("crashloop.service").await?;
    probe.systemd.reset_failed("crashloop.service").await?;
    Ok(format!("{cause:?}"))
}

async fn many_causes(probe: &mut Probe, deed: &str, wanted: &str) -> Result<String> {
    for round in 0..40 {
        run("systemctl reset-failed plain.service; systemctl start plain.service")?;
        probe.settle(150).await;
        run(deed)?;
        probe.until_down("plain.service").await?;
        let cause = format!("{:?}", probe.cause("plain.service").await?);
        let kind = probe.log.jobs().rev().find(|job| job.unit == "plain.service").map(|job| job.kind);
        ensure!(cause == wanted, "round {round}: {cause}, last job {kind:?}");
    }
    Ok(wanted.to_owned())
}

async fn own_cause(probe: &mut Probe) -> Result<String> {
    probe.up("plain.service").await?;
    probe.systemd.stop("plain.service", LONG).await?;
    probe.settle(100).await;
    Ok(format!("{:?}", probe.cause("plain.service").await?))
}

/// Looks between the two halves, which are far apart when the start waits for something, as at the gate.
async fn restart_cause(probe: &mut Probe) -> Result<String> {
    probe.up("waits.service").await?;
    run("systemctl restart --no-block waits.service")?;
    probe.until_down("waits.service").await?;
    let cause = probe.cause("waits.service").await?;
    probe.settle(1500).await;
    probe.systemd.stop("waits.service", LONG).await?;
    probe.settle(400).await;
    Ok(format!("{cause:?}"))
}

async fn isolate_cause(probe: &mut Probe) -> Result<String> {
    probe.up("plain.service").await?;
    run("systemctl isolate other.target")?;
    probe.until_down("plain.service").await?;
    let cause = probe.cause("plain.service").await?;
    run("systemctl start --no-block default.target")?;
    probe.settle(1000).await;
    Ok(format!("{cause:?}"))
}

async fn start_cause(probe: &mut Probe, deed: &str) -> Result<String> {
    run(deed)?;
    probe.settle(500).await;
    let reading = probe.systemd.read("slow.service").await?;
    let batch = StartBatch::gather(&reading, &probe.log, probe.systemd.manager_state().await?);
    Ok(format!("{:?}", starts::classify(&batch)))
}
