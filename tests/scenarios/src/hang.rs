//! A disk that does not answer.

use std::time::Duration;

use anyhow::Result;

use crate::Cluster;

/// A file system that never answers: who looks into it cannot even be killed, as on a dead NFS server or disk. It lets go
/// when the service ends. Mounted on a file, it is that file.
const HANG: &str = r#"
import ctypes, os, struct, sys
place = sys.argv[1]
if not os.path.exists("/dev/fuse"):
    os.mknod("/dev/fuse", 0o020600, os.makedev(10, 229))
mode = "100600" if os.path.isfile(place) else "40000"
if mode == "40000":
    os.makedirs(place, exist_ok=True)
fd = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={fd},rootmode={mode},user_id=0,group_id=0".encode()
if libc.mount(b"hang", place.encode(), b"fuse", 0, options):
    raise OSError(ctypes.get_errno(), "mount")
while True:
    ask = os.read(fd, 1 << 20)
    _, code, unique = struct.unpack_from("=IIQ", ask)
    if code == 26:
        answer = struct.pack("=IIIIHHII", 7, 31, 0, 0, 1, 1, 4096, 1).ljust(64, b"\0")
        os.write(fd, struct.pack("=IiQ", 16 + len(answer), 0, unique) + answer)
"#;

impl Cluster {
    /// From now on whoever looks at `place` on node `i`, or below it, hangs.
    pub fn hang(&self, i: usize, place: &str) -> Result<()> {
        self.unhang(i, place)?;
        self.node(i).write("/root/hang.py", HANG)?;
        let begin =
            format!("systemd-run --quiet --collect --unit=hang /usr/bin/python3 /root/hang.py {place}");
        self.ok(i, &begin)?;
        self.wait_for("the hanging file system is there", Duration::from_secs(10), || {
            let there = self.run(i, &format!("grep -q '^hang {place} fuse ' /proc/mounts"))?;
            Ok(there.ok().then_some(()))
        })
    }

    /// Ends [`Self::hang`], with errors for whoever waits.
    pub fn unhang(&self, i: usize, place: &str) -> Result<()> {
        let end = format!(
            "systemctl stop hang 2>/dev/null; while grep -q '^hang {place} ' /proc/mounts; do umount -l {place}; done"
        );
        self.ok(i, &end).map(drop)
    }
}
