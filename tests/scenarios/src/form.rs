//! Makes the cluster of a scenario with the commands of the manual: `init`, `token`, `join`, `config apply`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{BMC_PASSWORD, BMC_USER, ExtraFile, Lab, Options};

use crate::cluster::Cluster;
use crate::package::package;
use crate::plan::{Plan, SECRET};
use crate::say;
use crate::unit::UnitFile;
use crate::watch::Moment;

/// For each step of the formation, on a busy machine.
const STEP: Duration = Duration::from_secs(40);

impl Cluster {
    /// Boots the nodes and does nothing more: no node is in a cluster.
    pub fn bare(name: &str, plan: Plan) -> Result<Cluster> {
        let mut options = Options::of(plan.nodes, plan.suite).with_deb(package()?);
        options.watchdog = plan.watchdog;
        options.array = plan.array;
        options.packages = plan.packages.clone();
        options.extra = plan.extra.clone();
        options.extra.push(ExtraFile {
            path: SECRET.into(),
            mode: 0o600,
            content: format!("{BMC_PASSWORD}\n").into_bytes(),
        });
        let lab = Lab::booted(name, &options)?;
        Ok(Cluster::new(lab, plan))
    }

    /// Boots the nodes, forms the cluster, and waits until everybody is online and can be fenced.
    pub fn formed(name: &str, plan: Plan) -> Result<Cluster> {
        let begin = Moment::now();
        let cluster = Cluster::bare(name, plan)?;
        let booted = begin.elapsed();
        let formed = cluster.form();
        if let Err(error) = formed {
            let dir = cluster.save_evidence("forming")?;
            return Err(error.context(format!("forming the cluster; evidence: {}", dir.display())));
        }
        say(&format!("  {name}: booted in {booted:.1?}, formed in {:.1?}", begin.elapsed() - booted));
        Ok(cluster)
    }

    fn form(&self) -> Result<()> {
        self.init(1, "lab")?;
        for i in 2..=self.plan.joined {
            let token = self.token(1)?;
            let role = if self.plan.members.contains(&i) {
                "--role member "
            } else if self.plan.witnesses.contains(&i) {
                "--role witness "
            } else {
                ""
            };
            self.ok(i, &format!("convoke join {role}--address {} '{token}'", self.node(i).address()))?;
            let name = self.node(i).name();
            self.until(&format!("{name} is online"), STEP, |now| now.online(&name))?;
        }
        if self.plan.fencing {
            self.configure(&self.settings())?;
        }
        self.until("everybody is online and can be fenced", STEP, |now| {
            let ready = |n: &crate::model::NodeStatus| n.state == "online" && n.fencing == "ready";
            now.nodes.iter().all(|n| if self.plan.fencing { ready(n) } else { n.state == "online" })
        })?;
        self.install(&UnitFile::new("witness.service").key("Replicas=1"))
    }

    /// Makes a cluster on node `i`.
    pub fn init(&self, i: usize, name: &str) -> Result<()> {
        self.ok(i, &format!("convoke init --name {name} --address {}", self.node(i).address()))?;
        let node = self.node(i).name();
        self.wait_for("the first node is online", STEP, || {
            let now = self.overview_of(i)?;
            Ok((now.quorum && now.online(&node)).then_some(()))
        })
    }

    /// A token that lets a machine join the cluster of node `i`.
    pub fn token(&self, i: usize) -> Result<String> {
        let text = self.ok(i, "convoke token")?;
        let line = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.contains(' '));
        line.map(str::to_owned).with_context(|| format!("`convoke token` says `{text}`"))
    }

    /// Puts a settings document in force.
    pub fn configure(&self, document: &str) -> Result<()> {
        let asked = self.anybody()?;
        self.node(asked).write("/root/cluster.toml", document)?;
        self.ok(asked, "convoke config apply /root/cluster.toml").map(drop)
    }

    /// The settings that a scenario begins with: each node has its power switch.
    #[must_use]
    pub fn settings(&self) -> String {
        let mut text = format!("quarantine = \"{}s\"\n", self.plan.quarantine_s);
        for node in self.nodes() {
            let name = node.name();
            text.push_str(&format!(
                "\n[fence.bmc-{name}]\nagent = \"{}\"\ntargets = {{ {name} = {{ ip = \"{}\" }} }}\n\
                 options = {{ username = \"{BMC_USER}\", lanplus = \"1\", cipher = \"3\", power_wait = \"0\" }}\n\
                 secrets = {{ password = \"{SECRET}\" }}\ntimeout = \"{}s\"\n",
                self.plan.agent,
                self.lab.bmc(node.index()).address(),
                self.plan.agent_timeout_s,
            ));
        }
        text
    }
}
