//! The permit and environment files of this node, which the gates' assertions and systemd's exec read.
//!
//! One writer: the agent's own loop, in the order of its decisions, so that a removal is never overtaken by a write.
//! A permit appears and goes whole: it is prepared beside the directory that the gates look into. What a file says is
//! believed only for the life that it names (F8); what cannot be read is no permit.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use policy::{Fencing, Incarnation, OnQuorumLoss, Start, Terms, Token, UnitName};
use serde::{Deserialize, Serialize};
use units::section::{Program, Variable};

use crate::atomic;
use crate::paths::Paths;

/// What a permit file holds: everything that a restarted daemon needs to honour it before it has a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// Its token.
    pub token: Token,
    /// The life that it was given to.
    pub incarnation: Incarnation,
    /// On what terms (F13).
    pub terms: Terms,
    /// Whether it was given to a copy that ran already; such a run has no `CONVOKE_TOKEN`.
    pub adopted: bool,
    /// Units that this one stops before, for the end of a lease (F25).
    #[serde(default)]
    pub stops_before: BTreeSet<UnitName>,
    /// How many starts it is for.
    #[serde(default)]
    pub starts: Starts,
    /// Whether the copy is in maintenance: whatever it does, it is left alone.
    #[serde(default)]
    pub hands_off: bool,
    /// `GoneExec=` when it was given or written last: a file that is changed or broken meanwhile takes it from no copy.
    #[serde(default)]
    pub gone: Option<Program>,
    /// What was gated on it when it was given or written last, for the same reason: it stops with the unit.
    #[serde(default)]
    pub members: BTreeSet<String>,
}

impl Permit {
    /// Whether it is left alone without a lease too: nobody takes its place then before a proof. What others may count as
    /// ended after a time has to end (F7), and of what had `Fencing=none` a definition that was adopted since may say so.
    pub(super) fn outlasts_the_lease(&self) -> bool {
        self.hands_off && matches!(self.terms.fencing, Fencing::Required | Fencing::Isolated)
    }
}

/// How many starts a permit is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Starts {
    /// As many as systemd makes.
    #[default]
    Any,
    /// One, which is not begun: the unit is a clustered service (F16).
    One,
    /// That one was begun: the file lies out of the gate's sight.
    Made,
}

/// What a started unit finds in its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `CONVOKE_TOKEN`.
    pub token: Token,
    /// `CONVOKE_NODE`.
    pub node: String,
    /// `CONVOKE_PEERS`.
    pub peers: Vec<String>,
    /// `CONVOKE_START`.
    pub start: Start,
    /// What `StartAlone=` or `StartResync=` add.
    pub variables: Vec<Variable>,
}

impl Environment {
    /// In the syntax of `EnvironmentFile=`. Nodes' names hold no quotes, blanks or backslashes.
    fn render(&self) -> String {
        let plain =
            |name: &str| name.chars().filter(|c| c.is_ascii_graphic() && !"\"\\$`".contains(*c)).collect();
        let peers: Vec<String> = self.peers.iter().map(|peer| plain(peer)).collect();
        let node: String = plain(&self.node);
        let start = match self.start {
            Start::Join => "join",
            Start::Alone => "alone",
            Start::Resync => "resync",
        };
        let mut text = format!(
            "CONVOKE_TOKEN={}\nCONVOKE_NODE={node}\nCONVOKE_PEERS=\"{}\"\nCONVOKE_START={start}\n",
            self.token,
            peers.join(" ")
        );
        // The section allows no value that would have to be quoted more than this.
        for variable in &self.variables {
            text.push_str(&format!("{}=\"{}\"\n", variable.name, variable.value));
        }
        text
    }
}

/// Whether the name may be part of a path. Names come from the cluster.
pub(super) fn usable(unit: &UnitName) -> bool {
    units::name::UnitName::parse(unit.as_str()).is_some_and(|name| !name.is_template())
}

/// Makes the directories.
pub(super) fn prepare(paths: &Paths) -> io::Result<()> {
    fs::create_dir_all(paths.permits_dir())?;
    fs::create_dir_all(paths.releasing_dir())?;
    fs::create_dir_all(paths.spent_dir())?;
    fs::create_dir_all(paths.env_dir())
}

