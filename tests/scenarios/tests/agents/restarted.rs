//! An agent whose daemon is restarted while it runs: systemd stops what is bound to the daemon, and would start it once more, with its input read
//! to the end.

use anyhow::{Result, ensure};
use scenarios::{Cluster, Moment};

use crate::{DEADLINE_S, LATE, recovered, victim};

pub(crate) fn restarted(c: &Cluster) -> Result<()> {
    let victim = victim(c, &[&["off:hang"]], DEADLINE_S)?;
    let index = c.overview()?.index;
    let then = Moment::now();
    c.cut(victim)?;
    let executor = c.wait_for("its agent runs", LATE, || {
        for i in (1..=3).filter(|i| *i != victim) {
            if c.run(i, "pgrep -f '[s]leep infinity'")?.ok() {
                return Ok(Some(i));
            }
        }
        Ok(None)
    })?;
    c.ok(executor, "systemctl restart convoked")?;
    recovered(c, victim, then, index, &["began off-hang", "failed off-hang", "began bmc-NODE", "proven"])?;
    ensure!(!c.lab.shared().join("fence_bad.unasked").exists(), "an agent was run with nothing on its input");
    Ok(())
}
