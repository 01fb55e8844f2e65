//! What the daemon costs while nothing happens.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use scenarios::{Cluster, Moment, Plan, UnitFile, fast, run, say};

const UNITS: usize = 10;
/// Long against every period of the daemon but the ten minutes between two looks at a fence device.
const SPAN: Duration = Duration::from_secs(30);
/// Goals of the first slice.
const PSS_KB: u64 = 30_000;
const CPU_PERCENT: f64 = 0.3;

#[test]
fn an_idle_cluster_costs_little() -> Result<()> {
    run("idle", Plan::three(), |scenario| {
        scenario.part("three nodes and ten units, idle", idle);
    })
}

fn idle(c: &Cluster) -> Result<()> {
    for k in 1..=UNITS {
        let unit = format!("witness@idle{k}.service");
        // A sleeping process: the witness itself would be what is measured.
        let file = UnitFile::new(&unit).service("ExecStart=").service("ExecStart=sleep infinity");
        c.install(&file.service("Type=exec").key("Replicas=1"))?;
        c.ok(1, &format!("convoke start --no-wait {unit}"))?;
    }
    c.ok(1, "convoke stop witness.service")?;
    c.until("all ten run", Duration::from_secs(40), |now| {
        (1..=UNITS).all(|k| now.state_of(&format!("witness@idle{k}.service")) == "active")
    })?;
    // What the start left to do is done by then.
    std::thread::sleep(Duration::from_secs(5));
    let before: Vec<u64> = (1..=3).map(|i| cpu_ns(c, i)).collect::<Result<_>>()?;
    let begin = Moment::now();
    std::thread::sleep(SPAN);
    let span = begin.elapsed();
    let leader = c.leader()?;
    for i in 1..=3 {
        let cpu = (cpu_ns(c, i)? - before[i - 1]) as f64 / span.as_nanos() as f64 * 100.0;
        let pid = c.node(i).pid_of("convoked")?;
        let rollup = c.ok(i, &format!("cat /proc/{pid}/smaps_rollup"))?;
        let pss =
            rollup.lines().find_map(|l| l.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse().ok());
        let pss: u64 = pss.context("no PSS")?;
        let role = if i == leader { "leader" } else { "follower" };
        say(&format!(
            "    n{i} ({role}): PSS {:.1} MB (goal 30), CPU {cpu:.2} % (goal {CPU_PERCENT})",
            pss as f64 / 1e3
        ));
        // Neither depends on what else the machine does but for its caches: twice the goal is a fault, not a busy machine.
        let slack = if fast() { 1 } else { 2 };
        ensure!(pss <= PSS_KB * slack, "n{i}: PSS {pss} kB");
        ensure!(cpu <= CPU_PERCENT * slack as f64, "n{i}: {cpu:.2} % of a core");
    }
    Ok(())
}

/// CPU time of the daemon so far, by its control group: threads come and go.
fn cpu_ns(c: &Cluster, i: usize) -> Result<u64> {
    let group = c.node(i).show("convoked.service", "ControlGroup")?;
    let text = c.ok(i, &format!("cat /sys/fs/cgroup{group}/cpu.stat"))?;
    let usec = text.lines().find_map(|l| l.strip_prefix("usage_usec ")?.parse::<u64>().ok());
    Ok(usec.context("no CPU time of the group")? * 1000)
}
