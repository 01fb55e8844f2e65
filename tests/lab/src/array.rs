//! A storage array: one disk that all nodes have as `/dev/shared-disk`, each by a path of its own that the array can take from it.
//!
//! The disk is a file of the host's, served through FUSE and past all caches of the nodes. Behind a path that was taken each read and write ends with
//! EIO, also at the descriptor that a frozen process has open. A write is done or refused under the lock under which paths are taken: once the array
//! says `off`, nothing of that node reaches the disk any more. A path that was taken stays so over power cycles.
//!
//! Fence agents speak to it by TCP, one line for each connection: `on`, `off` or `status` and the name of a node, or `list`. The answer is one line too.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fuser::{
    Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use crate::clock::{now_ns, wait_until};
use crate::fuse::{self, TTL};
use crate::host::{Started, call, put};
use crate::place::{ARRAY, Place, Wire, node_name};

/// Where it is asked; the agent has the same default.
const PORT: u16 = 3205;
/// Of the disk, in bytes.
const SIZE: u64 = 1 << 20;
/// For the one line of whoever has connected.
const PATIENCE: Duration = Duration::from_secs(2);

/// The array of a lab that has one.
#[derive(Clone, Debug)]
pub struct Array {
    place: Arc<Place>,
}

impl Array {
    pub(crate) fn new(place: &Arc<Place>) -> Array {
        Array { place: Arc::clone(place) }
    }

    /// Its address in the management network.
    #[must_use]
    pub fn address(&self) -> String {
        self.place.address(Wire::Management, ARRAY)
    }

    /// Whether node `i` has its path.
    #[must_use]
    pub fn is_open(&self, i: usize) -> bool {
        !taken(&self.place, i).exists()
    }

    /// All that is on the disk.
    pub fn read(&self) -> Result<Vec<u8>> {
        fs::read(disk(&self.place)).context("cannot read the shared disk")
    }

    /// How long it thinks before it takes a path away.
    pub fn set_lag(&self, seconds: u64) -> Result<()> {
        put(&lag(&self.place), seconds.to_string())
    }

    /// All paths are there, and it is quick.
    pub(crate) fn restore(&self) -> Result<()> {
        let paths = (1..=self.place.count()).map(|i| taken(&self.place, i));
        paths.chain([lag(&self.place)]).try_for_each(|file| remove(&file))
    }
}

/// What node `i` has as its disk.
pub(crate) fn path(place: &Place, i: usize) -> PathBuf {
    folder(place).join(node_name(i))
}

/// Starts it and waits until the disk is there. All nodes are off.
pub(crate) fn start(place: &Place) -> Result<()> {
    fs::create_dir_all(folder(place))?;
    File::create(disk(place))?.set_len(SIZE)?;
    let address = format!("{}/24", place.address(Wire::Management, ARRAY));
    call("ip", &["address", "replace", &address, "dev", &place.bridge(Wire::Management)])?;
    let log = place.run().join("array.log");
    let program = place.record.program.display().to_string();
    process(place).start(&log, &[&program, "array", &place.record.name])?;
    let up = wait_until(Duration::from_secs(10), Duration::from_millis(2), || path(place, 1).exists());
    ensure!(up, "the storage array does not start; see {}", log.display());
    Ok(())
}

/// Ends it, if there is one.
pub(crate) fn end(place: &Place) -> Result<()> {
    let ended = process(place).end();
    fuse::unmount(&folder(place))?;
    ended
}

fn process(place: &Place) -> Started {
    place.started("array")
}

/// Has each node's path.
fn folder(place: &Place) -> PathBuf {
    place.run().join("array")
}

fn disk(place: &Place) -> PathBuf {
    place.run().join("array.disk")
}

/// Is there while the path of a node is taken.
fn taken(place: &Place, i: usize) -> PathBuf {
    place.run().join(format!("array-{}.taken", node_name(i)))
}

fn lag(place: &Place) -> PathBuf {
    place.run().join("array.lag")
}

