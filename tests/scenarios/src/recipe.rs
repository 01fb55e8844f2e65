//! A clustered service as an operator makes it of a recipe: `convoke enable-recipe`, a word, and then it runs.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::cluster::{Cluster, SOON};
use crate::model::Change;

/// For a whole service to come up, on a busy machine.
const UP: Duration = Duration::from_secs(120);

/// One recipe of the package.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Its name.
    pub name: &'static str,
    /// The unit that it makes a cluster unit.
    pub unit: &'static str,
}

/// What `convoke status UNIT --json` says of a clustered service.
#[derive(Deserialize)]
struct Shown {
    assembly: Assembly,
}

#[derive(Deserialize)]
struct Assembly {
    nodes: Vec<NodeData>,
}

/// What the cluster knows of one node's data.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeData {
    /// Which node.
    pub node: String,
    /// Whether it was live last: its data may be the latest.
    pub last: bool,
    /// What `Position=` said of it: `stopped`, `empty`, `unusable`, …
    #[serde(rename = "data")]
    pub said: String,
    /// Whether that does not count any more.
    pub void: bool,
}

impl Recipe {
    /// Copies it to all nodes, as it tells to, and waits until the cluster knows the unit.
    pub fn enable(&self, c: &Cluster) -> Result<()> {
        let Recipe { name, unit } = self;
        c.everywhere(&format!(
            "convoke enable-recipe {name} && systemctl disable {unit} && systemctl daemon-reload && convoke verify {unit}"
        ))?;
        c.until("the unit is known", SOON, |now| {
            !matches!(now.state_of(unit), "undefined" | "unknown to the cluster")
        })?;
        Ok(())
    }

    /// Asks for its start and does not wait.
    pub fn start(&self, c: &Cluster) -> Result<()> {
        let asked = c.anybody()?;
        c.ok(asked, &format!("convoke reset-failed {}", self.unit))?;
        c.ok(asked, &format!("convoke start --no-wait {}", self.unit)).map(drop)
    }

    /// Stops the copy on one node by hand, and waits until the node has read its data: whoever changes that earlier meets the
    /// program that reads it.
    pub fn stop_on(&self, c: &Cluster, i: usize) -> Result<()> {
        let since = c.ok(i, "date +%s.%N")?;
        c.ok(i, &format!("systemctl stop {}", self.unit))?;
        let read = format!(
            "journalctl --boot --no-pager --quiet --since=@{} --grep='Finished convoke-probe-.*position of {}'",
            since.trim(),
            self.unit
        );
        c.wait_for("its Position= has looked", UP, || c.ok(i, &read).map(Some))?;
        Ok(())
    }

    /// Gives the operator's word as soon as it can be taken: `--from n1`, `--without n3`, `--resync n2`.
    pub fn assemble(&self, c: &Cluster, word: &str) -> Result<()> {
        c.wait_for(&format!("`assemble {word}` is taken"), UP, || {
            c.ok(c.anybody()?, &format!("convoke assemble {} {word} --yes --no-wait", self.unit)).map(Some)
        })?;
        Ok(())
    }

    /// Waits until copies are active on these nodes, and on no others.
    pub fn runs_on(&self, c: &Cluster, nodes: &[&str]) -> Result<()> {
        c.until(&format!("it runs on {}", nodes.join(", ")), UP, |now| now.places(self.unit) == nodes)?;
        Ok(())
    }

    /// Waits until `why` says something of this kind, and how it is released.
    pub fn why(&self, c: &Cluster, fact: &str, release: &str) -> Result<()> {
        c.wait_for(&format!("`why` speaks of `{fact}` and `{release}`"), UP, || {
            let why = c.why(self.unit)?;
            let said = why.reasons.iter().any(|r| r.fact.contains(fact) && r.release.contains(release));
            ensure!(said, "{:?}", why.reasons);
            Ok(Some(()))
        })
    }

    /// What of one kind happened to it after an index of the log.
    pub fn events(&self, c: &Cluster, index: u64, kind: &str) -> Result<Vec<Change>> {
        let events = c.events_after(index)?.into_iter();
        Ok(events.filter(|e| e.kind == kind && e.unit.as_deref() == Some(self.unit)).collect())
    }

    /// How its copies were begun after an index of the log, in order: `n1 alone`, `n2 join`, `n3 resync`.
    pub fn starts(&self, c: &Cluster, index: u64) -> Result<Vec<String>> {
        let how = |text: &str| match text {
            text if text.contains("start it alone") => "alone",
            text if text.contains("copy its data anew") => "resync",
            _ => "join",
        };
        let events = self.events(c, index, "unit-granted")?.into_iter();
        Ok(events.map(|e| format!("{} {}", e.node.unwrap_or_default(), how(&e.text))).collect())
    }

    /// Fails if a copy was begun, after an index of the log, before the one begun last was ready or gone.
    pub fn one_by_one(&self, c: &Cluster, index: u64) -> Result<()> {
        let mut coming: Option<String> = None;
        for event in c.events_after(index)?.into_iter().filter(|e| e.unit.as_deref() == Some(self.unit)) {
            let node = event.node.unwrap_or_default();
            let its = coming.as_ref() == Some(&node);
            match event.kind.as_str() {
                "unit-granted" => {
                    if let Some(before) = coming.replace(node.clone()) {
                        bail!("{node} was begun before {before} was ready: {}", event.text);
                    }
                }
                "unit-ready" | "unit-released" | "unit-voided" if its => coming = None,
                _ => {}
            }
        }
        Ok(())
    }

    /// What is known of the data of all nodes; an error where no majority confirms it.
    pub fn data(&self, c: &Cluster) -> Result<Vec<NodeData>> {
        let text = c.ok(c.anybody()?, &format!("convoke status {} --json", self.unit))?;
        let shown: Shown =
            serde_json::from_str(&text).with_context(|| format!("`convoke status` says {text}"))?;
        Ok(shown.assembly.nodes)
    }

    /// Nodes that were live last, by the cluster's log: whom everybody waits for where nothing is live.
    pub fn live_last(&self, c: &Cluster) -> Result<Vec<String>> {
        Ok(self.data(c)?.into_iter().filter(|data| data.last).map(|data| data.node).collect())
    }
}
