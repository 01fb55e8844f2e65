//! Which program makes this voter's state.
//!
//! Another version may know fields of the state that this one does not, so only what one program made can be compared byte by
//! byte. Versions with the same number may have been built of different sources: the file itself is asked.

use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;

use ring::digest::{Context, SHA256};
use tracing::warn;

use crate::pki::hex;

/// The running program, whatever an upgrade has put in its place meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// SHA-256 of this program's file; `None` where it cannot be read.
pub(super) fn program() -> Option<String> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            sum(PROGRAM)
                .inspect_err(|error| {
                    warn!(%error, "this program cannot be read: its state is compared with nobody's");
                })
                .ok()
        })
        .clone()
}

fn sum(path: &str) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(context.finish().as_ref())),
            read => context.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_file() {
        assert_eq!(program().expect("readable").len(), 64);
        assert!(sum("/nowhere").is_err());
    }
}
