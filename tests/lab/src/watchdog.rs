//! Watchdog devices: for each node a file that answers as the kernel's `linux/watchdog.h` has it, served through FUSE.
//!
//! Nodes have it as `/dev/watchdog`. Opening starts it; a write feeds it; the magic character before the close disarms it,
//! and a close without feeds it once more and leaves it running, as the kernel does. When it expires, every process of the
//! node ends at one instant, and the node boots again. It dies with the life that it was started in, as a card does.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fuser::{
    Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, IoctlFlags, LockOwner,
    OpenFlags, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use crate::clock::{now_ns, wait_until};
use crate::fuse::{self, TTL};
use crate::machine;
use crate::place::{Place, node_name};

/// The file in the mounted folder.
const FILE: &str = "watchdog";
const FILE_INODE: INodeNo = INodeNo(2);
/// Before anybody sets one.
const TIMEOUT_MS: u64 = 60_000;
/// How exactly it expires.
const TICK: Duration = Duration::from_millis(2);

const GET_SUPPORT: u32 = 0x8028_5700;
const GET_STATUS: u32 = 0x8004_5701;
const GET_BOOT_STATUS: u32 = 0x8004_5702;
const KEEP_ALIVE: u32 = 0x8004_5705;
const SET_TIMEOUT: u32 = 0xc004_5706;
const GET_TIMEOUT: u32 = 0x8004_5707;
/// It takes a timeout, is fed by an ioctl too, and knows the magic character.
const OPTIONS: u32 = 0x0080 | 0x8000 | 0x0100;

/// Something that happened to a watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogEvent {
    /// When, in monotonic ns.
    pub at_ns: u64,
    /// `opened`, `closed`, `disarmed`, `timeout N` in ms, or `fired`.
    pub what: String,
}

/// What happened to a node's watchdog, oldest first.
pub(crate) fn events(place: &Place, i: usize) -> Vec<WatchdogEvent> {
    let text = fs::read_to_string(log(place, i)).unwrap_or_default();
    let event = |line: &str| {
        let (at, what) = line.split_once(' ')?;
        Some(WatchdogEvent { at_ns: at.parse().ok()?, what: what.to_owned() })
    };
    text.lines().filter_map(event).collect()
}

/// The file that the node has as `/dev/watchdog`.
pub(crate) fn device(place: &Place, i: usize) -> PathBuf {
    dir(place, i).join(FILE)
}

/// Starts the device of a node and waits until it is there. The node is off.
pub(crate) fn start(place: &Place, i: usize) -> Result<()> {
    fs::create_dir_all(dir(place, i))?;
    let program = place.record.program.display().to_string();
    let argv = [program.as_str(), "watchdog", &place.record.name, &node_name(i)];
    place.started(&process(i)).start(&dir(place, i).with_extension("log"), &argv)?;
    let up = wait_until(Duration::from_secs(10), TICK, || device(place, i).exists());
    ensure!(up, "the watchdog of {} does not start; see {}", node_name(i), dir(place, i).display());
    Ok(())
}

/// Ends it, and takes its folder away.
pub(crate) fn end(place: &Place, i: usize) -> Result<()> {
    let ended = place.started(&process(i)).end();
    fuse::unmount(&dir(place, i))?;
    ended
}

fn process(i: usize) -> String {
    format!("watchdog-{}", node_name(i))
}

fn dir(place: &Place, i: usize) -> PathBuf {
    place.run().join("watchdog").join(node_name(i))
}

fn log(place: &Place, i: usize) -> PathBuf {
    place.run().join(format!("watchdog-{}.events", node_name(i)))
}

/// Is the device of a node; in a process of its own.
pub(crate) fn serve(place: &Place, i: usize) -> Result<()> {
    let card = Card { place: Arc::new(place.clone()), index: i, state: Arc::default() };
    let ticking = card.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(TICK);
            if let Err(error) = ticking.look() {
                eprintln!("{} {error:#}", now_ns());
            }
        }
    });
    fuse::serve(card, &dir(place, i), "lab-watchdog")
}

