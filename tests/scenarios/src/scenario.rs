//! A scenario: one cluster, several parts, and the evidence of those that fail.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::cluster::Cluster;
use crate::plan::Plan;
use crate::say;
use crate::watch::Moment;

/// What is asked of each node when a part has failed, and the name of the file with the answer.
const QUESTIONS: &[(&str, &str)] = &[
    ("status", "timeout 10 convoke status; timeout 10 convoke list-units; timeout 10 convoke fence list"),
    ("events", "timeout 10 convoke events -n 200"),
    ("status.json", "timeout 10 convoke status --json"),
    (
        "why",
        "for u in $(ls /run/convoke/permits /etc/systemd/system | sed -n 's/\\.d$//p' | sort -u); do \
             echo \"== $u\"; timeout 10 convoke why $u; done",
    ),
    (
        "units",
        "systemctl --no-pager list-jobs; systemctl --no-pager --failed; systemctl --no-pager status convoked; \
               ls -lR /run/convoke; cat /run/convoke/lease /run/convoke/floors",
    ),
    // Servers that do not write to the journal; an Erlang node that does not come up says in which call it waits.
    (
        "logs",
        "tail -n 2000 /var/log/rabbitmq/*.log /var/log/postgresql/*.log 2>/dev/null; timeout 20 rabbitmqctl eval \
         '[{P, erlang:process_info(P, [registered_name, current_stacktrace])} || P <- erlang:processes(), \
         element(2, erlang:process_info(P, status)) =:= waiting, element(2, erlang:process_info(P, message_queue_len)) > 0].'; \
         ps -ef",
    ),
];

/// The parts of a scenario, run one after another on one cluster.
pub struct Scenario {
    name: String,
    plan: Plan,
    cluster: Option<Cluster>,
    only: Option<String>,
    passed: usize,
    failed: Vec<String>,
}

/// Runs a scenario; the error names the parts that failed.
pub fn run(name: &str, plan: Plan, parts: impl FnOnce(&mut Scenario)) -> Result<()> {
    let mut scenario = Scenario {
        name: format!("sc-{name}"),
        plan,
        cluster: None,
        only: std::env::var("CONVOKE_PART").ok(),
        passed: 0,
        failed: Vec::new(),
    };
    say(&format!("\n== {name} ({})", scenario.plan.suite.name()));
    parts(&mut scenario);
    if !scenario.failed.is_empty() {
        bail!(
            "{} of {}: {}",
            scenario.failed.len(),
            scenario.failed.len() + scenario.passed,
            scenario.failed.join("; ")
        );
    }
    Ok(())
}

impl Scenario {
    /// One part. It begins with a whole cluster.
    pub fn part(&mut self, title: &str, work: impl FnOnce(&Cluster) -> Result<()>) {
        if self.only.as_deref().is_some_and(|only| !only.split('|').any(|one| title.contains(one))) {
            return;
        }
        let begin = Moment::now();
        let outcome = self.whole().and_then(|()| {
            let Some(cluster) = &self.cluster else { bail!("no cluster") };
            let index = cluster.overview()?.index;
            cluster.begun.set(Moment::now());
            cluster.asked.take();
            work(cluster)?;
            cluster.was_told_of_fences(index)?;
            cluster.journals_tell_of_fences(index)
        });
        let took = begin.elapsed();
        match outcome {
            Ok(()) => {
                self.passed += 1;
                say(&format!("  ok      {title} ({took:.1?})"));
            }
            Err(error) => {
                say(&format!("  FAILED  {title} ({took:.1?})\n          {error:#}"));
                if let Some(cluster) = &self.cluster {
                    match cluster.save_evidence(title) {
                        Ok(dir) => say(&format!("          evidence: {}", dir.display())),
                        Err(error) => say(&format!("          no evidence: {error:#}")),
                    }
                }
                self.failed.push(title.to_owned());
            }
        }
    }

    /// A cluster that is whole: the one of the parts before if it can be mended, else a new one.
    fn whole(&mut self) -> Result<()> {
        if let Some(cluster) = &self.cluster {
            let Err(error) = cluster.settle() else { return Ok(()) };
            say(&format!("  the cluster does not mend, a new one is made: {error:#}"));
            let dir = cluster.save_evidence("not-mended")?;
            say(&format!("          evidence: {}", dir.display()));
            self.cluster = None;
        }
        self.cluster = Some(Cluster::formed(&self.name, self.plan.clone())?);
        Ok(())
    }
}

impl Cluster {
    /// Writes down what all nodes know; the answer is the folder.
    pub(crate) fn save_evidence(&self, title: &str) -> Result<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
        let logs =
            std::env::var_os("CONVOKE_LAB_LOGS").map_or_else(|| target.join("lab-logs"), PathBuf::from);
        let slug: String =
            title.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
        let dir = logs.join(self.lab.name()).join(slug);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        for node in self.lab.nodes() {
            let name = node.name();
            let put = |what: &str, text: String| fs::write(dir.join(format!("{name}.{what}")), text);
            put("console", node.console())?;
            if !node.is_on() {
                put("journal", node.journal("").unwrap_or_else(|e| format!("{e:#}")))?;
                continue;
            }
            node.thaw()?;
            put("journal", node.journal("").unwrap_or_else(|e| format!("{e:#}")))?;
            for (what, line) in QUESTIONS {
                let answer = node.run_for(line, std::time::Duration::from_secs(60));
                put(what, answer.map_or_else(|e| format!("{e:#}"), |o| o.stdout + &o.stderr))?;
            }
        }
        let moments = format!("part began at {:.6} s\n", self.begun.get().0 as f64 / 1e9);
        fs::write(dir.join("moments"), moments)?;
        for entry in fs::read_dir(self.lab.shared().with_file_name("witness"))?.flatten() {
            fs::copy(entry.path(), dir.join(entry.file_name()))?;
        }
        Ok(dir.canonicalize()?)
    }
}
