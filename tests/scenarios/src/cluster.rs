//! A formed cluster: what an operator can do with it, and what a saboteur can.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Fault, Lab, Node, Output, Timeline};

use crate::asked::Asked;
use crate::model::{Change, Overview, Why};
use crate::plan::Plan;
use crate::unit::UnitFile;
use crate::watch::{Beat, Moment, last_beat};

/// For a question to a node: one that cannot answer by then is taken for silent.
const PATIENCE: Duration = Duration::from_secs(20);
/// For a wish that has only to be carried out.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Three real nodes and the cluster on them.
pub struct Cluster {
    /// The machine room.
    pub lab: Lab,
    pub(crate) plan: Plan,
    /// Nodes that cannot be asked now: frozen, or cut off.
    silent: RefCell<BTreeSet<usize>>,
    installed: RefCell<BTreeMap<String, String>>,
    /// When the present part began.
    pub(crate) begun: Cell<Moment>,
    /// What was asked in it of fences that take their time.
    pub(crate) asked: RefCell<Asked>,
}

impl Cluster {
    pub(crate) fn new(lab: Lab, plan: Plan) -> Cluster {
        Cluster {
            lab,
            plan,
            silent: RefCell::default(),
            installed: RefCell::default(),
            begun: Cell::new(Moment::now()),
            asked: RefCell::default(),
        }
    }

    /// When the present part began.
    #[must_use]
    pub fn begun(&self) -> Moment {
        self.begun.get()
    }

    /// Node `i`, from 1.
    #[must_use]
    pub fn node(&self, i: usize) -> Node {
        self.lab.node(i)
    }

