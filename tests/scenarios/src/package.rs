//! Finds the package under test.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};

/// `$CONVOKE_DEB`, or the newest package in `target/debian`.
///
/// # Errors
/// There is none; the text says how to make one.
pub fn package() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CONVOKE_DEB").map(PathBuf::from) {
        ensure!(path.exists(), "$CONVOKE_DEB names {}, which is not there", path.display());
        return Ok(path);
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debian");
    let newest = std::fs::read_dir(&dir).ok().and_then(|entries| {
        let debs = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "deb"));
        let dated = debs.filter_map(|p| Some((p.metadata().ok()?.modified().ok()?, p)));
        dated.max_by_key(|(at, _): &(SystemTime, PathBuf)| *at).map(|(_, path)| path)
    });
    newest.with_context(|| format!("no package in {}: run `make deb` first", dir.display()))
}
