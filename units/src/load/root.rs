//! Reads files below a root directory, the machine's own or a test's.
//!
//! Symbolic links are followed as if the root were `/`, so that a tree in a test behaves like a real one.
//! Remembers what could not be read: a gate must not open because a disk had an error.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::read;
use crate::text::UnitText;

/// Bound on links in one path, as the kernel has it.
const LINKS_MAX: usize = 40;

/// A root directory with what was read from it.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    texts: RefCell<BTreeMap<String, Rc<UnitText>>>,
    /// What the system said, by path.
    faults: RefCell<BTreeMap<String, String>>,
}

/// What a directory holds under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    EmptyFile,
    Directory,
    Link,
}

impl Root {
    pub(crate) fn new(path: &Path) -> Root {
        Root { path: path.to_owned(), texts: RefCell::default(), faults: RefCell::default() }
    }

    fn host(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    /// What could not be read, apart from what does not exist.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.borrow().iter().map(|(path, said)| format!("{path}: {said}")).collect()
    }

    /// The same of one path.
    pub(crate) fn fault_of(&self, path: &str) -> Option<String> {
        self.faults.borrow().get(path).map(|said| format!("{path}: {said}"))
    }

    fn fault(&self, path: &str, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::NotADirectory {
            self.faults.borrow_mut().insert(path.to_owned(), error.to_string());
        }
    }

    /// The path with all links followed; `None` if it leads nowhere.
    pub(crate) fn resolve(&self, path: &str) -> Option<String> {
        let mut todo: Vec<String> = parts(path).rev().collect();
        let mut done: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            let here = format!("/{}{}{part}", done.join("/"), if done.is_empty() { "" } else { "/" });
            let host = self.host(&here);
            let kind = fs::symlink_metadata(&host).ok()?.file_type();
            if kind.is_symlink() {
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                let target = fs::read_link(&host).ok()?;
                let target = target.to_str()?;
                // The machine's own /dev is not part of a test's tree, and a mask points there.
                if target == "/dev/null" {
                    return Some(target.to_owned());
                }
                if target.starts_with('/') {
                    done.clear();
                }
                todo.extend(parts(target).rev());
            } else {
                done.push(part);
            }
        }
        Some(format!("/{}", done.join("/")))
    }

    /// Where one link points, made absolute, with the directory's own links followed.
    pub(crate) fn target(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.host(path)).ok()?;
        let target = target.to_str()?;
        let joined = match path.rsplit_once('/') {
            Some((dir, _)) if !target.starts_with('/') => format!("{dir}/{target}"),
            _ => target.to_owned(),
        };
        let (dir, name) = joined.rsplit_once('/')?;
        Some(match self.resolve(dir) {
            Some(dir) => format!("{}/{name}", dir.trim_end_matches('/')),
            None => joined,
        })
    }

    /// The names in a directory, sorted; none if it does not exist.
    pub(crate) fn list(&self, dir: &str) -> Vec<(String, Kind)> {
        let Some(real) = self.resolve(dir) else { return Vec::new() };
        let entries = match fs::read_dir(self.host(&real)) {
            Ok(entries) => entries,
            Err(error) => {
                self.fault(dir, &error);
                return Vec::new();
            }
        };
        let mut out = Vec::new();
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.fault(dir, &error);
                    continue;
                }
            };
            let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else { continue };
            let kind = if kind.is_symlink() {
                Kind::Link
            } else if kind.is_dir() {
                Kind::Directory
            } else if entry.metadata().is_ok_and(|m| m.is_file() && m.len() == 0) {
                Kind::EmptyFile
            } else {
                Kind::File
            };
            out.push((name, kind));
        }
        out.sort_by(|a, b| a.0.cmp(&b.0));
        out
    }

    /// The bytes of a file; `None` if it does not exist or cannot be read.
    pub(crate) fn read(&self, path: &str) -> Option<Vec<u8>> {
        let real = self.resolve(path)?;
        if real == "/dev/null" {
            return Some(Vec::new());
        }
        match read::file(&self.host(&real)) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.fault(path, &error);
                None
            }
        }
    }

    /// Whether a path without links is a regular file.
    pub(crate) fn is_file(&self, real: &str) -> bool {
        fs::metadata(self.host(real)).is_ok_and(|found| found.is_file())
    }

    /// Whether a path leads to a file that may be executed.
    pub(crate) fn is_program(&self, path: &str) -> bool {
        let found = self.resolve(path).and_then(|real| fs::metadata(self.host(&real)).ok());
        found.is_some_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    }

    /// The text of a unit file or drop-in, read once; `None` if it cannot be read.
    pub(crate) fn text(&self, path: &str) -> Option<Rc<UnitText>> {
        if let Some(text) = self.texts.borrow().get(path) {
            return Some(Rc::clone(text));
        }
        let text = Rc::new(UnitText::parse(path, &self.read(path)?));
        self.texts.borrow_mut().insert(path.to_owned(), Rc::clone(&text));
        Some(text)
    }
}

fn parts(path: &str) -> impl DoubleEndedIterator<Item = String> + '_ {
    path.split('/').filter(|p| !p.is_empty() && *p != ".").map(str::to_owned)
}
