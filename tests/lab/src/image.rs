//! Root file systems of the nodes: one per Debian, made once by mmdebstrap and then only read.
//!
//! An image is named after its recipe, so a changed recipe makes a new one and an unfinished one is never used. The
//! packages come from wherever the host's own package manager gets them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::host::{Lock, digest, put, remove_tree, say};
use crate::place::cache_dir;

/// The Debian of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Debian 12, systemd 252.
    Bookworm,
    /// Debian 13, systemd 257.
    Trixie,
}

/// What every node has, whatever the Debian.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,nftables,procps,iputils-ping,iputils-arping,netcat-openbsd,\
    ipmitool,snmp,python3,postgresql,ca-certificates,less";
const CUSTOMIZE: &str = include_str!("../files/customize");
/// What is done beyond that where a node has more packages; apart from it, so that a change leaves the plain image alone.
const CUSTOMIZE_MORE: &str = include_str!("../files/customize-more");

impl Suite {
    /// Both, oldest first.
    pub const ALL: [Suite; 2] = [Suite::Bookworm, Suite::Trixie];

    /// Debian's code name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
        }
    }

    /// The fence agents were one package in Debian 12, and are one package each since. Resource agents are tried on one of the two.
    fn agents(self) -> &'static str {
        match self {
            Suite::Bookworm => "fence-agents,resource-agents",
            Suite::Trixie => "fence-agents-ipmilan",
        }
    }
}

impl std::str::FromStr for Suite {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Suite> {
        match text {
            "bookworm" | "12" => Ok(Suite::Bookworm),
            "trixie" | "13" => Ok(Suite::Trixie),
            _ => bail!("`{text}` is no Debian of the lab: bookworm or trixie"),
        }
    }
}

/// A root file system that is complete and never written to.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its Debian.
    pub suite: Suite,
    /// Its folder.
    pub root: PathBuf,
}

impl Image {
    /// The image of a Debian, made now if it is not there: about a minute. With `more` packages it is another image, so
    /// that only those pay for them who ask.
    pub fn of(suite: Suite, more: &[String]) -> Result<Image> {
        let mut include = format!("{PACKAGES},{}", suite.agents());
        for package in more {
            include.push(',');
            include.push_str(package);
        }
        let customize = [CUSTOMIZE, if more.is_empty() { "" } else { CUSTOMIZE_MORE }].concat();
        let key = digest(&[b"2", suite.name().as_bytes(), include.as_bytes(), customize.as_bytes()])?;
        let dir = cache_dir().join("images");
        let name = format!("{}-{key}", suite.name());
        let root = dir.join(&name);
        if !root.exists() {
            let _lock = Lock::wait(&dir.join(format!("{}.lock", suite.name())))?;
            if !root.exists() {
                build(suite, &include, &customize, &dir, &name)?;
                forget_old(&dir, suite, &root)?;
            }
        }
        // Its date says when it was last used.
        let _ = fs::File::open(&root)?.set_modified(SystemTime::now());
        Ok(Image { suite, root })
    }

    /// The images of several Debians, made at the same time.
    pub fn all_of(suites: &[Suite], more: &[String]) -> Result<Vec<Image>> {
        std::thread::scope(|scope| {
            let makers: Vec<_> = suites.iter().map(|&s| scope.spawn(move || Self::of(s, more))).collect();
            makers.into_iter().map(|m| m.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
        })
    }

    /// Name of the image, which names its recipe.
    pub(crate) fn key(&self) -> String {
        self.root.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// Removes images of older recipes that nobody used for a day.
fn forget_old(dir: &Path, suite: Suite, new: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let day = SystemTime::now() - Duration::from_secs(86400);
    for path in fs::read_dir(dir)?.flatten().map(|e| e.path()) {
        let ours = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(suite.name()));
        let old = path.is_dir() && path != new && fs::metadata(&path)?.modified()? < day;
        if ours && old && !mounts.contains(&path.display().to_string()) {
            remove_tree(&path)?;
        }
    }
    Ok(())
}

/// Makes the image beside its place and then moves it there.
fn build(suite: Suite, include: &str, customize: &str, dir: &Path, name: &str) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "the lab needs root");
    let (part, log, hook) =
        (dir.join(format!("{name}.part")), dir.join(format!("{name}.log")), dir.join(format!("{name}.hook")));
    remove_tree(&part)?;
    put(&hook, customize)?;
    say(&format!("making the {} image; log: {}", suite.name(), log.display()));
    let begin = Instant::now();
    let out = fs::File::create(&log)?;
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--variant=minbase", "--mode=root", "--include", include])
        .args(["--aptopt=Apt::Install-Recommends \"false\"", "--aptopt=Acquire::Retries \"3\""])
        .args(["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"])
        .args([
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        ])
        .arg(format!("--customize-hook=sh {} \"$1\"", hook.display()))
        .arg(suite.name())
        .arg(&part);
    if let Some(mirror) = std::env::var_os("CONVOKE_LAB_MIRROR") {
        command.arg(mirror);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .context("cannot run mmdebstrap; run tests/lab/setup first")?;
    let mut spoken = String::new();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(200));
        let text = fs::read_to_string(&log).unwrap_or_default();
        if let Some(line) = text.lines().rfind(|l| l.starts_with("I: ")).filter(|l| *l != spoken) {
            say(&format!("  {:<8} {:>3} s  {}", suite.name(), begin.elapsed().as_secs(), &line[3..]));
            spoken = line.to_owned();
        }
    };
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(15).collect();
        bail!("mmdebstrap: {status}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    fs::rename(&part, dir.join(name))?;
    let _ = fs::remove_file(hook);
    say(&format!("made the {} image in {} s", suite.name(), begin.elapsed().as_secs()));
    Ok(())
}
