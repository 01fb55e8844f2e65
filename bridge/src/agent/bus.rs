//! Which units are started by a call on the system bus (D-Bus activation).
//!
//! The bus asks systemd for the unit that a name's file has as its `SystemdService=`. Such a start looks like a person's, so
//! of a unit with such a name no start is taken for one.

use std::fs;
use std::path::Path;

/// Where the bus looks for names, in its own order.
const FOLDERS: [&str; 5] = [
    "etc/dbus-1/system-services",
    "run/dbus-1/system-services",
    "usr/local/share/dbus-1/system-services",
    "usr/share/dbus-1/system-services",
    "usr/lib/dbus-1/system-services",
];

/// A name on the bus that starts one of these units, in words; a unit has several names where it has aliases.
pub(super) fn name_that_starts(root: &Path, units: &[String]) -> Option<String> {
    let files = FOLDERS.iter().filter_map(|folder| fs::read_dir(root.join(folder)).ok()).flatten().flatten();
    files.map(|entry| entry.path()).find_map(|path| {
        let text = units::read::text(&path).ok()?;
        let of =
            |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)?.trim().strip_prefix('='));
        let service = of("SystemdService")?.trim();
        let name = of("Name")?.trim();
        units.iter().any(|unit| unit == service).then(|| format!("the bus name {name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_belongs_to_the_unit_of_its_file() {
        let root = tempfile::tempdir().expect("scratch directory");
        let folder = root.path().join("usr/share/dbus-1/system-services");
        fs::create_dir_all(&folder).expect("made");
        let text = "[D-BUS Service]\nName=org.example.x\nExec=/bin/false\nSystemdService = dbus-x.service\n";
        fs::write(folder.join("org.example.x.service"), text).expect("written");
        fs::write(folder.join("org.example.y.service"), "[D-BUS Service]\nName=org.example.y\n")
            .expect("written");
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            name_that_starts(root.path(), &names)
        };
        assert_eq!(of(&["x.service", "dbus-x.service"]).as_deref(), Some("the bus name org.example.x"));
        assert_eq!(of(&["x.service"]), None);
        assert_eq!(name_that_starts(Path::new("/no/such"), &["x.service".to_owned()]), None);
    }
}
