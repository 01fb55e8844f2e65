//! The cluster as an operator sees it: `convoke` and `systemctl` typed on its nodes.
//!
//! Reads only what `convoke --json` prints. Nothing here knows how Convoke works.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::{Lab, Node};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The database.
pub(crate) const DATABASE: &str = "postgresql@15-main.service";
/// Its service address.
pub(crate) const ADDRESS: &str = "pg-address.service";

#[derive(Debug, Deserialize)]
pub(crate) struct Picture {
    pub(crate) leader: Option<String>,
    pub(crate) nodes: Vec<NodeLine>,
    pub(crate) units: Vec<UnitLine>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NodeLine {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) fencing: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct UnitLine {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) copies: Vec<CopyLine>,
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CopyLine {
    pub(crate) node: String,
    pub(crate) state: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HistoryLine {
    pub(crate) index: u64,
    pub(crate) wall_ms: u64,
    pub(crate) node: Option<String>,
    pub(crate) kind: String,
    pub(crate) text: String,
}

/// The nodes of the demo and what runs on them.
pub(crate) struct Cluster {
    pub(crate) lab: Lab,
}

impl Cluster {
    /// A node that has power, as an operator would log in to; the first but `other`.
    pub(crate) fn node_but(&self, other: &str) -> Result<Node> {
        let on = self.lab.nodes().into_iter().find(|n| n.is_on() && n.name() != other);
        on.context("no node has power")
    }

    /// Runs `convoke` on a node that has power.
    pub(crate) fn convoke(&self, words: &str) -> Result<String> {
        self.node_but("")?.run_ok(&format!("convoke {words}"))
    }

    fn read<T: DeserializeOwned>(&self, words: &str) -> Result<T> {
        let node = self.node_but("")?;
        let out = node.run(&format!("convoke {words} --json"))?;
        // Without quorum it exits 3 and still prints what it last knew.
        let text = &out.stdout;
        serde_json::from_str(text)
            .with_context(|| format!("{}: `convoke {words} --json`: {text}{}", node.name(), out.stderr))
    }

    pub(crate) fn picture(&self) -> Result<Picture> {
        self.read("status")
    }

    /// What happened after the log entry `index`.
    pub(crate) fn history(&self, index: u64) -> Result<Vec<HistoryLine>> {
        let lines: Vec<HistoryLine> = self.read("events --lines=1000")?;
        Ok(lines.into_iter().filter(|l| l.index > index).collect())
    }

    /// The last log entry that the history tells of.
    pub(crate) fn now(&self) -> Result<u64> {
        Ok(self.history(0)?.iter().map(|l| l.index).max().unwrap_or(0))
    }

    /// Where a unit is active, as the cluster says.
    pub(crate) fn holder(&self, unit: &str) -> Result<String> {
        let picture = self.picture()?;
        let line = picture.units.iter().find(|u| u.name == unit).context("the cluster does not know it")?;
        match line.copies.as_slice() {
            [copy] if copy.state == "active" => Ok(copy.node.clone()),
            copies => bail!("{unit} is {}: {copies:?} {}", line.state, line.reason.as_deref().unwrap_or("")),
        }
    }

    /// Waits until database and address are active, both on one node that is not `other`. The answer is that node.
    pub(crate) fn wait_settled(&self, other: &str, patience: Duration) -> Result<Node> {
        let mut last = None;
        let settled = |last: &mut Option<Result<String>>| {
            let at = (|| {
                let (database, address) = (self.holder(DATABASE)?, self.holder(ADDRESS)?);
                match database == address && database != other {
                    true => Ok(database),
                    false => bail!("{DATABASE} is on {database}, {ADDRESS} on {address}"),
                }
            })();
            let done = at.is_ok();
            *last = Some(at);
            done
        };
        lab::wait_until(patience, Duration::from_millis(50), || settled(&mut last));
        let at = last.context("no time to look")?;
        self.lab.named(&at.with_context(|| format!("not settled after {} s", patience.as_secs()))?)
    }

    /// Waits until the picture is as it should be.
    pub(crate) fn wait(&self, what: &str, patience: Duration, good: impl Fn(&Picture) -> bool) -> Result<()> {
        let mut last = None;
        let done = lab::wait_until(patience, Duration::from_millis(100), || {
            let picture = self.picture();
            let done = picture.as_ref().is_ok_and(&good);
            last = Some(picture);
            done
        });
        match last {
            _ if done => Ok(()),
            Some(Err(e)) => Err(e.context(format!("not after {} s: {what}", patience.as_secs()))),
            Some(Ok(picture)) => bail!("not after {} s: {what}\n{picture:#?}", patience.as_secs()),
            None => bail!("no time to look: {what}"),
        }
    }
}
