//! One watchdog device, as the kernel's `linux/watchdog.h` has it. The only unsafe code of the daemon is here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
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

/// The machine's devices.
pub trait Hardware: Send {
    /// Whether the device cannot be disarmed once it runs. Not known of every one.
    fn is_irrevocable(&self, path: &Path) -> bool;
    /// Opens a device, which starts it, or feeds it once if it runs.
    fn open(&self, path: &Path) -> Result<Box<dyn Device>, DeviceError>;
    /// Who has a watchdog open, as a remark.
    fn owner(&self) -> String;
}

/// A device that is open, and so runs. Dropped, it runs on.
pub trait Device: Send {
    /// Whether the node can be counted on to be reset by it.
    fn check(&self, path: &Path) -> Result<(), DeviceError>;
    /// Asks for a timeout in seconds. The device may round it: what counts is read back.
    fn set_timeout(&self, seconds: i32) -> io::Result<()>;
    /// The timeout in force, in milliseconds.
    fn timeout_ms(&self) -> io::Result<u64>;
    /// Feeds it.
    fn feed(&mut self) -> io::Result<()>;
    /// Disarms it by the magic close.
    fn disarm(self: Box<Self>) -> io::Result<()>;
}

/// The devices of Linux.
#[derive(Debug)]
pub(super) struct Linux;

#[derive(Debug)]
struct Open {
    file: File,
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It cannot be opened.
    #[error("{} cannot be opened: {source}", path.display())]
    Open {
        /// The device.
        path: PathBuf,
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

impl DeviceError {
    /// Whether somebody else has the device.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == io::ErrorKind::ResourceBusy)
    }

    /// Whether there is no such device.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Hardware for Linux {
    fn is_irrevocable(&self, path: &Path) -> bool {
        let Ok(found) = fs::metadata(path) else { return false };
        is_irrevocable(Path::new("/sys"), found.rdev())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Device>, DeviceError> {
        let opened = OpenOptions::new().write(true).open(path);
        let file = opened.map_err(|source| DeviceError::Open { path: path.to_owned(), source })?;
        Ok(Box::new(Open { file }))
    }

    fn owner(&self) -> String {
        owner()
    }
}

/// As sysfs says it. The first watchdog has a second name, which sysfs tells nothing of.
fn is_irrevocable(sys: &Path, device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let place = match (major, minor) {
        (10, 130) => sys.join("class/watchdog/watchdog0"),
        _ => sys.join(format!("dev/char/{major}:{minor}")),
    };
    fs::read_to_string(place.join("nowayout")).is_ok_and(|text| text.trim() == "1")
}

impl Open {
    fn options(&self) -> io::Result<u32> {
        // SAFETY: WDIOC_GETSUPPORT fills a `struct watchdog_info`, which `Info` is; any bytes are a value of it.
        #[allow(
            unsafe_code,
            reason = "rustix knows no watchdogs; the argument is the kernel's own structure"
        )]
        let info = unsafe { ioctl(self.file.as_fd(), Getter::<GET_SUPPORT, Info>::new()) }?;
        Ok(info.options)
    }
}

impl Device for Open {
    fn check(&self, path: &Path) -> Result<(), DeviceError> {
        let lacks = |what| Err(DeviceError::Lacks { path: path.to_owned(), what });
        match self.options() {
            Err(source) => Err(DeviceError::Ioctl { path: path.to_owned(), source }),
            Ok(options) if options & MAGIC_CLOSE == 0 => {
                lacks("the magic close (WDIOF_MAGICCLOSE): it would be disarmed by the death of convoked")
            }
            Ok(options) if options & SETS_TIMEOUT == 0 => {
                lacks("a timeout that can be set (WDIOF_SETTIMEOUT)")
            }
            Ok(_) => Ok(()),
        }
    }

    fn set_timeout(&self, seconds: i32) -> io::Result<()> {
        let mut value = seconds;
        // SAFETY: WDIOC_SETTIMEOUT reads and writes one int.
        #[allow(unsafe_code, reason = "rustix knows no watchdogs; the argument is one int, read and written")]
        unsafe {
            ioctl(self.file.as_fd(), Updater::<SET_TIMEOUT, i32>::new(&mut value))?;
        }
        Ok(())
    }

    fn timeout_ms(&self) -> io::Result<u64> {
        // SAFETY: WDIOC_GETTIMEOUT writes one int.
        #[allow(unsafe_code, reason = "rustix knows no watchdogs; the argument is one int, written")]
        let seconds = unsafe { ioctl(self.file.as_fd(), Getter::<GET_TIMEOUT, i32>::new()) }?;
        match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Ok(seconds.saturating_mul(1_000)),
            _ => Err(io::Error::other(format!("its timeout reads {seconds} s"))),
        }
    }

    fn feed(&mut self) -> io::Result<()> {
        // Any byte does but the magic one.
        self.file.write_all(b"\0")
    }

    fn disarm(mut self: Box<Self>) -> io::Result<()> {
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
        let missing = Linux.open(&path).map(drop).expect_err("not there");
        assert!(missing.is_missing() && !missing.is_busy());
        let missing = missing.to_string();
        assert!(missing.contains("watchdog cannot be opened: No such file"), "{missing}");
        fs::write(&path, "").expect("a plain file");
        let plain =
            Linux.open(&path).and_then(|device| device.check(&path)).expect_err("a plain file").to_string();
        assert!(plain.contains("does not answer as a watchdog"), "{plain}");
    }

    #[test]
    fn one_that_cannot_be_disarmed_is_known_by_both_of_its_names() {
        let sys = tempfile::tempdir().expect("scratch directory");
        for place in ["class/watchdog/watchdog0", "dev/char/248:1"] {
            fs::create_dir_all(sys.path().join(place)).expect("directory");
            fs::write(sys.path().join(place).join("nowayout"), "1\n").expect("written");
        }
        let of = |major, minor| is_irrevocable(sys.path(), rustix::fs::makedev(major, minor));
        assert!(of(10, 130) && of(248, 1));
        assert!(!of(248, 2), "nothing is known of it");
        fs::write(sys.path().join("dev/char/248:1/nowayout"), "0\n").expect("written");
        assert!(!of(248, 1));
    }
}
