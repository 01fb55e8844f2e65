//! Decides where every file of a node lies, below one root.
//!
//! The root is `/` on a real node and a scratch directory in tests. Knows names only: it opens nothing,
//! creates nothing, and does not know what the files mean.

use std::path::{Path, PathBuf};

/// The places of one node's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self::below("/")
    }
}

impl Paths {
    /// All paths below `root`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// This node's own settings, written by people: `/etc/convoke/convoke.toml`.
    pub fn config_file(&self) -> PathBuf {
        self.root.join("etc/convoke/convoke.toml")
    }

    /// What survives a reboot: `/var/lib/convoke`.
    pub fn state_dir(&self) -> PathBuf {
        self.root.join("var/lib/convoke")
    }

    /// Who this node is. The directory appears by one rename, so it is complete or absent.
    pub fn identity_dir(&self) -> PathBuf {
        self.state_dir().join("identity")
    }

    /// Where an identity is prepared before that rename; what is found here was never in force.
    pub fn identity_staging_dir(&self) -> PathBuf {
        self.state_dir().join("identity.new")
    }

    /// Cluster, node and role in words: `identity/identity.toml`.
    pub fn identity_file(&self) -> PathBuf {
        self.identity_dir().join("identity.toml")
    }

    /// The cluster's certificate: `identity/ca.crt`.
    pub fn ca_cert(&self) -> PathBuf {
        self.identity_dir().join("ca.crt")
    }

    /// The cluster's signing key, on voters only: `identity/ca.key`.
    pub fn ca_key(&self) -> PathBuf {
        self.identity_dir().join("ca.key")
    }

    /// This node's certificate: `identity/node.crt`.
    pub fn node_cert(&self) -> PathBuf {
        self.identity_dir().join("node.crt")
    }

    /// This node's private key, which never leaves it: `identity/node.key`.
    pub fn node_key(&self) -> PathBuf {
        self.identity_dir().join("node.key")
    }

    /// The Raft log, vote and snapshot.
    pub fn store_file(&self) -> PathBuf {
        self.state_dir().join("raft.redb")
    }

    /// Why this node, which was a voter, votes no more (F20).
    pub fn set_aside_file(&self) -> PathBuf {
        self.state_dir().join("set-aside")
    }

    /// Every cluster unit that this node was ever told of; the generator gates them all (F12).
    pub fn gated(&self) -> PathBuf {
        self.state_dir().join("gated")
    }

    /// The same for generators that run before /var is mounted.
    pub fn gated_copy(&self) -> PathBuf {
        self.root.join("etc/convoke/gated")
    }

    /// Operators' local stops that the cluster has not answered yet (F10).
    pub fn wishes_dir(&self) -> PathBuf {
        self.state_dir().join("wishes")
    }

    /// The last known nodes and their addresses, so that a restarted agent finds a voter.
    pub fn peers_file(&self) -> PathBuf {
        self.state_dir().join("peers.toml")
    }

    /// What a reboot voids: `/run/convoke`.
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run/convoke")
    }

    /// The directory of permit files, which the gate's assertions name.
    pub fn permits_dir(&self) -> PathBuf {
        self.run_dir().join("permits")
    }

    /// The permit file of one unit, under systemd's own name of it.
    pub fn permit(&self, unit: &str) -> PathBuf {
        self.permits_dir().join(unit)
    }

    /// Where a permit file lies while its unit is being released: out of the gate's sight, and known to the next daemon.
    pub fn releasing_dir(&self) -> PathBuf {
        self.run_dir().join("releasing")
    }

    /// Where the permit of a start that is made once lies from when it was begun: out of the gate's sight.
    pub fn spent_dir(&self) -> PathBuf {
        self.run_dir().join("spent")
    }

    /// What was begun through fence devices, which a restarted daemon does not run again.
    pub fn begun_dir(&self) -> PathBuf {
        self.run_dir().join("begun")
    }

    /// The directory of environment files of started units.
    pub fn env_dir(&self) -> PathBuf {
        self.run_dir().join("env")
    }

    /// The environment file of one unit. systemd takes `EnvironmentFile=` for a pattern, in which a backslash is no part
    /// of the name.
    pub fn env(&self, unit: &str) -> PathBuf {
        self.env_dir().join(unit.replace('\\', ""))
    }

    /// The highest released token of each unit and the highest state seen (F2).
    pub fn floors_file(&self) -> PathBuf {
        self.run_dir().join("floors")
    }

    /// The end of the lease, which a restarted daemon honours (F8).
    pub fn lease_file(&self) -> PathBuf {
        self.run_dir().join("lease")
    }

    /// The watchdog that runs, which a restarted daemon takes over (F17).
    pub fn watchdog_file(&self) -> PathBuf {
        self.run_dir().join("watchdog")
    }

    /// The private socket that works when the system bus does not.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("convoked.sock")
    }

    /// systemd's identity of this installation: `/etc/machine-id`.
    pub fn machine_id_file(&self) -> PathBuf {
        self.root.join("etc/machine-id")
    }

    /// The firmware's identity of this machine, where it has one.
    pub fn product_uuid_file(&self) -> PathBuf {
        self.root.join("sys/class/dmi/id/product_uuid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_and_the_daemon_mean_the_same_permit_file() {
        // gate.md fixes this name; the generator writes it into every drop-in.
        assert_eq!(
            Paths::default().permit(r"foo@a\x2db.service"),
            Path::new(r"/run/convoke/permits/foo@a\x2db.service")
        );
    }

    #[test]
    fn the_environment_of_a_unit_is_found_where_systemd_looks_for_it() {
        // Its pattern is `/run/convoke/env/%n`.
        assert_eq!(
            Paths::default().env(r"foo@a\x2db.service"),
            Path::new("/run/convoke/env/foo@ax2db.service")
        );
    }

    #[test]
    fn a_test_root_holds_everything() {
        let paths = Paths::below("/scratch");
        for path in
            [paths.config_file(), paths.store_file(), paths.socket(), paths.ca_key(), paths.lease_file()]
        {
            assert!(path.starts_with("/scratch"), "{path:?}");
        }
    }
}
