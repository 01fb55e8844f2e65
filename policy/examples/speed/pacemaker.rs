//! The same cluster as Pacemaker's scheduler sees it, for comparison: what `crm_simulate` takes for it, side by side.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::Command;
use std::time::Instant;

/// What is to be planned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// All nodes are up, and nothing runs.
    Scratch,
    /// All run, each node with its record of every unit as a live cluster has it, and the first has failed.
    OneFailed,
}

/// Whether there is a `crm_simulate` to compare with (Debian: pacemaker-cli-utils).
pub(crate) fn is_there() -> bool {
    Command::new("crm_simulate").arg("--version").output().is_ok_and(|done| done.status.success())
}

/// Seconds that `crm_simulate --run` takes for it from a file, its own start and the reading included.
///
/// # Errors
///
/// The file could not be written, the program not be run, or it did not plan what was to be planned.
pub(crate) fn seconds(units: usize, nodes: usize, case: Case) -> io::Result<f64> {
    let mut file = tempfile::NamedTempFile::with_suffix(".xml")?;
    file.write_all(cib(units, nodes, case).as_bytes())?;
    let begun = Instant::now();
    let done = Command::new("crm_simulate").arg("--run").arg("--xml-file").arg(file.path()).output()?;
    let took = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&done.stdout);
    let (verb, wanted) = match case {
        Case::Scratch => (" Start ", units),
        Case::OneFailed => (" Recover ", 1),
    };
    let planned = said.lines().filter(|line| line.contains(verb) && line.contains("unit-")).count();
    if !done.status.success() || planned != wanted {
        let why = String::from_utf8_lossy(&done.stderr);
        return Err(io::Error::other(format!("crm_simulate planned {planned} of {wanted}: {why}")));
    }
    Ok(took)
}

/// Its configuration and status. Fencing is off, as the cluster on our side has no devices either, and nothing is probed:
/// both sides begin with all said.
fn cib(units: usize, nodes: usize, case: Case) -> String {
    let mut text = String::from(
        r#"<cib crm_feature_set="3.16.2" validate-with="pacemaker-3.9" epoch="1" num_updates="0" admin_epoch="1" have-quorum="1" dc-uuid="1"><configuration><crm_config><cluster_property_set id="o"><nvpair id="o-f" name="stonith-enabled" value="false"/><nvpair id="o-p" name="enable-startup-probes" value="false"/></cluster_property_set></crm_config><nodes>"#,
    );
    for node in 1..=nodes {
        put(&mut text, format_args!(r#"<node id="{node}" uname="n{node}"/>"#));
    }
    text.push_str("</nodes><resources>");
    for unit in 0..units {
        put(
            &mut text,
            format_args!(
                r#"<primitive id="unit-{unit}" class="systemd" type="unit-{unit}"><operations><op id="unit-{unit}-m" name="monitor" interval="60s"/></operations></primitive>"#
            ),
        );
    }
    text.push_str("</resources><constraints/></configuration><status>");
    for node in 1..=nodes {
        put(
            &mut text,
            format_args!(
                r#"<node_state id="{node}" uname="n{node}" in_ccm="true" crmd="online" join="member" expected="member"><lrm id="{node}"><lrm_resources>"#
            ),
        );
        if case == Case::OneFailed {
            for unit in 0..units {
                let (own, mut call) = (unit % nodes + 1 == node, unit * 4);
                put(
                    &mut text,
                    format_args!(r#"<lrm_resource id="unit-{unit}" class="systemd" type="unit-{unit}">"#),
                );
                let mut operation = |name: &str, interval: u32, rc: u8| {
                    call += 1;
                    let task = if name == "last_failure" { "monitor" } else { name };
                    put(
                        &mut text,
                        format_args!(
                            r#"<lrm_rsc_op id="unit-{unit}_{name}_{interval}" operation_key="unit-{unit}_{task}_{interval}" operation="{task}" crm-debug-origin="build_active_RAs" crm_feature_set="3.16.2" transition-key="{call}:1:0:0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a" transition-magic="0:{rc};{call}:1:0:0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a" exit-reason="" on_node="n{node}" call-id="{call}" rc-code="{rc}" op-status="0" interval="{interval}" last-rc-change="1700000000" exec-time="5" queue-time="0" op-digest="f2317cad3d54cec5d7d7aa7d0bf35cf8"/>"#
                        ),
                    );
                };
                if own {
                    operation("start", 0, 0);
                    operation("monitor", 60_000, if unit == 0 { 7 } else { 0 });
                } else {
                    operation("monitor", 0, 7);
                }
                text.push_str("</lrm_resource>");
            }
        }
        text.push_str("</lrm_resources></lrm></node_state>");
    }
    text.push_str("</status></cib>\n");
    text
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes all");
}
