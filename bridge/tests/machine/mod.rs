//! A machine of its own for one run of a recipe's program, whose other programs are scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its files: `bin` has the stand-ins, `answers` what they say, and each call of one is a line of `calls`.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    /// One script stands for all of these programs.
    pub(crate) fn with(programs: &[&str], stand_in: &str) -> Machine {
        let machine = Machine { dir: tempfile::tempdir().expect("scratch directory") };
        for name in programs {
            machine.put(&format!("bin/{name}"), stand_in);
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(machine.path("bin").join(name), mode).expect("executable");
        }
        machine.put("calls", "");
        machine
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().canonicalize().expect("real path").join(below)
    }

    pub(crate) fn put(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// A program of the package, in an environment that knows nothing else.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/libexec").join(name));
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .env("ANSWERS", self.path("answers"))
            .env("CONVOKE_SEEN", self.path("seen"));
        command
    }
}

/// What was printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
