//! The Redfish services: for each node a real one (sushy-tools, HTTPS with a certificate of its own making and basic authentication), to which
//! this package's own program is the power.
//!
//! It is the second protocol of the node's controller, at the same address, and is there once it is started. What it needs is installed when the
//! first one is.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::bmc::{BMC_PASSWORD, BMC_USER};
use crate::clock::wait_until;
use crate::exec::Output;
use crate::hook::{self, Fault, Protocol};
use crate::host::{Lock, Started, call, digest, put, remove_tree, say};
use crate::node::Node;
use crate::place::{BMC, Place, Wire, cache_dir, node_name};

const PACKAGES: &str = include_str!("../files/redfish/packages.txt");
const SERVICE: &str = include_str!("../files/redfish/service.py");
const PORT: u16 = 443;
/// To import all of it and to listen takes a second of one core.
const PATIENCE: Duration = Duration::from_secs(60);

/// The Redfish service of one node's controller.
#[derive(Clone, Debug)]
pub struct Redfish {
    place: Arc<Place>,
    index: usize,
}

impl Redfish {
    pub(crate) fn new(place: &Arc<Place>, index: usize) -> Redfish {
        Redfish { place: Arc::clone(place), index }
    }

    /// Its address in the management network: the controller's, port 443.
    #[must_use]
    pub fn address(&self) -> String {
        self.place.address(Wire::Management, BMC + self.index)
    }

    /// Where the service has its node.
    #[must_use]
    pub fn systems_uri(&self) -> String {
        format!("/redfish/v1/Systems/{}", node_name(self.index))
    }

    /// Parameters for `fence_redfish`, without the action.
    #[must_use]
    pub fn agent_parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ip", self.address()),
            ("username", BMC_USER.into()),
            ("password", BMC_PASSWORD.into()),
            ("systems_uri", self.systems_uri()),
            ("ssl_insecure", "1".into()),
        ]
    }

    /// Starts it, and installs it before that if it never was. From now on it has the power of its controller.
    pub fn start(&self) -> Result<()> {
        start(&self.place, self.index)
    }

    /// Ends it alone: the controller refuses connections to its port.
    pub fn stop(&self) -> Result<()> {
        end(&self.place, self.index)
    }

    /// Makes it misbehave in exactly these ways from now on; none at all: it is honest again.
    ///
    /// A refused command is HTTP 500, and one that hangs is a connection on which nothing is ever answered.
    pub fn set_faults(&self, faults: &[Fault]) -> Result<()> {
        hook::set_faults(&self.place, self.index, Protocol::Redfish, faults)
    }

    /// Runs `fence_redfish` with an action inside a node, with the parameters on standard input as a cluster does.
    pub fn agent(&self, on: &Node, action: &str) -> Result<Output> {
        on.fence("fence_redfish", action, &self.agent_parameters())
    }
}

/// Starts the service of a node again, if it was there before its controller lost its power.
pub(crate) fn start_again(place: &Place, i: usize) -> Result<()> {
    if folder(place, i).exists() { start(place, i) } else { Ok(()) }
}

/// Ends the service of a node, if there is one.
pub(crate) fn end(place: &Place, i: usize) -> Result<()> {
    process(place, i).end()
}

fn start(place: &Place, i: usize) -> Result<()> {
    let (process, dir, name) = (process(place, i), folder(place, i), node_name(i));
    if process.pid().is_some() {
        return Ok(());
    }
    let python = installed()?;
    let address = place.address(Wire::Management, BMC + i);
    let text = |name: &str| dir.join(name).display().to_string();
    let (service, settings, key, certificate) =
        (text("service.py"), text("settings"), text("key"), text("certificate"));
    // What it writes down of itself goes beside it; another life knows nothing of it.
    remove_tree(&dir.join("state"))?;
    fs::create_dir_all(dir.join("state"))?;
    put(&dir.join("service.py"), SERVICE)?;
    let hook =
        [&place.record.program.display().to_string(), "bmc-hook", "redfish", &place.record.name, &name];
    put(
        &dir.join("settings"),
        json!({
            "node": name, "system": name, "address": address, "port": PORT, "hook": hook,
            "user": BMC_USER, "password": BMC_PASSWORD,
            "logins": text("logins"), "key": key, "certificate": certificate,
        })
        .to_string(),
    )?;
    if !dir.join("certificate").exists() {
        let (subject, names) = (format!("/CN={name}-bmc"), format!("subjectAltName=IP:{address}"));
        let made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
        let kept =
            ["-days", "30", "-subj", &subject, "-addext", &names, "-keyout", &key, "-out", &certificate];
        call("openssl", &[&made[..], &kept[..]].concat())?;
    }
    let (python, state) = (python.display().to_string(), format!("TMPDIR={}", text("state")));
    process.start(&dir.join("log"), &["env", &state, &python, &service, &settings])?;
    let socket = format!("{address}:{PORT}").parse().context("no address")?;
    let listens = || TcpStream::connect_timeout(&socket, Duration::from_secs(1)).is_ok();
    let up = wait_until(PATIENCE, Duration::from_millis(50), || listens() || process.pid().is_none());
    ensure!(
        up && process.pid().is_some(),
        "the Redfish service of {name} does not start\n{}",
        fs::read_to_string(dir.join("log")).unwrap_or_default()
    );
    Ok(())
}

/// The Python that has all that the service needs, made now if it is not there.
fn installed() -> Result<PathBuf> {
    let cache = cache_dir();
    let dir = cache.join(format!("redfish-{}", digest(&[PACKAGES.as_bytes()])?));
    let _lock = Lock::wait(&cache.join("redfish.lock"))?;
    if !dir.exists() {
        say("installing the Redfish service");
        let part = dir.with_extension("part");
        remove_tree(&part)?;
        let text = |name: &str| part.join(name).display().to_string();
        call("/usr/bin/python3", &["-m", "venv", &text("")])?;
        put(&part.join("packages.txt"), PACKAGES)?;
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--only-binary=:all:"];
        call(&text("bin/python"), &[&pip[..], &["--requirement", &text("packages.txt")]].concat())
            .context("pip cannot install the Redfish service")?;
        fs::rename(&part, &dir)?;
    }
    Ok(dir.join("bin/python"))
}

fn process(place: &Place, i: usize) -> Started {
    place.started(&format!("redfish-{}", node_name(i)))
}

/// Is there once the service was started.
fn folder(place: &Place, i: usize) -> PathBuf {
    place.run().join("redfish").join(node_name(i))
}
