//! A whole site without power, and how a clustered service came back from it: which part of the time was the cluster's.
//!
//! The server's own start is what PID 1 shows of it: from the moment at which it begins the unit (`InactiveExitTimestamp`)
//! to the server's word that it is there (`ActiveEnterTimestamp`). Everything else between two of the cluster's own
//! events counts as Convoke's: the decision and its way to a majority's disks and to the node, the permit, the way back
//! of the word that it is active, and `Ready=` with all that it starts.
//!
//! A role that one of the copies gets is one more step, from its own permit on. What is before that is everybody's word on
//! the data, as before the first permit of a service that is begun by one.

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
    /// Where one of the copies gets a role, how that came back.
    pub role: Option<Role>,
}

/// How a role came back after a total failure; all times but the last from the moment at which the power is back.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Until a node may take it: all that may have the latest data have said how far they are.
    pub granted: Duration,
    /// Until it is held.
    pub held: Duration,
    /// Until the service is whole, as the scenario looks at it.
    pub whole: Duration,
    /// From the permit until it is held, what is not the start of its unit.
    pub step: Duration,
}

impl Outage {
    /// Takes the power of all nodes away and gives it back; `up` waits until the service is whole again, without a hand.
    pub fn of(c: &Cluster, recipe: &Recipe, up: impl FnOnce() -> Result<()>) -> Result<Outage> {
        Outage::told(c, recipe, "unit-ready", &Cut::of(c, up)?)
    }

    /// The same of copies that have no `Ready=`, and are there when they have started; one of them then gets a role.
    pub fn with_role(
        c: &Cluster,
        copies: &Recipe,
        role: &Recipe,
        up: impl FnOnce() -> Result<()>,
    ) -> Result<Outage> {
        let cut = Cut::of(c, up)?;
        let outage = Outage::told(c, copies, "unit-started", &cut)?;
        Ok(Outage { role: Some(Role::told(c, role, &cut)?), ..outage })
    }

    /// From the cluster's events; by those of the kind `there` a copy is.
    fn told(c: &Cluster, recipe: &Recipe, there: &str, cut: &Cut) -> Result<Outage> {
        let ready = c.wait_for("all are ready", READY, || {
            let mut ready = recipe.events(c, cut.index, there)?;
            let mut seen = BTreeSet::new();
            ready.retain(|event| seen.insert(event.node.clone()));
            Ok((ready.len() == c.nodes().len()).then_some(ready))
        })?;
        let granted = recipe.events(c, cut.index, "unit-granted")?;
        let mut steps = Vec::new();
        let mut before: Option<&Change> = None;
        for event in &ready {
            let grant = grant_of(&granted, event)?;
            // Serialised: from the moment at which the copy before it was there. Else from its own permit.
            let from = before.map_or(grant.wall_ms, |before| before.wall_ms.min(grant.wall_ms));
            steps.push(beyond_own_start(c, recipe, event, from)?);
            before = Some(event);
        }
        Ok(Outage {
            booted: cut.booted,
            granted: granted.first().map(|event| cut.until(event)).context("nothing was granted")?,
            first: ready.first().map(|event| cut.until(event)).context("nothing was ready")?,
            all: ready.last().map(|event| cut.until(event)).context("nothing was ready")?,
            steps,
            role: None,
        })
    }
}

impl Role {
    fn told(c: &Cluster, recipe: &Recipe, cut: &Cut) -> Result<Role> {
        let held =
            c.wait_for("the role is held", READY, || Ok(recipe.events(c, cut.index, "unit-started")?.pop()))?;
        let granted = recipe.events(c, cut.index, "unit-granted")?;
        let grant = grant_of(&granted, &held)?;
        Ok(Role {
            granted: cut.until(grant),
            held: cut.until(&held),
            whole: cut.whole,
            step: beyond_own_start(c, recipe, &held, grant.wall_ms)?,
        })
    }
}

/// All power away, and back.
struct Cut {
    /// The log before it.
    index: u64,
    /// When the power was back, by the clock of the events.
    wall_ms: u64,
    booted: Duration,
    whole: Duration,
}

impl Cut {
    fn of(c: &Cluster, up: impl FnOnce() -> Result<()>) -> Result<Cut> {
        let index = c.overview()?.index;
        c.lab.power_off_all()?;
        let power = Moment::now();
        let wall_ms = wall_ms()?;
        c.lab.boot_all()?;
        let booted = power.elapsed();
        up()?;
        Ok(Cut { index, wall_ms, booted, whole: power.elapsed() })
    }

    fn until(&self, event: &Change) -> Duration {
        Duration::from_millis(event.wall_ms.saturating_sub(self.wall_ms))
    }
}

/// The permit by which a copy was there.
fn grant_of<'e>(granted: &'e [Change], there: &Change) -> Result<&'e Change> {
    let its = |one: &&Change| one.node == there.node && one.index < there.index;
    granted.iter().rfind(its).context("it was granted")
}

/// From a moment until a copy was there, less the start of its unit.
fn beyond_own_start(c: &Cluster, recipe: &Recipe, there: &Change, from_ms: u64) -> Result<Duration> {
    let node = there.node.as_deref().context("a copy is on a node")?;
    let took = Duration::from_millis(there.wall_ms.saturating_sub(from_ms));
    Ok(took.saturating_sub(own_start(c, recipe, c.number(node))?))
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
    let mut text = match outages.iter().any(|one| one.role.is_some()) {
        false => {
            "| | boot | first permit | first ready | all ready | Convoke's own, copy by copy |\n\
             | --- | --- | --- | --- | --- | --- |\n"
        }
        true => {
            "| | boot | first permit | first copy | all copies | role's permit | role held | whole | \
             Convoke's own, copy by copy; role |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        }
    }
    .to_owned();
    for (one, round) in outages.iter().zip(1..) {
        let s = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let mut cells = vec![s(one.booted), s(one.granted), s(one.first), s(one.all)];
        let steps: Vec<String> = one.steps.iter().map(|step| step.as_millis().to_string()).collect();
        let mut own = steps.join(", ");
        if let Some(role) = &one.role {
            cells.extend([s(role.granted), s(role.held), s(role.whole)]);
            own.push_str(&format!("; {}", role.step.as_millis()));
        }
        text.push_str(&format!("| {round} | {} | {own} ms |\n", cells.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_what_came_back_and_the_role_if_there_is_one() {
        let ms = Duration::from_millis;
        let mut outage = Outage {
            booted: ms(1_540),
            granted: ms(4_000),
            first: ms(4_700),
            all: ms(12_810),
            steps: vec![ms(102), ms(7)],
            role: None,
        };
        let text = table(std::slice::from_ref(&outage));
        assert_eq!(text.lines().last(), Some("| 1 | 1.5 s | 4.0 s | 4.7 s | 12.8 s | 102, 7 ms |"));
        outage.role = Some(Role { granted: ms(5_100), held: ms(5_600), whole: ms(6_000), step: ms(35) });
        let text = table(&[outage]);
        let row = "| 1 | 1.5 s | 4.0 s | 4.7 s | 12.8 s | 5.1 s | 5.6 s | 6.0 s | 102, 7; 35 ms |";
        assert_eq!(text.lines().last(), Some(row));
        let columns: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(columns, [10; 3]);
    }
}
