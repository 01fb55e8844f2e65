//! Devices that speak SNMP: a real agent (net-snmp), whose objects are served by this package's own program.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::clock::wait_until;
use crate::host::{Started, call, put};
use crate::net;
use crate::pdu::PDU_COMMUNITY;
use crate::place::{Place, Wire};

/// Starts an agent at an address of the management network, and waits until it answers for an object.
pub(crate) fn start(
    place: &Place,
    process: &Started,
    dir: &Path,
    (address, object): (&str, &str),
    configuration: &str,
) -> Result<()> {
    fs::create_dir_all(dir.join("persist"))?;
    net::set(place, "deaf", &[address.to_owned()], false)?;
    call("ip", &["address", "replace", &format!("{address}/24"), "dev", &place.bridge(Wire::Management)])?;
    let file = dir.join("conf");
    put(&file, configuration)?;
    if process.pid().is_some() {
        return Ok(());
    }
    let persist = format!("SNMP_PERSISTENT_DIR={}", dir.join("persist").display());
    let (file, endpoint) = (file.display().to_string(), format!("udp:{address}:161"));
    // Without the built-in tables of interfaces: nothing that is set here may reach the host's own.
    let tables = "-smux,ifTable,ifXTable,interface,interfaces";
    let line = ["env", "MIBS=", &persist, "snmpd", "-f", "-Lo", "-C", "-c", &file, "-I", tables, &endpoint];
    process.start(&dir.join("log"), &line)?;
    let answers = || {
        let ask = ["-v1", "-c", PDU_COMMUNITY, "-t", "1", "-r", "0", address, object];
        call("snmpget", &ask).is_ok()
    };
    let up = wait_until(Duration::from_secs(10), Duration::from_millis(50), answers);
    ensure!(up, "{address} does not answer\n{}", fs::read_to_string(dir.join("log")).unwrap_or_default());
    Ok(())
}

/// Serves objects in the words of net-snmp's `pass_persist` on standard input and output, until that ends.
pub(crate) fn serve(
    objects: impl Fn() -> Vec<String>,
    found: impl Fn(&str) -> String,
    set: impl Fn(&str, &str) -> Result<&'static str>,
) -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let mut next = || lines.next().transpose();
    while let Some(command) = next()? {
        let mut word = || next().map(Option::unwrap_or_default);
        let answer = match command.trim().to_ascii_lowercase().as_str() {
            "" => break,
            "ping" => "PONG".to_owned(),
            "get" => found(word()?.trim()),
            "getnext" => {
                let after = number(&word()?);
                let mut all = objects();
                all.sort_by_key(|object| number(object));
                let object = all.into_iter().find(|object| number(object) > after);
                object.map_or("NONE".to_owned(), |object| found(&object))
            }
            "set" => {
                let (object, value) = (word()?, word()?);
                set(object.trim(), value.trim()).unwrap_or("wrong-value").to_owned()
            }
            _ => "NONE".to_owned(),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn number(object: &str) -> Vec<u32> {
    object.trim().split('.').filter_map(|part| part.parse().ok()).collect()
}
