//! What `fence_mpath` needs of the node that it runs on, besides its helper.
//!
//! It has `mpathpersist` do its work, passes over that one's words, and says no more than that it could not verify a device; or says
//! success. Seen with multipath-tools 0.9.4: a node with another key in its configuration registers nothing. One without any
//! registers, and then can take nobody's key, and has no path registered that comes back. So what the node lacks is
//! looked up here: its own key, and the daemon. Reads files, runs nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::given::{Given, Remark, Spot};
use super::traps::plain_key;

/// The one agent that this is about.
const AGENT: &str = "fence_mpath";
const FILE: &str = "etc/multipath.conf";
/// What is read after it.
const MORE: &str = "etc/multipath/conf.d";
/// `reservation_key file`: mpathpersist writes down what it registers.
const ANY: &str = "file";
const DAEMON: &str = "multipathd";

/// What the machine below `root` lacks for an agent, with the remedy; `None` if nothing is known. `key` is the one that this node
/// is to register, if it is known.
#[must_use]
pub fn lacks(root: &Path, agent: &str, key: Option<&str>) -> Option<String> {
    if agent != AGENT {
        return None;
    }
    let wanted: BTreeSet<String> = key.map(plain_key).into_iter().collect();
    let (what, remedy) = found(root, &wanted).into_iter().next()?;
    Some(format!("{what}; {remedy}"))
}

/// The same for a device whose settings are given on this node.
#[must_use]
pub fn unprepared(root: &Path, given: &Given) -> Vec<Remark> {
    if given.agent != AGENT {
        return Vec::new();
    }
    // Which of the targets this node is, is not known here.
    let key = |node: &String| {
        let value = given.value(node, "key").or_else(|| given.value(node, "plug"));
        value.map(|(_, value)| plain_key(value))
    };
    let found = found(root, &given.targets.keys().filter_map(key).collect()).into_iter();
    found.map(|(what, remedy)| Remark::warned(Spot::Agent, format!("on this node {what}"), remedy)).collect()
}

/// What is wrong, and what to do; `wanted` are the keys of which this node's has to be one.
fn found(root: &Path, wanted: &BTreeSet<String>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let keys = configured(root);
    let write = match wanted.iter().next() {
        Some(key) if wanted.len() == 1 => format!("write `reservation_key 0x{key}`"),
        _ => "write `reservation_key` with this node's own key".to_owned(),
    };
    let help = format!("{write} into `defaults` of /{FILE} and run `multipathd reconfigure`");
    if keys.is_empty() {
        found.push((
            format!(
                "there is no `reservation_key` in /{FILE}, without which mpathpersist takes nobody's key"
            ),
            help,
        ));
    } else if !keys.contains(ANY) && !wanted.is_empty() && keys.is_disjoint(wanted) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        found.push((
            format!(
                "`reservation_key` in /{FILE} is 0x{}, and mpathpersist registers no other",
                keys.join(" or 0x")
            ),
            help,
        ));
    }
    if !runs(root, DAEMON) {
        found.push((
            format!("no {DAEMON} runs, which makes the maps and registers each path that comes back"),
            format!("run `systemctl enable --now {DAEMON}`"),
        ));
    }
    found
}

/// The keys of multipath's configuration, as disks list them; `file` where it leaves that to mpathpersist.
fn configured(root: &Path) -> BTreeSet<String> {
    let more = fs::read_dir(root.join(MORE)).into_iter().flatten().flatten().map(|entry| entry.path());
    let more = more.filter(|path| path.extension().is_some_and(|end| end == "conf"));
    let texts = std::iter::once(root.join(FILE)).chain(more).filter_map(|path| fs::read_to_string(path).ok());
    texts.flat_map(|text| keys(&text)).collect()
}

/// One setting stands on a line, in `defaults` or for one disk.
fn keys(text: &str) -> Vec<String> {
    let key = |line: &str| {
        let line = line.split(['#', '!']).next().unwrap_or_default();
        let mut words =
            line.split(|c: char| c.is_whitespace() || "{}\"".contains(c)).filter(|word| !word.is_empty());
        words.find(|word| *word == "reservation_key")?;
        let value = words.next()?;
        Some(plain_key(value.strip_suffix(":aptpl").unwrap_or(value)))
    };
    text.lines().filter_map(key).collect()
}

