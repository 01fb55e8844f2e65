//! Decides whether a unit is *gone* on this node: the third step of a release (rule F1).
//!
//! Only meaningful after the permit file was removed: until then PID 1 may start the unit again between two
//! looks. Knows nothing of permits itself. Whoever asks gets either a proof or the precise reason why not;
//! whatever cannot be read counts as still there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::time::Duration;

use super::error::Error;
use super::handle::Systemd;
use super::reading::{CurrentJob, Reading};

/// Parts of a unit that are looked at. A target with more is not believed to be gone.
const PARTS_MAX: usize = 512;
/// Gates ask for permission and run nothing of the unit.
const GATE_PREFIX: &str = "convoke-gate@";
/// Files of the kernel in a control group begin with one of these and a dot (`cgroup.procs` with the first).
const CONTROLLERS: [&str; 9] =
    ["cgroup", "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids"];

/// What must be kept from the time when the unit was active, because PID 1 forgets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Control groups that the unit and its parts had, by unit.
    pub groups: BTreeMap<String, BTreeSet<String>>,
    /// The unit's own invocation that was seen last, empty if none was.
    pub invocation_id: Vec<u8>,
}

impl Remembered {
    /// Takes what this reading of the unit shows.
    pub fn of(reading: &Reading) -> Self {
        let mut remembered = Self::default();
        remembered.add(reading);
        remembered.invocation_id.clone_from(&reading.invocation_id);
        remembered
    }

    /// Adds the group of the unit or of one of its parts, keeping what was known before. Where PID 1 names none, the
    /// usual one: what is found in it must be killed too, whoever missed the time when the unit was active.
    pub fn add(&mut self, reading: &Reading) {
        let groups = match reading.control_group.as_str() {
            "" => usual_groups(&reading.id, &reading.slice),
            named => BTreeSet::from([named.to_owned()]),
        };
        if !groups.is_empty() {
            self.groups.entry(reading.id.clone()).or_default().extend(groups);
        }
    }
}

/// Proof that nothing of the unit is left here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The reading that showed it, with the result of the last run.
    pub reading: Reading,
    /// Which parts were looked at as well.
    pub parts: Vec<String>,
}

/// The unit, or a part of it, is or may be still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillThere {
    /// The unit that was asked for.
    pub unit: String,
    /// What of it is there: the unit itself or one of its parts.
    pub part: String,
    /// `Result` of that part, empty when it has none.
    pub result: String,
    /// In which sense.
    pub why: Left,
}

/// In which sense something is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Neither inactive nor failed.
    State(String),
    /// systemd will start it again by itself.
    AutoRestart,
    /// A job is queued or runs.
    Job(CurrentJob),
    /// Processes are left, in words.
    Processes(String),
    /// Still in the mount table.
    Mounted(String),
    /// Still swapped to.
    Swapping(String),
    /// More parts than are looked at.
    TooManyParts,
    /// Something outside its processes, as a program of its own says, in words.
    Outside(String),
    /// It could not be read.
    Unknown(String),
}

impl fmt::Display for StillThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.part != self.unit {
            write!(f, "{} (part of {}): ", self.part, self.unit)?;
        }
        match &self.why {
            Left::State(state) => write!(f, "it is {state}")?,
            Left::AutoRestart => f.write_str("systemd is about to restart it (auto-restart)")?,
            Left::Job(CurrentJob { id, kind: Some(kind), .. }) => write!(f, "it has job {id} ({kind:?})")?,
            Left::Job(CurrentJob { id, kind: None, .. }) => write!(f, "it has job {id}")?,
            Left::Processes(text) => f.write_str(text)?,
            Left::Mounted(place) => write!(f, "{place} is still mounted")?,
            Left::Swapping(what) => write!(f, "{what} is still used as swap")?,
            Left::Outside(text) => write!(f, "GoneExec= says that it is not gone: {text}")?,
            Left::TooManyParts => write!(f, "it has more than {PARTS_MAX} parts")?,
            Left::Unknown(error) => write!(f, "its state cannot be read: {error}")?,
        }
        if self.result.is_empty() || self.result == "success" {
            return Ok(());
        }
        write!(f, "; Result={}", self.result)
    }
}

impl std::error::Error for StillThere {}

impl Systemd {
    /// Reads the unit and its parts while they are active, to be kept for [`gone`](Self::gone).
    ///
    /// # Errors
    /// When PID 1 cannot be asked.
    pub async fn remember(&self, unit: &str) -> Result<(Reading, Remembered), Error> {
        let reading = self.read(unit).await?;
        let mut remembered = Remembered::of(&reading);
        let mut looked = BTreeSet::from([reading.id.clone()]);
        let mut pending = parts(&reading);
        while let Some(part) = pending.pop() {
            if looked.len() <= PARTS_MAX && looked.insert(part.clone()) {
                let reading = self.read(&part).await?;
                remembered.add(&reading);
                pending.extend(parts(&reading));
            }
        }
        Ok((reading, remembered))
    }

