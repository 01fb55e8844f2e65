//! What tells this machine from another with the same certificate: a copied disk has our identity too (F3).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::paths::Paths;

/// The ids of the installation and of the hardware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// systemd's id of the installation.
    pub machine_id: String,
    /// The firmware's id of the machine. Containers and some boards have none.
    pub product_uuid: Option<String>,
}

impl Machine {
    /// Both ids in one text: what the cluster enrols a machine by (F3).
    #[must_use]
    pub fn text(&self) -> String {
        text_of(&self.machine_id, self.product_uuid.as_deref())
    }

    /// Reads both. A machine without a machine id is not one that systemd has set up.
    ///
    /// # Errors
    /// Where one is there and cannot be read: without it the cluster would take this machine for another.
    pub fn read(paths: &Paths) -> Result<Self, MachineError> {
        let path = paths.machine_id_file();
        let text = fs::read_to_string(&path).map_err(unread(&path))?;
        let machine_id = text.trim().to_owned();
        // systemd writes this word while it is not sure of the id yet.
        if machine_id.is_empty() || machine_id == "uninitialized" {
            return Err(MachineError::Unset { path });
        }
        Ok(Self { machine_id, product_uuid: product_uuid(&paths.product_uuid_file())? })
    }
}

/// Why a machine is not known by its ids.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file of them cannot be read.
    #[error("cannot read `{}`, by which the cluster knows this machine; root has to be able to", path.display())]
    Unread {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// systemd has given the installation no id yet.
    #[error("`{}` holds no id; run `systemd-machine-id-setup`", path.display())]
    Unset {
        /// The file.
        path: PathBuf,
    },
}

fn unread(path: &Path) -> impl FnOnce(io::Error) -> MachineError {
    move |source| MachineError::Unread { path: path.to_owned(), source }
}

fn product_uuid(path: &Path) -> Result<Option<String>, MachineError> {
    match fs::read_to_string(path) {
        Ok(uuid) => Ok(Some(uuid.trim().to_ascii_lowercase()).filter(|uuid| !uuid.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_hosts(path) => Ok(None),
        Err(error) => Err(unread(path)(error)),
    }
}

/// Whether a file belongs to the host of this container, whose root may not read it in any life.
fn is_hosts(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.uid() != rustix::process::geteuid().as_raw())
}

/// The text of a machine that told its ids.
#[must_use]
pub fn text_of(machine_id: &str, product_uuid: Option<&str>) -> String {
    match product_uuid {
        Some(product_uuid) => format!("{machine_id}/{product_uuid}"),
        None => machine_id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_needs_an_installation_and_may_lack_firmware() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let paths = Paths::below(dir.path());
        assert!(Machine::read(&paths).is_err());
        fs::create_dir_all(dir.path().join("etc")).expect("directory");
        fs::write(paths.machine_id_file(), "uninitialized\n").expect("written");
        assert!(Machine::read(&paths).is_err());
        fs::write(paths.machine_id_file(), "0123456789abcdef0123456789abcdef\n").expect("written");
        let machine = Machine::read(&paths).expect("read");
        assert_eq!((machine.machine_id.len(), machine.product_uuid), (32, None));
        let uuid = paths.product_uuid_file();
        fs::create_dir_all(uuid.parent().expect("in a directory")).expect("directory");
        fs::write(&uuid, "4C4C4544-0042\n").expect("written");
        let machine = Machine::read(&paths).expect("read");
        assert_eq!(machine.product_uuid.as_deref(), Some("4c4c4544-0042"));
    }

    #[test]
    fn an_id_that_is_there_and_cannot_be_read_is_not_taken_for_none() {
        for broken in [Paths::machine_id_file, Paths::product_uuid_file] {
            let dir = tempfile::tempdir().expect("scratch directory");
            let paths = Paths::below(dir.path());
            for file in [paths.machine_id_file(), paths.product_uuid_file()] {
                fs::create_dir_all(file.parent().expect("in a directory")).expect("directory");
                fs::write(file, "0123\n").expect("written");
            }
            Machine::read(&paths).expect("read");
            let broken = broken(&paths);
            fs::remove_file(&broken).expect("removed");
            fs::create_dir(&broken).expect("nothing that can be read");
            let error = Machine::read(&paths).expect_err("unread").to_string();
            assert!(error.contains(&*broken.to_string_lossy()), "{error}");
        }
    }
}