#[derive(Debug)]
struct State {
    timeout_ms: u64,
    open: bool,
    magic: bool,
    /// When it was last fed, and in which life of the node it was started, if it runs.
    fed: Option<(Instant, usize)>,
}

impl Default for State {
    fn default() -> State {
        State { timeout_ms: TIMEOUT_MS, open: false, magic: false, fed: None }
    }
}

impl State {
    fn feed(&mut self) {
        if let Some((at, _)) = &mut self.fed {
            *at = Instant::now();
        }
    }
}

#[derive(Clone, Debug)]
struct Card {
    place: Arc<Place>,
    index: usize,
    state: Arc<Mutex<State>>,
}

impl Card {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: &str) {
        let file = OpenOptions::new().create(true).append(true).open(log(&self.place, self.index));
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{} {what}", now_ns())) {
            eprintln!("{} {error}", now_ns());
        }
    }

    /// How often the node was switched on or booted anew.
    fn life(&self) -> usize {
        let file = self.place.run().join(format!("boots-{}", node_name(self.index)));
        fs::read_to_string(file).map_or(0, |text| text.lines().count())
    }

    /// Resets the node if its time is over.
    fn look(&self) -> Result<()> {
        let mut state = self.state();
        let over = |(at, _): &(Instant, usize)| at.elapsed() >= Duration::from_millis(state.timeout_ms);
        if !state.fed.as_ref().is_some_and(over) {
            return Ok(());
        }
        let Some((_, life)) = state.fed.take() else { return Ok(()) };
        drop(state);
        if life != self.life() || !machine::is_on(&self.place, self.index) {
            return Ok(());
        }
        machine::power_off(&self.place, self.index)?;
        self.note("fired");
        machine::power_on(&self.place, self.index)
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        match inode {
            INodeNo::ROOT => Some(fuse::folder()),
            FILE_INODE => Some(fuse::file(inode, 0)),
            _ => None,
        }
    }
}

impl Filesystem for Card {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(FILE_INODE) {
            Some(file) if parent == INodeNo::ROOT && name == FILE => reply.entry(&TTL, &file, Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(found) => reply.attr(&TTL, &found),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let life = self.life();
        let mut state = self.state();
        if state.open {
            return reply.error(Errno::EBUSY);
        }
        (state.open, state.magic) = (true, false);
        state.fed = Some((Instant::now(), life));
        drop(state);
        self.note("opened");
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NONSEEKABLE);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state();
        state.magic = data.contains(&b'V');
        state.feed();
        reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        state.open = false;
        let what = if state.magic {
            state.fed = None;
            "disarmed"
        } else {
            state.feed();
            "closed"
        };
        drop(state);
        self.note(what);
        reply.ok();
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        command: u32,
        data: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        let mut state = self.state();
        let seconds = i32::try_from(state.timeout_ms / 1_000).unwrap_or(i32::MAX);
        match command {
            GET_SUPPORT => {
                let mut info = [0; 40];
                info[..4].copy_from_slice(&OPTIONS.to_ne_bytes());
                info[8..11].copy_from_slice(b"lab");
                reply.ioctl(0, &info);
            }
            GET_STATUS | GET_BOOT_STATUS => reply.ioctl(0, &0_i32.to_ne_bytes()),
            KEEP_ALIVE => {
                state.feed();
                reply.ioctl(0, &0_i32.to_ne_bytes());
            }
            SET_TIMEOUT => match data.try_into().map(i32::from_ne_bytes) {
                Ok(seconds) if seconds > 0 => {
                    state.timeout_ms = u64::from(seconds.unsigned_abs()) * 1_000;
                    state.feed();
                    drop(state);
                    self.note(&format!("timeout {}", u64::from(seconds.unsigned_abs()) * 1_000));
                    reply.ioctl(0, &seconds.to_ne_bytes());
                }
                _ => reply.error(Errno::EINVAL),
            },
            GET_TIMEOUT => reply.ioctl(0, &seconds.to_ne_bytes()),
            _ => reply.error(Errno::ENOTTY),
        }
    }
}
