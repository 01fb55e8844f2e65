//! A whole site without power, and how a clustered service came back from it: which part of the time was the cluster's.
//!
//! The server's own start is what PID 1 shows of it: from the moment at which it begins the unit (`InactiveExitTimestamp`)
//! to the server's word that it is there (`ActiveEnterTimestamp`). Everything else between two of the cluster's own
//! events counts as Convoke's: the decision and its way to a majority's disks and to the node, the permit, the way back
//! of the word that it is active, and `Ready=` with all that it starts.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::cluster::Cluster;
use crate::model::Change;
use crate::recipe::Recipe;
use crate::watch::Moment;

/// From a server that serves to the cluster's knowledge of it.
const READY: Duration = Duration::from_secs(20);

/// How one total failure ended; all times but the last from the moment at which the power is back.
#[derive(Clone, Debug)]
pub struct Outage {
    /// Until the machines' own boot is over, of the slowest.
    pub booted: Duration,
    /// Until a copy may start: the boot, the lease of whoever led before, and everybody's word on the data.
    pub granted: Duration,
    /// Until a copy is ready.
    pub first: Duration,
    /// Until all are.
    pub all: Duration,
    /// Of each copy, in the order in which they were ready, what is not the server's own start.
    pub steps: Vec<Duration>,
}

impl Outage {
    /// Takes the power of all nodes away and gives it back; `up` waits until the service is whole again, without a hand.
    pub fn of(c: &Cluster, recipe: &Recipe, up: impl FnOnce() -> Result<()>) -> Result<Outage> {
        let index = c.overview()?.index;
        c.lab.power_off_all()?;
        let power = Moment::now();
        let power_wall_ms = wall_ms()?;
        c.lab.boot_all()?;
        let booted = power.elapsed();
        up()?;
        let ready = c.wait_for("all are ready", READY, || {
            let mut ready = recipe.events(c, index, "unit-ready")?;
            let mut seen = BTreeSet::new();
            ready.retain(|event| seen.insert(event.node.clone()));
            Ok((ready.len() == c.nodes().len()).then_some(ready))
        })?;
        let granted = recipe.events(c, index, "unit-granted")?;
        let since = |event: &Change| Duration::from_millis(event.wall_ms.saturating_sub(power_wall_ms));
        let mut steps = Vec::new();
        let mut before: Option<&Change> = None;
        for event in &ready {
            let node = event.node.as_deref().context("a copy is on a node")?;
            let mut its = granted.iter().filter(|one| one.node == event.node && one.index < event.index);
            let grant = its.next_back().context("it was granted")?;
            // Serialised: from the moment at which the copy before it was there. Else from its own permit.
            let from = before.map_or(grant.wall_ms, |before| before.wall_ms.min(grant.wall_ms));
            let took = Duration::from_millis(event.wall_ms.saturating_sub(from));
            steps.push(took.saturating_sub(own_start(c, recipe, c.number(node))?));
            before = Some(event);
        }
        Ok(Outage {
            booted,
            granted: granted.first().map(since).context("nothing was granted")?,
            first: ready.first().map(since).context("nothing was ready")?,
            all: ready.last().map(since).context("nothing was ready")?,
            steps,
        })
    }
}

/// From PID 1's begin of the unit to the server's word.
fn own_start(c: &Cluster, recipe: &Recipe, i: usize) -> Result<Duration> {
    let stamp = |property: &str| -> Result<u64> {
        let text = c.node(i).show(recipe.unit, property)?;
        text.trim().parse().with_context(|| format!("{property} of n{i}: {text}"))
    };
    let (begun, there) = (stamp("InactiveExitTimestampMonotonic")?, stamp("ActiveEnterTimestampMonotonic")?);
    Ok(Duration::from_micros(there.saturating_sub(begun)))
}

fn wall_ms() -> Result<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_millis())?)
}

/// The failures as a table of Markdown, as `docs/measurements.md` has them.
#[must_use]
pub fn table(outages: &[Outage]) -> String {
    let mut text = "| | boot | first permit | first ready | all ready | Convoke's own, copy by copy |\n\
         | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for (one, round) in outages.iter().zip(1..) {
        let s = |time: Duration| format!("{:.1}", time.as_secs_f64());
        let steps: Vec<String> = one.steps.iter().map(|step| step.as_millis().to_string()).collect();
        text.push_str(&format!(
            "| {round} | {} s | {} s | {} s | {} s | {} ms |\n",
            s(one.booted),
            s(one.granted),
            s(one.first),
            s(one.all),
            steps.join(", ")
        ));
    }
    text
}