    /// The nodes of the cluster, without bare machines.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.lab.nodes().into_iter().take(self.plan.joined).collect()
    }

    /// Number of a node by its name.
    #[must_use]
    pub fn number(&self, name: &str) -> usize {
        name.trim_start_matches('n').parse().unwrap_or(0)
    }

    /// Runs a command line on a node; a status other than 0 is an error.
    pub fn ok(&self, i: usize, line: &str) -> Result<String> {
        self.node(i).run_ok(line)
    }

    /// Runs a command line on a node.
    pub fn run(&self, i: usize, line: &str) -> Result<Output> {
        self.node(i).run(line)
    }

    /// Runs a command line on all nodes of the cluster at once.
    pub fn everywhere(&self, line: &str) -> Result<()> {
        let joined = self.plan.joined;
        self.lab.each(|n| if n.index() <= joined { n.run_ok(line).map(drop) } else { Ok(()) })
    }

    /// Nodes that have power and may be asked.
    pub(crate) fn awake(&self) -> Vec<Node> {
        let silent = self.silent.borrow();
        self.nodes().into_iter().filter(|n| !silent.contains(&n.index()) && n.is_on()).collect()
    }

    /// A node that may be asked.
    pub fn anybody(&self) -> Result<usize> {
        Ok(self.awake().first().context("no node can be asked")?.index())
    }

    /// The cluster as a majority sees it; where there is none, as the first node that answers remembers it.
    pub fn overview(&self) -> Result<Overview> {
        let mut found: Result<Overview> = Err(anyhow::anyhow!("no node can be asked"));
        for node in self.awake() {
            match self.overview_of(node.index()) {
                Ok(seen) if seen.quorum => return Ok(seen),
                Ok(seen) => found = Ok(seen),
                Err(error) if found.is_err() => found = Err(error),
                Err(_) => {}
            }
        }
        found
    }

    /// `convoke status --json` on one node.
    pub fn overview_of(&self, i: usize) -> Result<Overview> {
        let out = self.node(i).run_for("convoke status --json", PATIENCE)?;
        serde_json::from_str(&out.stdout).with_context(|| {
            format!("n{i}: `convoke status --json` exits {}: {}{}", out.code, out.stdout, out.stderr)
        })
    }

    /// `convoke why UNIT --json`.
    pub fn why(&self, unit: &str) -> Result<Why> {
        let text = self.ok(self.anybody()?, &format!("convoke why {unit} --json"))?;
        serde_json::from_str(&text).with_context(|| format!("`convoke why` says {text}"))
    }

    /// `convoke events --json`, oldest first.
    pub fn events(&self) -> Result<Vec<Change>> {
        let mut found: Result<Vec<Change>> = Err(anyhow::anyhow!("no node can be asked"));
        for node in self.awake() {
            let text = node.run_ok("convoke events -n 2000 --json");
            found = text.and_then(|text| {
                serde_json::from_str(&text).with_context(|| format!("`convoke events` says {text}"))
            });
            if found.is_ok() {
                break;
            }
        }
        found
    }

    /// What happened after an index of the log.
    pub fn events_after(&self, index: u64) -> Result<Vec<Change>> {
        Ok(self.events()?.into_iter().filter(|e| e.index > index).collect())
    }

    /// The leader, from 1.
    pub fn leader(&self) -> Result<usize> {
        let now = self.until("somebody leads", SOON, |now| now.leader.is_some())?;
        Ok(self.number(&now.leader.unwrap_or_default()))
    }

    /// A node that does not lead; with `but`, not these either.
    pub fn follower(&self, but: &[usize]) -> Result<usize> {
        let leader = self.leader()?;
        let others = self.awake().into_iter().map(|n| n.index());
        others.into_iter().find(|i| *i != leader && !but.contains(i)).context("no such node")
    }

    /// Puts a unit's files on all nodes of the cluster and waits until its definition is in force. Done already:
    /// nothing happens.
    pub fn install(&self, unit: &UnitFile) -> Result<()> {
        self.install_on(unit, &(1..=self.plan.joined).collect::<Vec<_>>())
    }

    /// As [`install`](Self::install), on some nodes.
    pub fn install_on(&self, unit: &UnitFile, nodes: &[usize]) -> Result<()> {
        let text = format!("{unit:?} {nodes:?}");
        if self.installed.borrow().get(unit.name()) == Some(&text) {
            return Ok(());
        }
        for i in nodes {
            unit.write(&self.node(*i))?;
        }
        self.lab.each(|n| {
            let meant = nodes.contains(&n.index());
            if meant { n.run_ok("systemctl daemon-reload").map(drop) } else { Ok(()) }
        })?;
        let what = format!("a definition of {} is in force", unit.name());
        self.until(&what, SOON, |now| {
            !matches!(now.state_of(unit.name()), "undefined" | "unknown to the cluster")
        })?;
        self.installed.borrow_mut().insert(unit.name().into(), text);
        Ok(())
    }

    /// Has a unit run on node `i`, whatever was before.
    pub fn run_unit(&self, unit: &str, i: usize) -> Result<()> {
        let name = self.node(i).name();
        let asked = self.anybody()?;
        let now = self.overview()?;
        if !now.runs_on(unit, &name) {
            self.ok(asked, &format!("convoke reset-failed {unit}"))?;
        }
        self.wait_for(&format!("{unit} runs on {name}"), SOON, || {
            let now = self.overview()?;
            if now.runs_on(unit, &name) {
                return Ok(Some(()));
            }
            let elsewhere = now.unit(unit).is_some_and(|u| u.goal == "started" && u.state == "active");
            let line = match elsewhere {
                true => format!("convoke move {unit} {name}"),
                false => format!("convoke start {unit} --on {name}"),
            };
            self.ok(asked, &format!("{line} --timeout 10s")).map(|_| None)
        })
    }

    /// What a witness wrote.
    pub fn timeline(&self, unit: &str) -> Result<Timeline> {
        self.lab.witness(unit)
    }

    /// The last beat of a witness.
    #[must_use]
    pub fn beat(&self, unit: &str) -> Option<Beat> {
        last_beat(&self.witness_file(unit))
    }

    fn witness_file(&self, unit: &str) -> PathBuf {
        // The lab keeps the two shared folders beside each other.
        let stem = unit.trim_end_matches(".service");
        self.lab.shared().with_file_name("witness").join(format!("{stem}.log"))
    }

    /// Fails if a witness ran twice at any instant since this part began.
    pub fn never_twice(&self, unit: &str) -> Result<()> {
        let begun = self.begun.get().0;
        let overlaps: Vec<_> =
            self.timeline(unit)?.overlaps().into_iter().filter(|o| o.second.to_ns > begun).collect();
        ensure!(overlaps.is_empty(), "{unit} RAN TWICE: {overlaps:#?}");
        Ok(())
    }

    /// The time without service after an instant, once there is a life after it.
    pub fn gap_after(&self, unit: &str, then: Moment) -> Result<lab::Gap> {
        self.timeline(unit)?.gap_after(then.0).with_context(|| format!("{unit} has not run again"))
    }

    /// Kills the daemon of a node where it stands; systemd restarts it.
    pub fn kill_daemon(&self, i: usize) -> Result<()> {
        self.ok(i, "systemctl kill --kill-who=main --signal=KILL convoked.service").map(drop)
    }

    /// Has nobody ask this node, whose daemon cannot answer; until the part is over.
    pub fn mute(&self, i: usize) {
        self.silent.borrow_mut().insert(i);
    }

    /// Stops every process of a node where it stands.
    pub fn freeze(&self, i: usize) -> Result<()> {
        self.silent.borrow_mut().insert(i);
        self.node(i).freeze()
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self, i: usize) -> Result<()> {
        self.node(i).thaw()?;
        self.silent.borrow_mut().remove(&i);
        Ok(())
    }

    /// Cuts a node off the data network.
    pub fn cut(&self, i: usize) -> Result<()> {
        self.silent.borrow_mut().insert(i);
        self.lab.cut(i)
    }

    /// Ends [`cut`](Self::cut).
    pub fn heal(&self, i: usize) -> Result<()> {
        self.silent.borrow_mut().remove(&i);
        self.lab.heal(i)
    }

    /// Makes a node's power switch misbehave.
    pub fn bmc_faults(&self, i: usize, faults: &[Fault]) -> Result<()> {
        self.lab.bmc(i).set_faults(faults)
    }

    /// Commands that reached a node's power switch since this part began.
    #[must_use]
    pub fn power_commands(&self, i: usize) -> Vec<String> {
        let (name, begun) = (self.node(i).name(), self.begun.get().0);
        let events = self.lab.power_events().into_iter();
        events.filter(|e| e.node == name && e.at_ns >= begun).map(|e| e.command).collect()
    }

    /// All nodes have power and reach each other, all switches are honest, everybody is online and can be fenced.
    pub fn settle(&self) -> Result<()> {
        self.lab.heal_all()?;
        self.lab.restore_feeds();
        self.lab.open_ports()?;
        self.lab.open_paths()?;
        let _ = std::fs::remove_file(self.lab.shared().join("fence_bad"));
        for node in self.lab.nodes() {
            let bmc = self.lab.bmc(node.index());
            bmc.set_faults(&[])?;
            self.lab.redfish(node.index()).set_faults(&[])?;
            bmc.start()?;
            if node.is_on() {
                node.thaw()?;
            }
        }
        self.silent.borrow_mut().clear();
        self.drain_agents()?;
        self.lab.each(Node::boot)?;
        self.everywhere("systemctl is-active --quiet convoked || systemctl start convoked")?;
        let mut restarted = false;
        self.wait_for("the cluster is whole", Duration::from_secs(90), || {
            let now = self.overview()?;
            // A life whose end was "proven" has to end before the node counts again.
            let ended: Vec<_> =
                now.nodes.iter().filter(|n| ["fenced", "cut-off"].contains(&n.state.as_str())).collect();
            if !ended.is_empty() && !std::mem::replace(&mut restarted, true) {
                for node in ended {
                    self.node(self.number(&node.name)).reset()?;
                }
            }
            if now.drained.is_some() && now.quorum {
                self.ok(self.anybody()?, "convoke undrain --cluster --no-wait")?;
            }
            for node in now.nodes.iter().filter(|n| n.drained.is_some() && now.quorum) {
                self.ok(self.anybody()?, &format!("convoke undrain {}", node.name))?;
            }
            // What one part does to a node is not held against it in the next.
            for node in now.nodes.iter().filter(|n| n.losses > 0 && now.quorum) {
                self.ok(self.anybody()?, &format!("convoke reset-failed {}", node.name))?;
            }
            for one in now.maintenance.iter().filter(|_| now.quorum) {
                let what = one.name.as_deref().unwrap_or("--cluster");
                self.ok(self.anybody()?, &format!("convoke unmaintain {what}"))?;
            }
            let blemishes = self.blemishes(&now);
            ensure!(blemishes.is_empty(), "{}", blemishes.join(", "));
            Ok(Some(()))
        })
    }

    /// Waits until no fence agent of an earlier part runs: a late command would switch off what is booted now.
    fn drain_agents(&self) -> Result<()> {
        let line = "systemctl list-units --no-legend --plain --state=active,activating,deactivating 'convoke-fence-*'";
        self.wait_for("all fence agents have ended", Duration::from_secs(30), || {
            for node in self.lab.nodes().iter().filter(|n| n.is_on()) {
                let running = node.run(line)?.stdout;
                ensure!(running.trim().is_empty(), "{}: {running}", node.name());
            }
            Ok(Some(()))
        })
    }

    fn blemishes(&self, now: &Overview) -> Vec<String> {
        let mut found = Vec::new();
        if !now.quorum {
            found.push("no quorum".to_owned());
        }
        for node in self.nodes() {
            let Some(line) = now.node(&node.name()) else {
                found.push(format!("{} is missing", node.name()));
                continue;
            };
            if line.state != "online" {
                found.push(format!("{} is {}", line.name, line.state));
            }
            if self.plan.fencing && line.fencing != "ready" {
                let error = line.fencing_error.as_deref().unwrap_or("");
                found.push(format!("fencing of {} is {} {error}", line.name, line.fencing));
            }
            if let Some(seconds) = line.quarantine_s {
                found.push(format!("{} is quarantined for {seconds} s", line.name));
            }
        }
        found.extend(now.fences.iter().map(|f| f.text.clone()));
        found
    }
}

/// A status in a few lines, for an error's text.
pub(crate) fn summary(now: &Overview) -> String {
    let mut text =
        format!("last seen: quorum {}, leader {:?}, index {}\n", now.quorum, now.leader, now.index);
    for node in &now.nodes {
        text.push_str(&format!("  {} {} fencing {} {:?}\n", node.name, node.state, node.fencing, node.units));
    }
    for unit in &now.units {
        let copies: Vec<_> = unit.copies.iter().map(|c| format!("{}:{}", c.node, c.state)).collect();
        text.push_str(&format!(
            "  {} goal {} state {} copies {copies:?} {}\n",
            unit.name,
            unit.goal,
            unit.state,
            unit.reason.as_deref().unwrap_or("")
        ));
    }
    for fence in &now.fences {
        text.push_str(&format!("  fence {} {}: {}\n", fence.node, fence.state, fence.text));
    }
    for alarm in &now.alarms {
        text.push_str(&format!("  {}: {}\n", alarm.severity, alarm.text));
    }
    text
}
