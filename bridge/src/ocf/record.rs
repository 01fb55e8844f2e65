//! What was started, kept until it is stopped: a stop must know what the start knew, whatever was written into the file since.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::atomic;

/// Where records are, below a root: they end with the boot, as what they are of does.
const DIRECTORY: &str = "run/convoke-ocf";

/// One resource that may be there on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// `ocf:heartbeat:IPaddr2`
    pub(super) agent: String,
    /// Its environment.
    pub(super) variables: BTreeMap<String, String>,
    /// How long `stop` may take.
    pub(super) stop: Duration,
    /// How long `monitor` may take.
    pub(super) monitor: Duration,
    /// How often it is looked at.
    pub(super) interval: Duration,
}

fn path(root: &Path, instance: &str) -> PathBuf {
    root.join(DIRECTORY).join(format!("{instance}.json"))
}

impl Record {
    /// The record of an instance; `None` if nothing of it can be there.
    pub(super) fn read(root: &Path, instance: &str) -> io::Result<Option<Self>> {
        match std::fs::read(path(root, instance)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps it. Parameters may be secret.
    pub(super) fn keep(&self, root: &Path, instance: &str) -> io::Result<()> {
        let path = path(root, instance);
        atomic::create_private_dir(&root.join(DIRECTORY))?;
        atomic::write(&path, &serde_json::to_vec(self).map_err(io::Error::other)?, 0o600)
    }

    pub(super) fn remove(root: &Path, instance: &str) -> io::Result<()> {
        atomic::remove(&path(root, instance))
    }
}