/// Writes the environment first, so that no start with the permit goes without it, then the permit.
pub(super) fn write(
    paths: &Paths,
    unit: &UnitName,
    permit: &Permit,
    environment: Option<&Environment>,
) -> io::Result<()> {
    if !usable(unit) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{unit} is no unit's name")));
    }
    match environment {
        Some(environment) => {
            atomic::write(&paths.env(unit.as_str()), environment.render().as_bytes(), atomic::PUBLIC)?
        }
        None if permit.adopted => atomic::remove(&paths.env(unit.as_str()))?,
        None => {}
    }
    let (place, other) = match permit.starts {
        Starts::Made => (spent(paths, unit), paths.permit(unit.as_str())),
        Starts::Any | Starts::One => (paths.permit(unit.as_str()), spent(paths, unit)),
    };
    let prepared = paths.run_dir().join("permit.new");
    atomic::write(&prepared, &serde_json::to_vec(permit).map_err(io::Error::other)?, atomic::PUBLIC)?;
    fs::rename(&prepared, place)?;
    atomic::remove(&other)?;
    atomic::remove(&releasing(paths, unit))
}

/// A start that is made once was begun: what the permit says is kept for the next daemon, and nothing starts under it
/// any more (F16). Where it cannot be kept, it is at least removed.
pub(super) fn spend(paths: &Paths, unit: &UnitName, permit: &Permit) -> io::Result<()> {
    let kept = write(paths, unit, permit, None);
    remove(paths, unit).and(kept)
}

/// Shuts the gate, and keeps what the permit said for as long as its unit is being released: a daemon that is killed
/// meanwhile leaves one that knows what has to stop, and by when (F8).
pub(super) fn set_aside(paths: &Paths, unit: &UnitName) -> io::Result<()> {
    // Where it cannot be kept it is at least removed.
    if usable(unit) {
        let aside = |file: PathBuf| fs::rename(file, releasing(paths, unit));
        drop(aside(paths.permit(unit.as_str())).or_else(|_| aside(spent(paths, unit))));
    }
    remove(paths, unit)
}

/// Forgets a permit that was set aside.
pub(super) fn forget(paths: &Paths, unit: &UnitName) -> io::Result<()> {
    if !usable(unit) {
        return Ok(());
    }
    atomic::remove(&spent(paths, unit))?;
    atomic::remove(&releasing(paths, unit))
}

fn spent(paths: &Paths, unit: &UnitName) -> PathBuf {
    paths.spent_dir().join(unit.as_str())
}

fn releasing(paths: &Paths, unit: &UnitName) -> PathBuf {
    paths.releasing_dir().join(unit.as_str())
}

/// Removes the permit, and then what only a start with it may use.
pub(super) fn remove(paths: &Paths, unit: &UnitName) -> io::Result<()> {
    if !usable(unit) {
        return Ok(());
    }
    atomic::remove(&paths.permit(unit.as_str()))?;
    atomic::remove(&paths.env(unit.as_str()))
}

/// All permit files by unit; `None` for those that cannot be read, which are no permits.
pub(super) fn load(paths: &Paths) -> io::Result<Vec<(UnitName, Option<Permit>)>> {
    load_from(&paths.permits_dir())
}

/// The same, of those that were set aside.
pub(super) fn load_releasing(paths: &Paths) -> io::Result<Vec<(UnitName, Option<Permit>)>> {
    load_from(&paths.releasing_dir())
}

/// The same, of those whose one start was made.
pub(super) fn load_spent(paths: &Paths) -> io::Result<Vec<(UnitName, Option<Permit>)>> {
    load_from(&paths.spent_dir())
}

