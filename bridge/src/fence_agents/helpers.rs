//! The programs that agents call, which their package does not bring along.
//!
//! Where such a program lies is said by the agent itself, as the default of an option; what is known here is which of
//! these options name a program that the agent cannot do without, and the Debian package that has it.

use std::path::Path;

use super::given::{Given, Remark, Spot};
use super::metadata::Metadata;

/// The option that names a program, and its package. Not among them: what is called only on some ways to a device, as ssh
/// and telnet are.
const HELPERS: &[(&str, &str)] = &[
    ("amttool_path", "amtterm"),
    ("ipmitool_path", "ipmitool"),
    ("mpathpersist_path", "multipath-tools"),
    ("powerman_path", "powerman"),
    ("sbd_path", "sbd"),
    ("sg_persist_path", "sg3-utils"),
    ("snmpget_path", "snmp"),
    ("snmpset_path", "snmp"),
    ("snmpwalk_path", "snmp"),
];

/// The programs that a device's agent calls and that are not below `root`.
#[must_use]
pub fn missing(root: &Path, given: &Given, agent: &Metadata) -> Vec<Remark> {
    let mut remarks: Vec<Remark> = Vec::new();
    for (option, package) in HELPERS {
        let Some(parameter) = agent.parameter(option) else { continue };
        let chosen = given.targets.keys().filter_map(|node| given.value(node, option)).map(|(_, path)| path);
        let mut paths: Vec<&str> = chosen.collect();
        if paths.len() < given.targets.len() {
            paths.extend(parameter.default.as_deref());
        }
        let gone = |path: &&str| path.starts_with('/') && !root.join(path.trim_start_matches('/')).exists();
        let Some(path) = paths.into_iter().find(gone) else { continue };
        let help = format!(
            "install it on every node that may run the agent (on Debian: package {package}), or name another in `{option}`"
        );
        let message = format!("{} calls {path}, which is not on this node", given.agent);
        // One package, one sentence.
        if !remarks.iter().any(|remark| remark.help.contains(&format!("package {package})"))) {
            remarks.push(Remark::warned(Spot::Agent, message, help));
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::given::tests::given;
    use super::*;

    fn agent(options: &[(&str, &str)]) -> Metadata {
        let parameter = |(name, default): &(&str, &str)| {
            format!("<parameter name=\"{name}\"><content type=\"string\" default=\"{default}\"/></parameter>")
        };
        let parameters: String = options.iter().map(parameter).collect();
        let text = format!(
            "<resource-agent name=\"fence_x\"><parameters>{parameters}</parameters><actions><action name=\"off\"/></actions></resource-agent>"
        );
        Metadata::parse(&text).expect("good metadata")
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_its_package() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("usr/bin")).expect("made");
        fs::write(root.path().join("usr/bin/snmpget"), "").expect("written");
        let ipmi = agent(&[("ipmitool_path", "/usr/bin/ipmitool"), ("sudo_path", "/usr/bin/sudo")]);
        let snmp = agent(&[
            ("snmpget_path", "/usr/bin/snmpget"),
            ("snmpset_path", "/usr/bin/snmpset"),
            ("snmpwalk_path", "/usr/bin/snmpwalk"),
        ]);
        for (line, agent, words) in [
            ("fence_x n1:", &ipmi, Some(("/usr/bin/ipmitool", "package ipmitool)"))),
            ("fence_x ipmitool_path=/usr/bin/snmpget n1:", &ipmi, None),
            (
                "fence_x n1:ipmitool_path=/usr/bin/snmpget n2:",
                &ipmi,
                Some(("/usr/bin/ipmitool", "package ipmitool)")),
            ),
            ("fence_x ipmitool-path=/opt/ipmitool n1:", &ipmi, Some(("/opt/ipmitool", "package ipmitool)"))),
            ("fence_x n1:", &snmp, Some(("/usr/bin/snmpset", "package snmp)"))),
        ] {
            let remarks = missing(root.path(), &given(line), agent);
            assert_eq!(remarks.len(), usize::from(words.is_some()), "{line}: {remarks:?}");
            if let (Some(remark), Some((path, package))) = (remarks.first(), words) {
                assert!(remark.message.contains(path) && remark.help.contains(package), "{line}: {remark:?}");
                assert_eq!(remark.severity, units::Severity::Warning);
            }
        }
    }
}
