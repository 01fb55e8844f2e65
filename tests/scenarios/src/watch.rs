//! What the witness says right now, without reading all that it ever wrote.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use lab::now_ns;

/// More than one line is long.
const TAIL: u64 = 512;

/// An instant of the lab's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Moment {
        Moment(now_ns())
    }

    /// From an earlier instant to this one; nothing if it is later.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long ago it is.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Moment::now().since(self)
    }
}

/// The last beat of a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// When.
    pub at: Moment,
    /// Where.
    pub node: String,
    /// Its pid there.
    pub pid: u32,
    /// When that life began.
    pub since: Moment,
}

/// The last whole line of a witness' file.
pub(crate) fn last_beat(path: &Path) -> Option<Beat> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let line = text.split_inclusive('\n').rfind(|l| l.ends_with('\n'))?;
    let mut words = line.trim_end().split(' ');
    let at = Moment(words.next()?.parse().ok()?);
    let node = words.next()?.to_owned();
    let pid = words.next()?.parse().ok()?;
    Some(Beat { at, node, pid, since: Moment(words.next()?.parse().ok()?) })
}
