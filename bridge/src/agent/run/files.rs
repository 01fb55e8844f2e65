//! Keeps the list of cluster units, has PID 1 read its files, and reads them, beside the loop.

use tokio::sync::watch;

use super::super::event::Event;
use super::super::{chain, discovery};
use super::{Discovering, Shell};

impl Shell {
    /// Lists are written one after another, in the order in which they were made: all go to the same file.
    pub(super) fn keep_gated(&mut self, text: String) {
        self.lists = self.lists.saturating_add(1);
        let (list, paths, events, written) =
            (self.lists, self.paths.clone(), self.events.clone(), self.written.clone());
        tokio::spawn(async move {
            written_up_to(&written, list.saturating_sub(1)).await;
            let kept = text.clone();
            let kept = tokio::task::spawn_blocking(move || discovery::keep_gated(&paths, &kept)).await;
            written.send_replace(list);
            if let Ok(Err(error)) = &kept {
                tracing::error!(%error, "the list of cluster units cannot be written: after a reboot gates may be missing");
            }
            let ok = matches!(kept, Ok(Ok(())));
            drop(events.send(Event::GatedKept { text, ok }).await);
        });
    }

    pub(super) fn reload(&mut self) {
        let (list, systemd, events, written) =
            (self.lists, self.systemd.clone(), self.events.clone(), self.written.clone());
        tokio::spawn(async move {
            written_up_to(&written, list).await;
            let result = match systemd {
                Some(systemd) => systemd.reload_daemon().await.map_err(|error| chain(&error)),
                None => Err("PID 1 is not connected".to_owned()),
            };
            drop(events.send(Event::Reloaded(result)).await);
        });
    }

    pub(super) fn discover(&mut self) {
        if self.discovering != Discovering::Idle {
            self.discovering = Discovering::Again;
            return;
        }
        self.discovering = Discovering::Running;
        let (root, systemd, events) = (self.root.clone(), self.systemd.clone(), self.events.clone());
        let known = self.agent.units.keys().cloned().collect();
        tokio::spawn(async move {
            let discovery = discovery::discover(root, known, systemd).await;
            drop(events.send(Event::Discovered(discovery)).await);
        });
    }

    pub(super) fn discovery_ended(&mut self) {
        let again = self.discovering == Discovering::Again;
        self.discovering = Discovering::Idle;
        if again {
            self.discover();
        }
    }
}

/// Waits until that list, and all before it, were written or could not be.
async fn written_up_to(written: &watch::Sender<u64>, list: u64) {
    // The sender is held here, so it cannot be gone.
    drop(written.subscribe().wait_for(|last| *last >= list).await);
}
