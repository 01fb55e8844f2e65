//! What tells this machine from another with the same certificate: a copied disk has our identity too (F3).

use std::fs;
use std::io;

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
    pub fn read(paths: &Paths) -> io::Result<Self> {
        let machine_id = fs::read_to_string(paths.machine_id_file())?.trim().to_owned();
        // systemd writes this word while it is not sure of the id yet.
        if machine_id.is_empty() || machine_id == "uninitialized" {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the machine has no id; run systemd-machine-id-setup",
            ));
        }
        let uuid = fs::read_to_string(paths.product_uuid_file()).ok();
        let product_uuid = uuid.map(|uuid| uuid.trim().to_ascii_lowercase()).filter(|uuid| !uuid.is_empty());
        Ok(Self { machine_id, product_uuid })
    }
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
    }
}