/// Removes a file; that it is not there is fine.
fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Is the array; in a process of its own.
pub(crate) fn serve(place: &Place) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(disk(place))?;
    let paths = Paths { place: Arc::new(place.clone()), disk: Arc::new(Mutex::new(file)) };
    let listener = TcpListener::bind((place.address(Wire::Management, ARRAY), PORT))?;
    let asked = paths.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if let Err(error) = stream.map_err(anyhow::Error::from).and_then(|stream| asked.answer(&stream)) {
                eprintln!("{} {error:#}", now_ns());
            }
        }
    });
    fuse::serve(paths, &folder(place), "lab-array")
}

/// The paths to the disk: one file for each node.
#[derive(Clone, Debug)]
struct Paths {
    place: Arc<Place>,
    disk: Arc<Mutex<File>>,
}

impl Paths {
    fn disk(&self) -> MutexGuard<'_, File> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, mut stream: &TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let said = self.command(line.trim()).unwrap_or_else(|error| format!("error: {error:#}"));
        stream.write_all(format!("{said}\n").as_bytes())?;
        Ok(())
    }

    fn command(&self, line: &str) -> Result<String> {
        if line == "list" {
            let names: Vec<String> = (1..=self.place.count()).map(node_name).collect();
            return Ok(names.join(" "));
        }
        let (action, name) = line.split_once(' ').context("an action and a node are to be named")?;
        let node = (1..=self.place.count()).find(|i| node_name(*i) == name);
        let taken = taken(&self.place, node.with_context(|| format!("there is no path `{name}`"))?);
        if action == "off" {
            let seconds = fs::read_to_string(lag(&self.place)).ok().and_then(|text| text.parse().ok());
            std::thread::sleep(Duration::from_secs(seconds.unwrap_or(0)));
        }
        // A write that has begun is over by now, and the next one sees what is changed here.
        let _disk = self.disk();
        match action {
            "off" => put(&taken, "")?,
            "on" => remove(&taken)?,
            "status" => {}
            _ => bail!("unknown: {action}"),
        }
        Ok(if taken.exists() { "off" } else { "on" }.to_owned())
    }

    /// The node whose path it is.
    fn node(&self, inode: INodeNo) -> Option<usize> {
        (1..=self.place.count()).find(|i| inode_of(*i) == inode)
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        if inode == INodeNo::ROOT {
            return Some(fuse::folder());
        }
        self.node(inode).map(|_| fuse::file(inode, SIZE))
    }

    fn get(&self, inode: INodeNo, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let node = self.node(inode).ok_or(Errno::ENOENT)?;
        let disk = self.disk();
        if taken(&self.place, node).exists() {
            return Err(Errno::EIO);
        }
        let size = SIZE.saturating_sub(offset).min(u64::from(size));
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        disk.read_exact_at(&mut bytes, offset).map_err(|_| Errno::EIO)?;
        Ok(bytes)
    }

    fn put(&self, inode: INodeNo, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let node = self.node(inode).ok_or(Errno::ENOENT)?;
        let disk = self.disk();
        if taken(&self.place, node).exists() {
            return Err(Errno::EIO);
        }
        if offset.saturating_add(data.len() as u64) > SIZE {
            return Err(Errno::ENOSPC);
        }
        disk.write_all_at(data, offset).map_err(|_| Errno::EIO)?;
        Ok(u32::try_from(data.len()).unwrap_or(u32::MAX))
    }
}

/// That of the folder is 1.
fn inode_of(i: usize) -> INodeNo {
    INodeNo(1 + i as u64)
}

impl Filesystem for Paths {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found =
            (1..=self.place.count()).find(|i| parent == INodeNo::ROOT && name == node_name(*i).as_str());
        match found.and_then(|i| self.attributes(inode_of(i))) {
            Some(file) => reply.entry(&TTL, &file, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(found) => reply.attr(&TTL, &found),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// Past the node's cache: a write is over when it is on the disk.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.get(inode, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.put(inode, offset, data) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(error),
        }
    }
}