    /// Whether nothing of the unit is left on this node, by a fresh reading of it and of its parts.
    ///
    /// # Errors
    /// [`StillThere`] with the first reason found; a job only where there is no other.
    pub async fn gone(&self, unit: &str, remembered: &Remembered) -> Result<Gone, StillThere> {
        let mut first = None;
        let mut queued = None;
        let mut looked = BTreeSet::new();
        let mut pending = vec![unit.to_owned()];
        while let Some(part) = pending.pop() {
            if !looked.insert(part.clone()) {
                continue;
            }
            let still = |why, result: &str| StillThere {
                unit: unit.to_owned(),
                part: part.clone(),
                result: result.to_owned(),
                why,
            };
            if looked.len() > PARTS_MAX {
                return Err(still(Left::TooManyParts, ""));
            }
            let reading =
                self.read(&part).await.map_err(|error| still(Left::Unknown(with_causes(&error)), ""))?;
            // The state first, the kernel's view after it: a unit that is down gets no new processes.
            let left = left_of(&reading).or_else(|| self.left_in_kernel(&reading, &part, remembered));
            if let Some(why) = left {
                return Err(still(why, &reading.result));
            }
            // A job that waits is the weakest of reasons: told first, it would hide what runs beside it.
            let job = reading.job.clone().map(|job| still(Left::Job(job), &reading.result));
            queued = queued.or(job);
            looked.insert(reading.id.clone());
            pending.extend(parts(&reading));
            first.get_or_insert(reading);
        }
        if let Some(queued) = queued {
            return Err(queued);
        }
        let unknown = || StillThere {
            unit: unit.to_owned(),
            part: unit.to_owned(),
            result: String::new(),
            why: Left::Unknown("it was not read".to_owned()),
        };
        let reading = first.ok_or_else(unknown)?;
        looked.remove(unit);
        looked.remove(&reading.id);
        Ok(Gone { reading, parts: looked.into_iter().collect() })
    }

    /// Kills everything that is left in the remembered groups; false if something survives `within`.
    ///
    /// # Errors
    /// When the kernel's files cannot be read.
    pub async fn kill_group(&self, remembered: &Remembered, within: Duration) -> Result<bool, Error> {
        let mut empty = true;
        for group in remembered.groups.values().flatten() {
            empty &= self.shared.cgroups.kill_and_wait(group, within).await?;
        }
        Ok(empty)
    }

    /// Has PID 1 thaw a frozen unit without letting anything of it go on: its processes wake up stopped. A unit that
    /// dies while PID 1 calls it frozen stays so, and systemd 257 refuses its next start.
    ///
    /// # Errors
    /// When a process cannot be stopped, and then nothing is thawed; or when PID 1 refuses.
    pub async fn thaw_halted(&self, unit: &str, remembered: &Remembered) -> Result<(), Error> {
        for group in remembered.groups.values().flatten() {
            self.shared.cgroups.halt(group).map_err(|source| Error::Local {
                what: format!("cannot stop the processes of the control group {group}"),
                source,
            })?;
        }
        self.thaw(unit).await
    }

    /// What the kernel says, for the groups known by name, by reading, and by systemd's rule for names.
    fn left_in_kernel(&self, reading: &Reading, asked: &str, remembered: &Remembered) -> Option<Left> {
        let known =
            [asked, &reading.id].map(|name| remembered.groups.get(name)).into_iter().flatten().flatten();
        let now = Some(&reading.control_group).filter(|group| !group.is_empty());
        let usual = usual_groups(&reading.id, &reading.slice);
        let groups: BTreeSet<&String> = known.chain(now).chain(&usual).collect();
        for group in groups {
            match self.shared.cgroups.is_populated(group) {
                Ok(false) => {}
                Ok(true) => return Some(Left::Processes(self.shared.cgroups.describe(group))),
                Err(error) => return Some(Left::Unknown(format!("control group {group}: {error}"))),
            }
        }
        match reading.unit_type() {
            "mount" if !reading.where_.is_empty() => match is_mounted(&reading.where_) {
                Ok(false) => None,
                Ok(true) => Some(Left::Mounted(reading.where_.clone())),
                Err(error) => Some(Left::Unknown(format!("mount table: {error}"))),
            },
            "swap" if !reading.what.is_empty() => match is_swapping(&reading.what) {
                Ok(false) => None,
                Ok(true) => Some(Left::Swapping(reading.what.clone())),
                Err(error) => Some(Left::Unknown(format!("swap table: {error}"))),
            },
            _ => None,
        }
    }
}