fn load_from(dir: &Path) -> io::Result<Vec<(UnitName, Option<Permit>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let permit = fs::read(entry.path()).ok().and_then(|text| serde_json::from_slice(&text).ok());
        found.push((UnitName(name), permit));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// What an earlier daemon left of permits, wherever they lie.
fn left(paths: &Paths) -> impl Iterator<Item = (UnitName, Option<Permit>)> {
    let all = [load(paths), load_spent(paths), load_releasing(paths)];
    all.into_iter().flat_map(Result::unwrap_or_default)
}

/// Whether any unit runs here, or may, under a permit of an earlier daemon.
#[must_use]
pub fn any_left(paths: &Paths) -> bool {
    left(paths).next().is_some()
}

/// Units that run here, or may, under a permit of an earlier daemon, and may not go on without a lease.
#[must_use]
pub fn ends_with_lease(paths: &Paths) -> Vec<UnitName> {
    let ends = |permit: &Permit| {
        permit.terms.on_quorum_loss != OnQuorumLoss::Continue && !permit.outlasts_the_lease()
    };
    left(paths).filter(|(_, permit)| permit.as_ref().is_some_and(ends)).map(|(unit, _)| unit).collect()
}

/// What rests on this node's watchdog by the permits of an earlier daemon, as the agent says it: how long what must stop at
/// the end of a lease may take for it; none if nothing rests on it (F17).
#[must_use]
pub fn rests_on_watchdog(paths: &Paths) -> Option<u64> {
    let permits: Vec<Permit> = left(paths).filter_map(|(_, permit)| permit).collect();
    let stops = |permit: &&Permit| permit.terms.on_quorum_loss != OnQuorumLoss::Continue;
    let sum = |sum: u64, permit: &Permit| sum.saturating_add(permit.terms.stop_budget_ms);
    let rests = permits.iter().any(|permit| permit.terms.fencing == Fencing::Watchdog);
    rests.then(|| permits.iter().filter(stops).fold(0, sum))
}

/// Whether the permit's file is in place with these terms of the watchdog: what it says of them is not news.
pub(super) fn is_watched(paths: &Paths, unit: &UnitName, permit: &Permit) -> bool {
    let place = match permit.starts {
        Starts::Made => spent(paths, unit),
        Starts::Any | Starts::One => paths.permit(unit.as_str()),
    };
    let there = fs::read(place).ok().and_then(|text| serde_json::from_slice::<Permit>(&text).ok());
    there.is_some_and(|there| there.token == permit.token && there.terms.fencing == Fencing::Watchdog)
}

#[cfg(test)]
pub(super) mod tests {
    use policy::Definition;

    use super::*;

    pub(in crate::agent) fn permit(token: u64) -> Permit {
        Permit {
            token: Token(token),
            incarnation: "boot/1/0".into(),
            terms: Terms::of(&Definition::exclusive(), 3, 5_000, 0),
            adopted: false,
            stops_before: BTreeSet::from(["disk.service".into()]),
            starts: Starts::Any,
            hands_off: false,
            gone: None,
            members: BTreeSet::new(),
        }
    }

    fn scratch() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().expect("scratch directory");
        let paths = Paths::below(dir.path());
        prepare(&paths).expect("directories");
        (dir, paths)
    }

    #[test]
    fn a_permit_is_read_back_and_leaves_nothing_beside_it() {
        let (_dir, paths) = scratch();
        let unit: UnitName = r"foo@a\x2db.service".into();
        // A generation in the upper bits makes tokens larger than a signed number.
        let mut written = permit(0);
        written.token = Token(u64::MAX - 1);
        let environment = Environment {
            token: written.token,
            node: "n1".into(),
            peers: vec!["n2".into(), "n 3\"".into()],
            start: Start::Alone,
            variables: vec![Variable { name: "_NEW".into(), value: "--new".into() }],
        };
        write(&paths, &unit, &written, Some(&environment)).expect("written");
        assert_eq!(load(&paths).expect("loaded"), [(unit.clone(), Some(written.clone()))]);
        let text = fs::read_to_string(paths.env(unit.as_str())).expect("environment");
        assert_eq!(
            text,
            format!(
                "CONVOKE_TOKEN={}\nCONVOKE_NODE=n1\nCONVOKE_PEERS=\"n2 n3\"\nCONVOKE_START=alone\n_NEW=\"--new\"\n",
                u64::MAX - 1
            )
        );
        remove(&paths, &unit).expect("removed");
        assert_eq!(load(&paths).expect("loaded"), []);
        assert!(!paths.env(unit.as_str()).exists());
        remove(&paths, &unit).expect("removed twice");
    }

    #[test]
    fn an_adopted_run_gets_no_environment_of_an_earlier_one() {
        let (_dir, paths) = scratch();
        let unit: UnitName = "db.service".into();
        fs::write(paths.env("db.service"), "CONVOKE_TOKEN=1\n").expect("leftover");
        write(&paths, &unit, &Permit { adopted: true, ..permit(7) }, None).expect("written");
        assert!(!paths.env("db.service").exists());
    }

    #[test]
    fn what_cannot_be_read_is_no_permit() {
        let (_dir, paths) = scratch();
        fs::write(paths.permit("a.service"), "").expect("empty");
        fs::write(paths.permit("b.service"), "{\"token\":1}").expect("cut");
        let found = load(&paths).expect("loaded");
        assert_eq!(found, [("a.service".into(), None), ("b.service".into(), None)]);
    }

    #[test]
    fn what_goes_on_without_a_quorum_does_not_end_with_the_lease() {
        let (_dir, paths) = scratch();
        let mut goes_on = permit(1);
        goes_on.terms.on_quorum_loss = OnQuorumLoss::Continue;
        write(&paths, &"a.service".into(), &goes_on, None).expect("written");
        write(&paths, &"b.service".into(), &permit(2), None).expect("written");
        fs::write(paths.permit("c.service"), "").expect("empty");
        assert_eq!(ends_with_lease(&paths), [UnitName::from("b.service")]);
    }

    #[test]
    fn what_rests_on_the_watchdog_is_known_from_the_files() {
        let (_dir, paths) = scratch();
        write(&paths, &"a.service".into(), &permit(1), None).expect("written");
        assert_eq!(rests_on_watchdog(&paths), None);
        let mut watched = permit(2);
        watched.terms.fencing = Fencing::Watchdog;
        write(&paths, &"b.service".into(), &watched, None).expect("written");
        let mut goes_on = permit(3);
        goes_on.terms.on_quorum_loss = OnQuorumLoss::Continue;
        write(&paths, &"c.service".into(), &goes_on, None).expect("written");
        assert_eq!(rests_on_watchdog(&paths), Some(10_000), "two of them stop, 5 s each");
        assert!(is_watched(&paths, &"b.service".into(), &watched));
        assert!(!is_watched(&paths, &"b.service".into(), &Permit { token: Token(9), ..watched }));
        // Also while it is being released.
        set_aside(&paths, &"b.service".into()).expect("set aside");
        assert_eq!(rests_on_watchdog(&paths), Some(10_000));
    }

    #[test]
    fn a_start_that_was_begun_opens_no_gate_and_its_permit_is_known_until_it_is_over() {
        let (_dir, paths) = scratch();
        let unit: UnitName = "galera.service".into();
        let environment = Environment {
            token: Token(7),
            node: "n1".into(),
            peers: Vec::new(),
            start: Start::Join,
            variables: Vec::new(),
        };
        let one = Permit { starts: Starts::One, ..permit(7) };
        write(&paths, &unit, &one, Some(&environment)).expect("written");
        let made = Permit { starts: Starts::Made, ..permit(7) };
        spend(&paths, &unit, &made).expect("spent");
        assert_eq!(load(&paths).expect("loaded"), []);
        assert!(!paths.env(unit.as_str()).exists());
        assert_eq!(load_spent(&paths).expect("loaded"), [(unit.clone(), Some(made.clone()))]);
        let mut ends = made.clone();
        ends.terms.on_quorum_loss = OnQuorumLoss::Stop;
        write(&paths, &unit, &ends, None).expect("new terms");
        assert_eq!(load(&paths).expect("loaded"), [], "new terms open no gate either");
        assert_eq!(ends_with_lease(&paths), std::slice::from_ref(&unit));
        set_aside(&paths, &unit).expect("released");
        assert_eq!(load_spent(&paths).expect("loaded"), []);
        assert_eq!(load_releasing(&paths).expect("loaded"), [(unit.clone(), Some(ends))]);
        forget(&paths, &unit).expect("forgotten");
        assert_eq!(load_releasing(&paths).expect("loaded"), []);
    }

    #[test]
    fn what_is_being_released_opens_no_gate_and_is_known_until_it_is_over() {
        let (_dir, paths) = scratch();
        let unit = UnitName::from("db.service");
        write(&paths, &unit, &permit(7), None).expect("written");
        set_aside(&paths, &unit).expect("set aside");
        set_aside(&paths, &unit).expect("nothing left to set aside");
        assert_eq!(load(&paths).expect("loaded"), []);
        assert_eq!(load_releasing(&paths).expect("loaded"), [(unit.clone(), Some(permit(7)))]);
        assert_eq!(ends_with_lease(&paths), [UnitName::from("db.service")]);
        // A later permit takes its place.
        write(&paths, &unit, &permit(9), None).expect("written");
        assert_eq!(load_releasing(&paths).expect("loaded"), []);
        set_aside(&paths, &unit).expect("set aside");
        forget(&paths, &unit).expect("released");
        assert_eq!(ends_with_lease(&paths), []);
    }

    #[test]
    fn a_permit_that_cannot_be_set_aside_is_removed() {
        let (_dir, paths) = scratch();
        let unit = UnitName::from("db.service");
        write(&paths, &unit, &permit(7), None).expect("written");
        fs::remove_dir(paths.releasing_dir()).expect("gone");
        set_aside(&paths, &unit).expect("removed");
        assert!(!paths.permit("db.service").exists());
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let (_dir, paths) = scratch();
        for name in ["../../etc/x.service", "a/b.service", "x", "", "t@.service"] {
            let unit = UnitName::from(name);
            assert!(write(&paths, &unit, &permit(1), None).is_err(), "{name}");
            remove(&paths, &unit).expect("nothing to remove");
        }
    }
}
