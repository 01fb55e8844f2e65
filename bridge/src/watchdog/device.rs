//! One watchdog device, as the kernel's `linux/watchdog.h` has it. The only unsafe code of the daemon is here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::ioctl::{Getter, Opcode, Updater, ioctl, opcode};

/// The device takes a timeout.
const SETS_TIMEOUT: u32 = 0x0080;
/// It runs on when it is closed without the magic character, however its owner ended.
const MAGIC_CLOSE: u32 = 0x0100;

const GET_SUPPORT: Opcode = opcode::read::<Info>(b'W', 0);
const SET_TIMEOUT: Opcode = opcode::read_write::<i32>(b'W', 6);
const GET_TIMEOUT: Opcode = opcode::read::<i32>(b'W', 7);

/// `struct watchdog_info`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

/// A device that is open, and so runs.
#[derive(Debug)]
pub(super) struct Device {
    file: File,
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeviceError {
    /// It cannot be opened.
    #[error("{} cannot be opened: {source}{}", path.display(), owner.as_deref().unwrap_or_default())]
    Open {
        /// The device.
        path: PathBuf,
        /// Who has it, and what to do, if that is known.
        owner: Option<String>,
        /// What the system said.
        source: io::Error,
    },
    /// It is no watchdog, or does not answer like one.
    #[error("{} does not answer as a watchdog: {source}", path.display())]
    Ioctl {
        /// The device.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It would be disarmed by the death of the daemon.
    #[error("{} lacks {what}", path.display())]
    Lacks {
        /// The device.
        path: PathBuf,
        /// What.
        what: &'static str,
    },
}

impl Device {
    /// Opens a device, which starts it, or feeds it once if it runs. Opened and found unusable, it is disarmed.
    pub(super) fn open(path: &Path) -> Result<Self, DeviceError> {
        let file = OpenOptions::new().write(true).open(path).map_err(|source| DeviceError::Open {
            path: path.to_owned(),
            owner: (source.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error())).then(owner),
            source,
        })?;
        let device = Self { file };
        let fault = match device.options() {
            Err(source) => DeviceError::Ioctl { path: path.to_owned(), source },
            Ok(options) if options & MAGIC_CLOSE == 0 => DeviceError::Lacks {
                path: path.to_owned(),
                what: "the magic close (WDIOF_MAGICCLOSE): it would be disarmed by the death of convoked",
            },
            Ok(options) if options & SETS_TIMEOUT == 0 => DeviceError::Lacks {
                path: path.to_owned(),
                what: "a timeout that can be set (WDIOF_SETTIMEOUT)",
            },
            Ok(_) => return Ok(device),
        };
        drop(device.disarm());
        Err(fault)
    }

    fn options(&self) -> io::Result<u32> {
        // SAFETY: WDIOC_GETSUPPORT fills a `struct watchdog_info`, which `Info` is; any bytes are a value of it.
        #[allow(
            unsafe_code,
            reason = "rustix knows no watchdogs; the argument is the kernel's own structure"
        )]
        let info = unsafe { ioctl(self.file.as_fd(), Getter::<GET_SUPPORT, Info>::new()) }?;
        Ok(info.options)
    }

    /// Asks for a timeout in seconds. The device may round it: what counts is read back.
    pub(super) fn set_timeout(&self, seconds: i32) -> io::Result<()> {
        let mut value = seconds;
        // SAFETY: WDIOC_SETTIMEOUT reads and writes one int.
        #[allow(unsafe_code, reason = "rustix knows no watchdogs; the argument is one int, read and written")]
        unsafe {
            ioctl(self.file.as_fd(), Updater::<SET_TIMEOUT, i32>::new(&mut value))?;
        }
        Ok(())
    }

    /// The timeout in force, in milliseconds.
    pub(super) fn timeout_ms(&self) -> io::Result<u64> {
        // SAFETY: WDIOC_GETTIMEOUT writes one int.
        #[allow(unsafe_code, reason = "rustix knows no watchdogs; the argument is one int, written")]
        let seconds = unsafe { ioctl(self.file.as_fd(), Getter::<GET_TIMEOUT, i32>::new()) }?;
        match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Ok(seconds.saturating_mul(1_000)),
            _ => Err(io::Error::other(format!("its timeout reads {seconds} s"))),
        }
    }

    /// Feeds it. Any byte does but the magic one.
    pub(super) fn feed(&mut self) -> io::Result<()> {
        self.file.write_all(b"\0")
    }

    /// Disarms it by the magic close.
    pub(super) fn disarm(mut self) -> io::Result<()> {
        self.file.write_all(b"V")
    }
}

/// Who has a watchdog open, as a remark.
fn owner() -> String {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = processes.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        let has = open.any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("/dev/watchdog"))
        });
        has.then_some(pid)
    });
    match found.min() {
        Some(1) => " (systemd itself feeds it: set RuntimeWatchdogSec=0 in /etc/systemd/system.conf and run `systemctl \
                    daemon-reexec`, or name another device in /etc/convoke/convoke.toml)"
            .to_owned(),
        Some(pid) => {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!(" (process {pid}, {}, has it)", name.trim())
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_kernel_s() {
        // As `strace` shows them: WDIOC_GETSUPPORT, WDIOC_SETTIMEOUT, WDIOC_GETTIMEOUT.
        assert_eq!([GET_SUPPORT, SET_TIMEOUT, GET_TIMEOUT], [0x8028_5700, 0xc004_5706, 0x8004_5707]);
    }

    #[test]
    fn what_is_no_watchdog_is_refused_with_its_name() {
        let dir = tempfile::tempdir().expect("scratch directory");
        let path = dir.path().join("watchdog");
        let missing = Device::open(&path).expect_err("not there").to_string();
        assert!(missing.contains("watchdog cannot be opened: No such file"), "{missing}");
        fs::write(&path, "").expect("a plain file");
        let plain = Device::open(&path).expect_err("a plain file").to_string();
        assert!(plain.contains("does not answer as a watchdog"), "{plain}");
    }
}
