//! Which life of the machine this is (F35).

use std::fs;
use std::io;

use policy::Incarnation;
use units::systemd::Systemd;

use crate::paths::Paths;

/// Why the life has no name.
#[derive(Debug, thiserror::Error)]
pub enum IncarnationError {
    /// The kernel's files cannot be read.
    #[error("cannot read {path}")]
    Kernel {
        /// Which.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel's file has another shape.
    #[error("{path} has an unexpected form")]
    Form {
        /// Which.
        path: String,
    },
    /// PID 1 did not say how often it was soft-rebooted.
    #[error("systemd did not tell its soft reboots")]
    Systemd(#[source] units::systemd::Error),
}

/// The kernel's id of this boot.
///
/// # Errors
/// When the kernel does not tell.
pub fn boot_id(paths: &Paths) -> Result<String, IncarnationError> {
    let text = read(paths, "proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// `boot_id/start of PID 1/soft reboots`: kexec makes a new boot id, a container a new PID 1, and a soft reboot counts.
///
/// # Errors
/// When the kernel or PID 1 does not tell.
pub async fn incarnation(paths: &Paths, systemd: &Systemd) -> Result<Incarnation, IncarnationError> {
    let boot = boot_id(paths)?;
    let stat = read(paths, "proc/1/stat")?;
    let start = start_time(&stat).ok_or(IncarnationError::Form { path: "/proc/1/stat".to_owned() })?;
    let soft = systemd.soft_reboots().await.map_err(IncarnationError::Systemd)?;
    Ok(Incarnation(format!("{boot}/{start}/{soft}")))
}

fn read(paths: &Paths, name: &str) -> Result<String, IncarnationError> {
    fs::read_to_string(paths.root().join(name))
        .map_err(|source| IncarnationError::Kernel { path: format!("/{name}"), source })
}

/// Field 22 of proc(5)'s stat. The second field, the name, may hold blanks and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_behind_any_name() {
        let tail = "S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 98";
        assert_eq!(start_time(&format!("1 (systemd) {tail}")), Some(4711));
        assert_eq!(start_time(&format!("1 (a) b (c) {tail}")), Some(4711));
        assert_eq!(start_time("1 (systemd) S 0"), None);
    }
}
