//! What happens to the database: moved, started on the wrong node, killed, and its node without power.
//!
//! Each event ends when the client commits again, and fails if anything else than the said happened.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Node;

use crate::client::Client;
use crate::cluster::{ADDRESS, Cluster, DATABASE, HistoryLine};
use crate::measure::{Parts, Span, downs, monotonic, ups};
use crate::timeline::Timeline;

const PATIENCE: Duration = Duration::from_secs(60);
/// Rows between two events, so that each gap stands alone.
const CALM: Duration = Duration::from_secs(2);

pub(crate) struct Stage<'a> {
    pub(crate) t: &'a Timeline,
    pub(crate) cluster: &'a Cluster,
    pub(crate) client: &'a mut Client,
}

impl Stage<'_> {
    /// Lets the client commit for a while, and then some more rows.
    pub(crate) fn calm(&mut self) -> Result<()> {
        std::thread::sleep(CALM);
        self.client.wait_commit(lab::now_ns(), PATIENCE)
    }

    /// Waits for commits on another node. The answer is that node, and the moment its address was up.
    fn elsewhere(&mut self, than: &Node) -> Result<(Node, u64)> {
        let node = self.cluster.wait_settled(&than.name(), PATIENCE)?;
        let up = ups(&node)?.iter().map(|u| u.1).max().context("no units")?;
        self.client.wait_commit(up, PATIENCE)?;
        Ok((node, up))
    }

    /// Says in one line what came of an event.
    fn tell(&mut self, from: &Node, to: &Node, parts: &Parts) {
        self.t.say("", &format!("{} -> {}  {}", from.name(), to.name(), parts.text()));
    }

    /// `convoke move`.
    pub(crate) fn planned_move(&mut self) -> Result<()> {
        let from = self.cluster.wait_settled("", PATIENCE)?;
        let to = self.cluster.node_but(&from.name())?;
        let words = format!("move {DATABASE} {}", to.name());
        self.t.say("move", &format!("convoke {words}"));
        let begin = lab::now_ns();
        self.cluster.convoke(&words)?;
        let (at, up) = self.elsewhere(&from)?;
        ensure!(at.name() == to.name(), "it went to {} instead of {}", at.name(), to.name());
        let down = downs(&from)?;
        let first = down.iter().map(|d| d.0).min().context("no units")?;
        ensure!(first > begin, "{} stopped before it was asked to move", from.name());
        let ups = ups(&at)?;
        one_after_the_other(&down, &ups)?;
        let gap = self.client.gap(begin, up)?;
        let parts = Parts::of(gap, (first, up), &[], &[], &[down, ups].concat())?;
        self.tell(&from, &at, &parts);
        Ok(())
    }

    /// `systemctl start` where it must not run: refused, with the reason, and nothing else happens.
    pub(crate) fn wrong_node(&mut self) -> Result<()> {
        let holder = self.cluster.wait_settled("", PATIENCE)?;
        let wrong = self.cluster.node_but(&holder.name())?;
        let begin = lab::now_ns();
        self.t.say(
            "refusal",
            &format!("{}: systemctl start {DATABASE}  (it runs on {})", wrong.name(), holder.name()),
        );
        let out = wrong.run(&format!("systemctl start {DATABASE}"))?;
        ensure!(!out.ok(), "{} started a second copy", wrong.name());
        let state = wrong.show(DATABASE, "ActiveState")?;
        ensure!(state == "inactive", "{DATABASE} is {state} on {}", wrong.name());
        let status = wrong.run(&format!("systemctl status --lines=5 {DATABASE}"))?.stdout;
        let reason = status.lines().rfind(|l| l.contains("not started here"));
        let reason = reason.with_context(|| format!("`systemctl status` gives no reason\n{status}"))?;
        self.t.quote(out.stderr.lines().next().unwrap_or(""));
        // Without date and host.
        self.t.quote(reason.find("convoke[").and_then(|at| reason.get(at..)).unwrap_or(reason));
        self.client.wait_commit(lab::now_ns(), PATIENCE)?;
        let gap = self.client.gap(begin, lab::now_ns())?;
        let still = self.cluster.wait_settled("", PATIENCE)?;
        ensure!(still.name() == holder.name(), "it went from {} to {}", holder.name(), still.name());
        self.t.say(
            "",
            &format!(
                "still on {}; longest pause of the client {} ms",
                still.name(),
                (gap.1 - gap.0) / 1_000_000
            ),
        );
        Ok(())
    }

    /// The server dies of SIGKILL. Debian's unit has no `Restart=`, so systemd gives up at once and the cluster acts.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let from = self.cluster.wait_settled("", PATIENCE)?;
        let pid = from.pid_of(DATABASE)?;
        let restart = from.show(DATABASE, "Restart")?;
        self.t.say(
            "crash",
            &format!(
                "{}: kill -9 {pid}, the server; its unit has Restart={restart}, so the cluster moves it",
                from.name()
            ),
        );
        let begin = lab::now_ns();
        from.run_ok(&format!("kill -9 {pid}"))?;
        let (at, up) = self.elsewhere(&from)?;
        let gap = self.client.gap(begin, up)?;
        let (down, ups) = (downs(&from)?, ups(&at)?);
        one_after_the_other(&down, &ups)?;
        let parts = Parts::of(gap, (begin, up), &[], &[], &[down, ups].concat())?;
        self.tell(&from, &at, &parts);
        Ok(())
    }

    /// The plug of the node that runs it is pulled. It is fenced, the database starts elsewhere, the node comes back.
    pub(crate) fn power_loss(&mut self) -> Result<()> {
        let from = self.cluster.wait_settled("", PATIENCE)?;
        let name = from.name();
        let (before, leads) =
            (self.cluster.now()?, self.cluster.picture()?.leader.is_some_and(|l| l == name));
        let also = if leads { ", which leads the cluster too" } else { "" };
        self.t.say("power", &format!("the plug of {name} is pulled{also}"));
        let begin = lab::now_ns();
        from.power_off()?;
        let (at, up) =
            self.t.during("power", "detection, fencing, start elsewhere", || self.elsewhere(&from))?;
        let history = self.cluster.history(before)?;
        let (lost, fence) = fenced(&history, &name)?;
        let gap = self.client.gap(begin, up)?;
        let parts = Parts::of(gap, (begin, up), &[(begin, lost)], &[fence], &ups(&at)?)?;
        let proof = history.iter().find(|l| l.kind == "fence-proven").map_or("", |l| l.text.as_str());
        self.t.say("", proof);
        self.tell(&from, &at, &parts);
        self.comes_back(&from, &at)
    }

    fn comes_back(&mut self, lost: &Node, at: &Node) -> Result<()> {
        let name = lost.name();
        self.t.during("power", &format!("{name} boots"), || lost.boot())?;
        self.cluster.wait(&format!("{name} online"), PATIENCE, |p| {
            p.nodes.iter().any(|n| n.name == name && n.state == "online")
        })?;
        for unit in [DATABASE, ADDRESS] {
            let state = lost.show(unit, "ActiveState")?;
            ensure!(state == "inactive", "{unit} is {state} on {name}, which has just come back");
        }
        let still = self.cluster.wait_settled(&name, PATIENCE)?;
        ensure!(still.name() == at.name(), "it went on from {} to {}", at.name(), still.name());
        self.t.say(
            "",
            &format!("{name} has power again: back in the cluster, the database stays on {}", at.name()),
        );
        Ok(())
    }
}

