//! Keeps the list of cluster units, has PID 1 read its files, and reads them, beside the loop.

use super::super::event::Event;
use super::super::{chain, discovery};
use super::{Discovering, Shell};

impl Shell {
    pub(super) fn keep_gated(&mut self, text: String) {
        let (paths, events, before) = (self.paths.clone(), self.events.clone(), self.keeping.take());
        self.keeping = Some(tokio::spawn(async move {
            if let Some(before) = before {
                drop(before.await);
            }
            let kept = text.clone();
            let kept = tokio::task::spawn_blocking(move || discovery::keep_gated(&paths, &kept)).await;
            if let Ok(Err(error)) = &kept {
                tracing::error!(%error, "the list of cluster units cannot be written: after a reboot gates may be missing");
            }
            let ok = matches!(kept, Ok(Ok(())));
            drop(events.send(Event::GatedKept { text, ok }).await);
        }));
    }

    pub(super) fn reload(&mut self) {
        let (systemd, events, keeping) = (self.systemd.clone(), self.events.clone(), self.keeping.take());
        tokio::spawn(async move {
            if let Some(keeping) = keeping {
                drop(keeping.await);
            }
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
