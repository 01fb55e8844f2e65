//! Which units must stay ungated, because the boot, or convoked itself, waits for them.
//!
//! A gate there would hold up the boot, end it in emergency mode, or make an ordering cycle in which PID 1
//! drops a job of its choice (rows 55, 59 and 60 of the gate's table). Such a section is refused loudly.

use std::collections::{BTreeMap, BTreeSet};

use super::fstab;
use super::index::Index;
use super::view::View;
use crate::diagnostic::Span;
use crate::name::UnitName;

/// Units of the boot and of what convoked stands on; a name ending in `@` or `-` stands for a family.
const PROTECTED: &[&str] = &[
    "-.mount",
    "-.slice",
    "init.scope",
    "system.slice",
    "user.slice",
    "machine.slice",
    "dbus.service",
    "dbus.socket",
    "dbus-broker.service",
    "polkit.service",
    "NetworkManager.service",
    "networking.service",
    "network.service",
    "wpa_supplicant.service",
    "ifupdown-pre.service",
    "getty@",
    "serial-getty@",
    "user@",
    "user-runtime-dir@",
    "modprobe@",
    "ifup@",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "convoked.service",
    "convoked.socket",
    "convoke-",
];

/// Resource agents, `convoke-ocf@.service`: ours, and made to be cluster units.
const RESOURCES: &str = "convoke-ocf";

/// Targets of the boot and the shutdown.
const TARGETS: &[&str] = &[
    "basic",
    "sysinit",
    "local-fs",
    "local-fs-pre",
    "remote-fs",
    "remote-fs-pre",
    "swap",
    "sockets",
    "paths",
    "timers",
    "slices",
    "network",
    "network-pre",
    "network-online",
    "nss-lookup",
    "nss-user-lookup",
    "time-sync",
    "time-set",
    "cryptsetup",
    "cryptsetup-pre",
    "veritysetup",
    "integritysetup",
    "default",
    "multi-user",
    "graphical",
    "rescue",
    "emergency",
    "initrd",
    "initrd-fs",
    "initrd-root-fs",
    "initrd-root-device",
    "initrd-switch-root",
    "initrd-usr-fs",
    "shutdown",
    "umount",
    "final",
    "reboot",
    "poweroff",
    "halt",
    "kexec",
    "exit",
    "soft-reboot",
    "ctrl-alt-del",
    "sigpwr",
    "suspend",
    "hibernate",
    "hybrid-sleep",
    "suspend-then-hibernate",
    "sleep",
    "getty",
    "getty-pre",
    "rpcbind",
    "factory-reset",
    "system-update",
    "system-update-pre",
    "boot-complete",
    "first-boot-complete",
    "machines",
];

/// Why a unit must stay ungated.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    /// The system or convoked needs it; with the name of what waits for it.
    Protected(String),
    /// An early target requires it; the place says where.
    AtBoot(Span, String),
}

/// What is needed to judge units.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) fstab: BTreeMap<String, fstab::Line>,
    /// What convoked.service itself waits for.
    needed_by_us: BTreeSet<String>,
}

impl Boot {
    pub(crate) fn read(index: &Index) -> Boot {
        let ours = View::of(index, "convoked.service");
        let keys = ["After", "Requires", "Wants", "BindsTo"];
        let needed = keys.iter().flat_map(|key| ours.names("Unit", key)).map(|(name, _)| index.id(&name));
        Boot { fstab: fstab::read(&index.root), needed_by_us: needed.collect() }
    }

    /// Why the unit of this real name must stay ungated; `None` if it may have a gate.
    pub(crate) fn held(&self, index: &Index, id: &str) -> Option<Held> {
        if is_protected(id) {
            return Some(Held::Protected("the system".to_owned()));
        }
        if self.needed_by_us.contains(id) {
            return Some(Held::Protected("convoked.service".to_owned()));
        }
        if let Some(line) = self.fstab.get(id).filter(|line| line.needed) {
            return Some(Held::AtBoot(line.span.clone(), "local-fs.target".to_owned()));
        }
        let early = ["sysinit.target", "basic.target", "local-fs.target", "swap.target"];
        let service = id.ends_with(".service");
        let pull = index.pulls(id).iter().find(|p| {
            // A mount from fstab is judged by its line; of the others a gate undoes the order behind a
            // mere wish for anything but a service.
            early.contains(&p.by.as_str()) && (p.required || service) && !self.fstab.contains_key(id)
        })?;
        Some(Held::AtBoot(Span::file(pull.path.clone()), pull.by.clone()))
    }

    /// Whether anything but its users mounts it at boot.
    pub(crate) fn mounted_at_boot(&self, index: &Index, id: &str) -> bool {
        match self.fstab.get(id) {
            Some(line) => line.auto,
            None => index.pulls(id).iter().any(|p| p.by.ends_with(".target")),
        }
    }
}

/// Whether the boot or convoked stands on a unit, by its name alone.
pub(crate) fn is_protected(id: &str) -> bool {
    let Some(name) = UnitName::parse(id) else { return false };
    if name.kind == "target" && TARGETS.contains(&name.prefix) {
        return true;
    }
    // The containers of systemd-nspawn are workloads.
    if name.prefix.starts_with("systemd-") && !name.prefix.starts_with("systemd-nspawn") {
        return true;
    }
    PROTECTED.iter().any(|p| {
        *p == id
            || p.strip_suffix('@').is_some_and(|prefix| name.instance.is_some() && name.prefix == prefix)
            || (p.ends_with('-') && name.prefix.starts_with(p) && name.prefix != RESOURCES)
    })
}
