//! What lies between the image and a node's own disk: the lab's helpers, the package under test, and a test's files.
//!
//! The package is really installed, by dpkg in a chroot, once per content; all nodes then share the result read-only.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use crate::host::{Lock, call, digest, own_program, put, remove_tree, say};
use crate::image::{Image, Suite};
use crate::place::cache_dir;

/// A file to be put into all nodes.
#[derive(Clone, Debug)]
pub struct ExtraFile {
    /// Absolute path in the node.
    pub path: PathBuf,
    /// Permissions, such as 0o644.
    pub mode: u32,
    /// Its bytes.
    pub content: Vec<u8>,
}

impl ExtraFile {
    /// A text file that all may read.
    pub fn text(path: impl Into<PathBuf>, content: impl Into<String>) -> ExtraFile {
        ExtraFile { path: path.into(), mode: 0o644, content: content.into().into_bytes() }
    }

    /// A program that is a text.
    pub fn script(path: impl Into<PathBuf>, content: impl Into<String>) -> ExtraFile {
        ExtraFile { mode: 0o755, ..ExtraFile::text(path, content) }
    }

    /// A program: a copy of one of the host.
    pub fn program(path: impl Into<PathBuf>, from: &Path) -> Result<ExtraFile> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok(ExtraFile { path: path.into(), mode: 0o755, content })
    }
}

/// A disk's read-only part.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its Debian.
    pub suite: Suite,
    /// Lower folders for overlayfs, uppermost first.
    pub lower: Vec<PathBuf>,
}

/// Layers kept per Debian; older ones that no node uses are removed when a new one is made.
const KEPT: usize = 6;

const INSTALL: &str = r#"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
mount --rbind /dev "$4/dev"
mount -t proc proc "$4/proc"
mount -t tmpfs tmpfs "$4/run"
mount -t tmpfs tmpfs "$4/tmp"
cp "$5" "$4/tmp/product.deb"
exec chroot "$4" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    dpkg --install --force-confnew /tmp/product.deb </dev/null
"#;

impl Layer {
    /// The image with the lab's helpers, `deb` installed (if any) and `extra` written over it.
    pub fn of(image: &Image, deb: Option<&Path>, extra: &[ExtraFile]) -> Result<Layer> {
        let suite = image.suite;
        let mut files = own_files()?;
        files.extend_from_slice(extra);
        let package = deb
            .map(|p| fs::read(p).with_context(|| format!("cannot read the package {}", p.display())))
            .transpose()?;
        let mut parts: Vec<Vec<u8>> =
            vec![image.key().into_bytes(), INSTALL.into(), package.unwrap_or_default()];
        for f in &files {
            parts.push(format!("{} {:o}", f.path.display(), f.mode).into_bytes());
            parts.push(f.content.clone());
        }
        let key = digest(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let dir = cache_dir().join("layers");
        let name = format!("{}-{key}", suite.name());
        let lower = vec![dir.join(&name), image.root.clone()];
        let _lock = Lock::wait(&dir.join(format!("{}.lock", suite.name())))?;
        if lower[0].exists() {
            // Recently used ones are kept.
            let _ = fs::File::open(&lower[0])?.set_modified(SystemTime::now());
        } else {
            forget_old(&dir, suite)?;
            build(image, deb, &files, &dir, &name)?;
        }
        Ok(Layer { suite, lower })
    }
}

fn build(image: &Image, deb: Option<&Path>, files: &[ExtraFile], dir: &Path, name: &str) -> Result<()> {
    let part = dir.join(format!("{name}.part"));
    remove_tree(&part)?;
    let (upper, work, root) = (part.join("upper"), part.join("work"), part.join("root"));
    for d in [&upper, &work, &root] {
        fs::create_dir_all(d)?;
    }
    // An upper folder gives the root of the node its permissions.
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))?;
    if let Some(deb) = deb {
        say(&format!("installing {} into {}", deb.display(), image.suite.name()));
        let text = |p: &Path| p.display().to_string();
        let (lower, upper, work, root) = (text(&image.root), text(&upper), text(&work), text(&root));
        // In a mount namespace of its own: whatever happens, no mount is left.
        let args = [
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-euc",
            INSTALL,
            "sh",
            &lower,
            &upper,
            &work,
            &root,
            &text(deb),
        ];
        call("unshare", &args).context("the package does not install")?;
    }
    for f in files {
        let path = upper.join(f.path.strip_prefix("/").unwrap_or(&f.path));
        put(&path, &f.content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(f.mode))?;
    }
    fs::rename(&upper, dir.join(name))?;
    remove_tree(&part)
}

/// Programs and units of the lab itself.
fn own_files() -> Result<Vec<ExtraFile>> {
    Ok(vec![
        ExtraFile::script("/usr/sbin/fence_bad", include_str!("../files/fence_bad")),
        ExtraFile::script("/usr/sbin/fence_array", include_str!("../files/fence_array")),
        ExtraFile::program("/usr/lib/convoke-lab/lab-witness", &own_program("lab-witness")?)?,
        ExtraFile::text("/etc/systemd/journald.conf.d/lab.conf", include_str!("../files/journald.conf")),
        ExtraFile::text("/etc/systemd/system/witness.service", include_str!("../files/witness.service")),
        ExtraFile::text("/etc/systemd/system/witness@.service", include_str!("../files/witness@.service")),
    ])
}

fn forget_old(dir: &Path, suite: Suite) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut layers: Vec<(SystemTime, PathBuf)> = fs::read_dir(dir)?
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            p.is_dir() && p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(suite.name()))
        })
        .filter_map(|p| Some((fs::metadata(&p).ok()?.modified().ok()?, p)))
        .collect();
    layers.sort();
    layers.reverse();
    // One that another process just took may not be mounted yet: an hour is more than any start of a lab.
    let young = SystemTime::now() - std::time::Duration::from_secs(3600);
    for (used, path) in layers.into_iter().skip(KEPT) {
        if used < young && !mounts.contains(&path.display().to_string()) {
            remove_tree(&path)?;
        }
    }
    Ok(())
}