/// Whether a process of that name is there.
fn runs(root: &Path, name: &str) -> bool {
    let processes = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    let mut names = processes.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.any(|comm| comm.trim_end() == name)
}

#[cfg(test)]
mod tests {
    use super::super::given::tests::given;
    use super::*;

    /// A machine with that configuration, on which the daemon runs or does not.
    fn machine(files: &[(&str, &str)], daemon: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files.iter().copied().chain([("proc/7/comm", daemon)]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    #[test]
    fn a_node_without_its_key_or_its_daemon_is_told_what_it_lacks() {
        let own = |text| vec![(FILE, text)];
        let running = "multipathd\n";
        for (files, daemon, said) in [
            (own("defaults {\n\treservation_key 0xc0de0001\n}\n"), running, None),
            (own("defaults { reservation_key \"C0DE0001:aptpl\" }\n"), running, None),
            (own("defaults {\n reservation_key file\n}\n"), running, None),
            (
                own("multipaths {\n multipath {\n  wwid 3600\n  reservation_key 0x0c0de0001 # own\n }\n}\n"),
                running,
                None,
            ),
            (
                vec![
                    (FILE, "defaults {\n}\n"),
                    ("etc/multipath/conf.d/a.conf", "defaults {\nreservation_key 0xc0de0001\n}"),
                ],
                running,
                None,
            ),
            (vec![], running, Some("there is no `reservation_key` in /etc/multipath.conf, without")),
            (
                own("defaults {\n# reservation_key 0xc0de0001\n}\n"),
                running,
                Some("write `reservation_key 0xc0de0001` into `defaults`"),
            ),
            (
                vec![("etc/multipath/conf.d/a.bak", "reservation_key 0xc0de0001")],
                running,
                Some("there is no `reservation_key`"),
            ),
            (
                own("defaults {\n reservation_key 0xc0de0002\n}\n"),
                running,
                Some("is 0xc0de0002, and mpathpersist registers no other"),
            ),
            (
                own("defaults {\n reservation_key 0xc0de0001\n}\n"),
                "multipath\n",
                Some("run `systemctl enable --now multipathd`"),
            ),
        ] {
            let root = machine(&files, daemon);
            let lacking = lacks(root.path(), AGENT, Some("c0de0001"));
            assert_eq!(lacking.is_some(), said.is_some(), "{files:?} {daemon}: {lacking:?}");
            assert!(
                lacking.unwrap_or_default().contains(said.unwrap_or_default()),
                "{files:?} {daemon}: {said:?}"
            );
            assert_eq!(lacks(root.path(), "fence_scsi", Some("c0de0001")), None);
        }
    }

    #[test]
    fn another_nodes_key_is_no_mistake_of_who_fences_it() {
        let root = machine(&[(FILE, "defaults {\n reservation_key 0xc0de0002\n}\n")], "multipathd\n");
        assert_eq!(lacks(root.path(), AGENT, None), None);
    }

    #[test]
    fn a_device_is_warned_of_where_this_node_is_not_ready_for_it() {
        let root = machine(&[(FILE, "defaults {\n reservation_key 0xc0de0002\n}\n")], "sh\n");
        let said = |line| {
            let remarks = unprepared(root.path(), &given(line)).into_iter();
            remarks
                .map(|remark| format!("{:?}: {}; {}", remark.severity, remark.message, remark.help))
                .collect::<Vec<_>>()
        };
        let daemon = "Warning: on this node no multipathd runs, which makes the maps and registers each path that comes back; \
                      run `systemctl enable --now multipathd`";
        assert_eq!(said("fence_mpath n1:plug=c0de0001 n2:key=c0de0002"), [daemon]);
        let other = said("fence_mpath n1:plug=c0de0001 n3:plug=c0de0003");
        assert!(other.len() == 2 && other[0].contains("is 0xc0de0002, and"), "{other:?}");
        assert!(other[0].contains("with this node's own key"), "{other:?}");
        assert_eq!(said("fence_scsi n1:key=c0de0001"), [""; 0]);
    }
}
