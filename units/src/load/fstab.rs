//! Which mounts `/etc/fstab` makes systemd need at boot.
//!
//! Read at the source, because the units made from it may not exist yet when our generator runs.

use std::collections::BTreeMap;

use super::root::Root;
use crate::diagnostic::Span;
use crate::name::mount_unit;

/// What fstab says of one mount or swap unit.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) span: Span,
    /// `local-fs.target` requires it and waits for it: no `noauto`, `nofail`, `_netdev` or automount.
    pub(crate) needed: bool,
    /// Mounted at boot at all.
    pub(crate) auto: bool,
}

/// File systems that systemd takes for remote without being told; they count as `_netdev`.
const REMOTE: &[&str] = &[
    "afs",
    "ceph",
    "cifs",
    "smb3",
    "smbfs",
    "sshfs",
    "ncpfs",
    "ncp",
    "nfs",
    "nfs4",
    "gfs",
    "gfs2",
    "glusterfs",
    "pvfs2",
    "ocfs2",
    "lustre",
    "davfs",
    "9p",
];

/// The mount units of fstab by name. Swap has no place in a path, so its unit names are not derived.
pub(crate) fn read(root: &Root) -> BTreeMap<String, Line> {
    let path = "/etc/fstab";
    let bytes = root.read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut out = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, place, kind, ..] = fields[..] else { continue };
        if fields[0].starts_with('#') || !place.starts_with('/') {
            continue;
        }
        let options: Vec<&str> = fields.get(3).copied().unwrap_or("").split(',').collect();
        let has = |wanted: &str| options.contains(&wanted);
        let remote = has("_netdev") || REMOTE.contains(&kind.strip_prefix("fuse.").unwrap_or(kind));
        let automount = has("x-systemd.automount") || has("comment=systemd.automount");
        let auto = !has("noauto") && !automount;
        let span = Span {
            file: path.to_owned(),
            line: number as u32 + 1,
            column: 1,
            end: line.chars().count() as u32 + 1,
            source: line.to_owned(),
        };
        let needed = auto && !has("nofail") && !remote;
        out.insert(mount_unit(&unquote(place)), Line { span, needed, auto });
    }
    out
}

/// fstab writes a blank as `\040` and so on.
fn unquote(field: &str) -> String {
    let mut out = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| tail.get(..3)).flatten();
        let code =
            octal.and_then(|o| std::str::from_utf8(o).ok()).and_then(|o| u8::from_str_radix(o, 8).ok());
        match code {
            Some(code) => {
                out.push(code);
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
