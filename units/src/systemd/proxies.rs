//! The methods of PID 1 and of the bus that are used, written by hand.
//!
//! No property goes through a proxy: they are read by [`PropertiesProxy`] only, so that nothing can be
//! answered from a cache (rule F1 wants a fresh read).

use std::collections::HashMap;

use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

/// PID 1's name on the bus. On its own socket the name is ignored.
pub(crate) const PID1: &str = "org.freedesktop.systemd1";
/// The manager's object.
pub(crate) const MANAGER: &str = "/org/freedesktop/systemd1";
/// The manager's interface.
pub(crate) const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
/// The interface that every unit has.
pub(crate) const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
/// The interface of a job.
pub(crate) const JOB_INTERFACE: &str = "org.freedesktop.systemd1.Job";
/// The standard interface whose change signal is heard.
pub(crate) const PROPERTIES_INTERFACE: &str = "org.freedesktop.DBus.Properties";

/// One row of `ListUnitsByPatterns`.
pub(crate) type ListedUnit =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// Properties of a transient unit, by name.
pub(crate) type Properties<'a> = Vec<(&'a str, Value<'a>)>;

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_blocking = false
)]
pub(crate) trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn ref_unit(&self, name: &str) -> zbus::Result<()>;
    fn unref_unit(&self, name: &str) -> zbus::Result<()>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn freeze_unit(&self, name: &str) -> zbus::Result<()>;
    fn thaw_unit(&self, name: &str) -> zbus::Result<()>;
    fn cancel_job(&self, id: u32) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<ListedUnit>>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Value<'_>)],
        aux: &[(&str, Vec<(&str, Value<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
}

#[zbus::proxy(interface = "org.freedesktop.DBus.Properties", gen_blocking = false)]
pub(crate) trait Properties {
    fn get(&self, interface: &str, name: &str) -> zbus::Result<OwnedValue>;
    fn get_all(&self, interface: &str) -> zbus::Result<HashMap<String, OwnedValue>>;
}

#[zbus::proxy(
    interface = "org.freedesktop.DBus",
    default_service = "org.freedesktop.DBus",
    default_path = "/org/freedesktop/DBus",
    gen_blocking = false
)]
pub(crate) trait Bus {
    fn add_match(&self, rule: &str) -> zbus::Result<()>;
    fn remove_match(&self, rule: &str) -> zbus::Result<()>;
    fn get_name_owner(&self, name: &str) -> zbus::Result<String>;
}
