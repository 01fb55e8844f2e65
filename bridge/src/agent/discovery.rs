//! Reads the unit files, and keeps what the generator reads.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use policy::UnitName;
use units::gate;
use units::generator::Gated;
use units::systemd::Systemd;

use super::event::Discovery;
use super::offer::{self, Found};
use super::reconcile::is_trigger;
use crate::atomic;
use crate::paths::Paths;

/// Where a gate of last resort stands. Drop-ins of all directories apply together, in the order of their names; under
/// a name of its own it is masked by nothing that masks the generated one, and it sorts after that. A stronger
/// directory would win nothing, and is what `verify` calls an error.
const MEND_DIR: &str = "run/systemd/system";
/// Its name.
const MEND_FILE: &str = "~convoke-mend.conf";

/// All cluster units of this node, with what the stops of their members take.
pub(super) async fn discover(root: PathBuf, known: Vec<UnitName>, systemd: Option<Systemd>) -> Discovery {
    let read = tokio::task::spawn_blocking(move || read(&root, &known)).await;
    let found = read.unwrap_or_else(|error| {
        tracing::error!(%error, "the unit files could not be read");
        BTreeMap::new()
    });
    let mut members_stop_ms = BTreeMap::new();
    if let Some(systemd) = systemd {
        for (unit, found) in found.iter().filter(|(_, found)| !found.members.is_empty()) {
            members_stop_ms.insert(unit.clone(), members_stop(&systemd, &found.members).await);
        }
    }
    Discovery { found, members_stop_ms }
}

fn read(root: &Path, known: &[UnitName]) -> BTreeMap<UnitName, Found> {
    let mut found: BTreeMap<UnitName, Found> = BTreeMap::new();
    let mut templates = false;
    for unit in units::discover(root) {
        templates |= unit.template;
        if !unit.template {
            found.insert(UnitName(unit.id.clone()), Found::of(&unit));
        }
    }
    if templates {
        // Instances that the cluster knows and no file here names.
        for name in known.iter().filter(|name| name.as_str().contains('@')) {
            if !found.contains_key(name)
                && let Some(unit) = units::unit(root, name.as_str())
                && unit.id == name.as_str()
            {
                found.insert(name.clone(), Found::of(&unit));
            }
        }
    }
    if let Err(error) = units::write::keep_last_good(root) {
        tracing::warn!(error = super::chain(&error), "the generator's output is not kept for the next boot");
    }
    found
}

/// Members stop in two batches, before the unit and after it, each as slow as its slowest.
async fn members_stop(systemd: &Systemd, members: &[String]) -> u64 {
    let (mut first, mut last) = (0, 0);
    for member in members {
        let batch = if is_trigger(member) { &mut first } else { &mut last };
        if let Ok(reading) = systemd.read(member).await {
            *batch = offer::stop_budget_ms(&reading).max(*batch);
        }
    }
    u64::saturating_add(first, last)
}

/// The list of cluster units that this node was ever told of (F12).
#[must_use]
pub fn load_gated(paths: &Paths) -> Gated {
    let mut gated = Gated::default();
    for list in [paths.gated(), paths.gated_copy()] {
        let text = units::read::file(&list).unwrap_or_default();
        gated.join(Gated::parse(&String::from_utf8_lossy(&text)));
    }
    gated
}

/// Writes it, twice: the copy is for generators that run before /var is mounted. Where /etc cannot be written, /var has
/// to be on the file system of the root.
pub(super) fn keep_gated(paths: &Paths, text: &str) -> io::Result<()> {
    atomic::write(&paths.gated(), text.as_bytes(), atomic::PUBLIC)?;
    if let Err(error) = atomic::write(&paths.gated_copy(), text.as_bytes(), atomic::PUBLIC) {
        let file = paths.gated_copy();
        tracing::warn!(file = %file.display(), %error, "no copy of the list of cluster units");
    }
    Ok(())
}

/// Writes the gate of last resort. It is in force after the next reload.
pub(super) fn mend(root: &Path, unit: &UnitName) -> io::Result<()> {
    let kind = gate::Kind::of(unit.as_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let dir = root.join(MEND_DIR).join(format!("{unit}.d"));
    fs::create_dir_all(&dir)?;
    // Without ExecCondition=: where RootDirectory= hides the permit it would shut the unit for good.
    atomic::write(
        &dir.join(MEND_FILE),
        gate::own(kind, gate::Needs { hidden: true, assembled: false }).as_bytes(),
        atomic::PUBLIC,
    )
}

/// Takes the gate of last resort away. That there is none is no error.
pub(super) fn unmend(root: &Path, unit: &UnitName) -> io::Result<()> {
    let dir = root.join(MEND_DIR).join(format!("{unit}.d"));
    match fs::remove_file(dir.join(MEND_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Whatever else somebody put there stays.
    drop(fs::remove_dir(dir));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mended_gate_asserts_the_permit() {
        let root = tempfile::tempdir().expect("scratch directory");
        mend(root.path(), &"db.service".into()).expect("mended");
        let path = root.path().join("run/systemd/system/db.service.d/~convoke-mend.conf");
        let text = fs::read_to_string(&path).expect("written");
        assert!(text.contains("AssertPathExists=/run/convoke/permits/%n\n"), "{text}");
        assert!(mend(root.path(), &"x.device".into()).is_err());
        for _ in 0..2 {
            unmend(root.path(), &"db.service".into()).expect("taken away");
            assert!(!path.parent().expect("directory").exists());
        }
    }

    #[test]
    fn instances_that_only_the_cluster_names_are_found() {
        let root = tempfile::tempdir().expect("scratch directory");
        let dir = root.path().join("etc/systemd/system");
        fs::create_dir_all(&dir).expect("directory");
        let text = "[Service]\nExecStart=/bin/true\n[X-Convoke]\nReplicas=2\n";
        fs::write(dir.join("web@.service"), text).expect("template");
        fs::write(dir.join("db.service"), text).expect("unit");
        let known = ["web@a.service".into(), "other@a.service".into()];
        let found = read(root.path(), &known);
        let names: Vec<&str> = found.keys().map(UnitName::as_str).collect();
        assert_eq!(names, ["db.service", "web@a.service"]);
    }

    #[test]
    fn the_list_is_read_back() {
        let root = tempfile::tempdir().expect("scratch directory");
        let paths = Paths::below(root.path());
        assert_eq!(load_gated(&paths), Gated::default());
        fs::create_dir_all(paths.state_dir()).expect("directory");
        let gated = Gated::parse("db.service\ndb.socket db.service\n");
        keep_gated(&paths, &gated.render()).expect("kept, though there is no place for the copy");
        assert_eq!(load_gated(&paths), gated);
        fs::create_dir_all(paths.gated_copy().parent().expect("directory")).expect("directory");
        keep_gated(&paths, &gated.render()).expect("kept");
        fs::remove_file(paths.gated()).expect("as while /var is not mounted");
        assert_eq!(load_gated(&paths), gated);
    }
}