/// No unit began to start before it had ended on the node it left.
fn one_after_the_other(downs: &[Span], ups: &[Span]) -> Result<()> {
    for (unit, (down, up)) in [DATABASE, ADDRESS].iter().zip(downs.iter().zip(ups)) {
        ensure!(
            // A killed server has left and ended within one microsecond of PID 1.
            down.1 >= down.0 && up.0 > down.1,
            "{unit} ran twice: it ended at {down:?} and started at {up:?}"
        );
    }
    Ok(())
}

/// When the loss was decided, and from when to when the node was fenced. No grant came before the proof.
fn fenced(history: &[HistoryLine], node: &str) -> Result<(u64, Span)> {
    let find = |kind: &str| {
        let line = history.iter().find(|l| l.kind == kind && l.node.as_deref() == Some(node));
        line.with_context(|| format!("the history has no `{kind}` of {node}: {history:#?}"))
    };
    let proven = find("fence-proven")?;
    for granted in history.iter().filter(|l| l.kind == "unit-granted") {
        ensure!(granted.index > proven.index, "before the fence was proven: {}", granted.text);
    }
    let time = |line: &HistoryLine| monotonic(line.wall_ms);
    Ok((time(find("node-lost")?)?, (time(find("fence-began")?)?, time(proven)?)))
}