/// What PID 1 says against it, jobs aside.
fn left_of(reading: &Reading) -> Option<Left> {
    if reading.is_auto_restart() {
        return Some(Left::AutoRestart);
    }
    let state = || format!("{:?}/{}", reading.active_state, reading.sub_state).to_lowercase();
    (!reading.active_state.is_down()).then(|| Left::State(state()))
}

/// Units that a stop of this one stops too, and that therefore belong to its being gone.
fn parts(reading: &Reading) -> Vec<String> {
    let relations = &reading.relations;
    [&relations.consists_of, &relations.bound_by, &relations.propagates_stop_to]
        .into_iter()
        .flatten()
        .filter(|name| !name.starts_with(GATE_PREFIX))
        .cloned()
        .collect()
}

/// Where systemd may have put a unit's group; PID 1 forgets the path once it believes the group to be gone, and
/// somebody may have missed the time when the unit was active. A name that could be taken for a file of the kernel
/// (`memory.service`) gets an underscore in front; for which names differs between versions of systemd, so both places
/// are looked at.
fn usual_groups(id: &str, slice: &str) -> BTreeSet<String> {
    let Some(slice) = slice.strip_suffix(".slice") else { return BTreeSet::new() };
    let (mut plain, mut escaped) = (String::new(), String::new());
    if slice != "-" {
        for (at, _) in slice.match_indices('-').chain([(slice.len(), "")]) {
            let level = format!("{}.slice", &slice[..at]);
            let escape = if may_be_escaped(&level) { "_" } else { "" };
            plain.push_str(&format!("/{level}"));
            escaped.push_str(&format!("/{escape}{level}"));
        }
    }
    let places = [plain, escaped];
    places.iter().flat_map(|place| ["", "_"].map(|escape| format!("{place}/{escape}{id}"))).collect()
}

/// Whether some version of systemd puts an underscore before this name of a control group.
fn may_be_escaped(name: &str) -> bool {
    let controller = name.split_once('.').is_some_and(|(first, _)| CONTROLLERS.contains(&first));
    controller || name.starts_with(['_', '.'])
}

/// Looks in the mount table of PID 1, and in our own if that differs or cannot be read.
fn is_mounted(place: &str) -> std::io::Result<bool> {
    let own = fs::read_to_string("/proc/self/mountinfo")?;
    let of_pid1 = fs::read_to_string("/proc/1/mountinfo").unwrap_or_default();
    Ok(names_mount(&own, place) || names_mount(&of_pid1, place))
}

fn names_mount(table: &str, place: &str) -> bool {
    table.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| unescape(point) == place.as_bytes())
}

fn is_swapping(what: &str) -> std::io::Result<bool> {
    let target = fs::canonicalize(what).unwrap_or_else(|_| what.into());
    let table = fs::read_to_string("/proc/swaps")?;
    Ok(table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).any(|path| {
        let path = unescape(path);
        path == what.as_bytes() || path == target.as_os_str().as_encoded_bytes()
    }))
}

/// The kernel writes white space and backslashes as three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = if escaped.is_some() { after.get(3..).unwrap_or_default() } else { after };
        bytes.push(escaped.unwrap_or(byte));
    }
    bytes
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_compared_after_unescaping() {
        let table = "36 35 98:0 / /mnt/a\\040b rw,noatime - ext4 /dev/x rw\n37 35 98:0 / /mnt/c rw - ext4 /dev/y rw\n";
        assert!(names_mount(table, "/mnt/a b"));
        assert!(names_mount(table, "/mnt/c"));
        assert!(!names_mount(table, "/mnt"));
        assert_eq!(unescape("a\\134b\\9"), b"a\\b\\9");
    }

    #[test]
    fn groups_are_looked_for_under_escaped_names_too() {
        let groups = |id: &str, slice: &str| usual_groups(id, slice).into_iter().collect::<Vec<_>>();
        assert_eq!(groups("db.service", "-.slice"), ["/_db.service", "/db.service"]);
        assert_eq!(
            groups("memory.service", "a-b.slice"),
            ["/a.slice/a-b.slice/_memory.service", "/a.slice/a-b.slice/memory.service"]
        );
        let io = groups("cpu.service", "io-x.slice");
        assert!(io.contains(&"/_io.slice/io-x.slice/_cpu.service".to_owned()), "{io:?}");
        assert!(groups("db.service", "").is_empty());
    }

    #[test]
    fn a_reason_reads_as_a_sentence_with_the_result() {
        let still = StillThere {
            unit: "db.target".into(),
            part: "db.service".into(),
            result: "timeout".into(),
            why: Left::Processes("2 processes left in /system.slice/db.service: pid 7 (a), pid 8 (b)".into()),
        };
        assert_eq!(
            still.to_string(),
            "db.service (part of db.target): 2 processes left in /system.slice/db.service: pid 7 (a), pid 8 (b); \
             Result=timeout"
        );
    }
}
