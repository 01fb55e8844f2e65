//! Agents in units of their own: what they said, how they ended, and that nothing stays of them.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use units::systemd::{Outcome, TransientSpec};

use crate::probe::{LONG, Probe, Score, run};

fn agent(name: &str, script: &str) -> TransientSpec {
    TransientSpec {
        name: format!("probe-agent-{name}.service"),
        description: format!("Agent {name}"),
        program: "/bin/sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        stdin: b"action=off\npassword=tellnobody\n".to_vec(),
        deadline: Duration::from_secs(5),
        output_cap: 64,
        environment: [("COLOUR".to_owned(), "blue".to_owned()), ("PCMK_service".to_owned(), "x".to_owned())]
            .into(),
        binds_to: None,
    }
}

pub(crate) async fn transients(probe: &Probe, score: &mut Score) {
    let systemd = &probe.systemd;
    let cases: [(&str, &str, Outcome, Option<&str>); 7] = [
        ("input", "cat; echo err >&2", Outcome::Exited(0), Some("action=off\npassword=tellnobody\n|err\n")),
        (
            "env",
            "echo $COLOUR $PYTHONWARNINGS [$PCMK_service]; exit 3",
            Outcome::Exited(3),
            Some("blue ignore []\n|"),
        ),
        ("signal", "echo x; kill -11 $$", Outcome::Signaled(11), Some("x\n|")),
        ("much", "head -c 3000000 /dev/zero | tr '\\0' x; exit 1", Outcome::Exited(1), None),
        ("child", "setsid sleep 600 & exit 0", Outcome::Exited(0), Some("|")),
        ("hang", "echo begun; sleep 600 & trap '' TERM; sleep 600", Outcome::TimedOut, Some("begun\n|")),
        ("quick", "exit 0", Outcome::Exited(0), Some("|")),
    ];
    for (name, script, outcome, output) in cases {
        let mut spec = agent(name, script);
        if name == "hang" {
            spec.deadline = Duration::from_millis(700);
        }
        let unit = spec.name.clone();
        let end = systemd.run_transient(spec).await;
        let shown =
            format!("{}|{}", String::from_utf8_lossy(&end.stdout), String::from_utf8_lossy(&end.stderr));
        let after = systemd.read(&unit).await;
        let result = (|| {
            ensure!(end.outcome == outcome, "{:?} after {:?}, output {shown:?}", end.outcome, end.took);
            ensure!(output.is_none_or(|wanted| wanted == shown), "output {shown:?}");
            ensure!(end.stdout.len() <= 64, "{} bytes kept", end.stdout.len());
            ensure!(end.left.is_none(), "left: {:?}", end.left);
            let state = after?.load_state;
            ensure!(state == "not-found", "the unit stays: {state}");
            Ok(format!("{:?} in {:?}", end.outcome, end.took))
        })();
        score.note(&format!("agent {name}"), result);
    }
    let mut spec = agent("missing", "");
    spec.program = "/nonexistent/agent".to_owned();
    let end = systemd.run_transient(spec).await;
    let result = match end.outcome {
        Outcome::NotStarted(why) => Ok(why),
        other => Err(anyhow::anyhow!("{other:?}")),
    };
    score.note("agent missing", result);
    let both = tokio::join!(systemd.run_transient(agent("twin", "sleep 1")), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let shown = run("systemctl show probe-agent-twin.service; systemctl cat probe-agent-twin.service");
        let again = systemd.run_transient(agent("twin", "exit 0")).await;
        (shown, again)
    });
    let (first, (shown, again)) = both;
    let result = (|| {
        ensure!(first.outcome == Outcome::Exited(0), "{first:?}");
        ensure!(!shown?.contains("tellnobody"), "the secret is shown");
        ensure!(matches!(again.outcome, Outcome::NotStarted(_)), "{again:?}");
        Ok(format!("{:?}", again.outcome))
    })();
    score.note("agent twice under one name; no secret in its properties", result);
}

/// A stand-in for the daemon is killed, and systemd restarts it after 100 ms; or somebody restarts it. The agent must run
/// once and end.
pub(crate) async fn bound(probe: &Probe) -> Result<String> {
    let killed =
        bound_once(probe, 1, async || Ok(probe.systemd.kill("host.service", 9).await.map(drop)?)).await?;
    let restart = async || {
        run("systemctl restart host.service").map(drop)?;
        Ok(())
    };
    let restarted = bound_once(probe, 0, restart).await?;
    Ok(format!("killed: {killed}, restarted: {restarted}"))
}

async fn bound_once(probe: &Probe, restarts: u32, end: impl AsyncFnOnce() -> Result<()>) -> Result<String> {
    probe.systemd.start("host.service", LONG).await?;
    let _ = fs::remove_file("/tmp/agent-runs");
    let mut spec = agent("bound", "date +%s.%N >> /tmp/agent-runs; trap '' TERM; sleep 600");
    spec.binds_to = Some("host.service".to_owned());
    spec.deadline = Duration::from_secs(8);
    let systemd = probe.systemd.clone();
    let running = tokio::spawn(async move { systemd.run_transient(spec).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    end().await?;
    let end = running.await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let host = probe.systemd.read("host.service").await?;
    let again = probe.systemd.read("probe-agent-bound.service").await?;
    probe.systemd.stop("host.service", LONG).await?;
    let runs = fs::read_to_string("/tmp/agent-runs")?.lines().count();
    ensure!(
        host.active_state.is_up() && host.n_restarts == restarts,
        "{:?} {}",
        host.active_state,
        host.n_restarts
    );
    ensure!(runs == 1, "the agent ran {runs} times");
    ensure!(again.active_state.is_down(), "the agent's unit is {:?}", again.active_state);
    Ok(format!("{:?} in {:?}", end.outcome, end.took))
}

pub(crate) async fn leftover_agents(probe: &Probe) -> Result<String> {
    for name in ["one", "two"] {
        let spec = agent(name, "sleep 600");
        let systemd = probe.systemd.clone();
        let running = tokio::spawn(async move { systemd.run_transient(spec).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        running.abort();
    }
    let found = probe.systemd.stop_leftover_transients("probe-agent-").await?;
    ensure!(found.len() == 2, "{found:?}");
    let rest = probe.systemd.stop_leftover_transients("probe-agent-").await?;
    ensure!(run("pgrep -f '[s]leep 600'")?.is_empty(), "processes are left");
    Ok(format!("{found:?}, then {rest:?}"))
}
