//! Children of this process that are not to outlive their time.

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// A child in a process group of its own. Dropped before its end, it is killed with all of its group.
#[derive(Debug)]
pub(crate) struct Group(pub(crate) Child);

impl Drop for Group {
    fn drop(&mut self) {
        // There is no number any more once its end was waited for.
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!(%error, "a child could not be killed");
        }
    }
}
