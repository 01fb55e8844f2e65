//! Writes down that it is alive: `<CLOCK_MONOTONIC ns> <node> <pid> <ns of its start>` every 5 ms, appended to a file
//! which all nodes share.
//!
//! It decides nothing and knows nothing of clusters. All nodes of the lab share the host's monotonic clock, and an
//! append is atomic, so the file is the truth about when and where it ran. No signal is caught: it ends at once.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Long against the cost of a write (some µs), short against every gap that is measured.
const EVERY: Duration = Duration::from_millis(5);

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: lab-witness FILE")?;
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .with_context(|| format!("cannot open {path}"))?;
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (pid, start) = (std::process::id(), lab::now_ns());
    let mut beat = || file.write_all(format!("{} {node} {pid} {start}\n", lab::now_ns()).as_bytes());
    beat()?;
    tell_systemd();
    loop {
        std::thread::sleep(EVERY);
        beat()?;
    }
}

/// Says that the service is up, now that its first line is written; a start job is done only when it truly runs.
fn tell_systemd() {
    if let (Some(path), Ok(socket)) = (std::env::var_os("NOTIFY_SOCKET"), UnixDatagram::unbound()) {
        let _ = socket.send_to(b"READY=1\n", path);
    }
}
