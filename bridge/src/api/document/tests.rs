use super::*;

fn nodes() -> BTreeMap<String, NodeId> {
    [("n1".to_owned(), NodeId(1)), ("n2".to_owned(), NodeId(7))].into()
}

fn read(text: &str) -> Result<Document, Vec<Finding>> {
    parse(text, "cluster.toml".as_ref(), &nodes())
}

const WHOLE: &str = r#"detect = "2s"
quarantine = "30s"
starts_per_node = 4
starts_per_cluster = 20

[fence.bmc-n1]
agent = "fence_ipmilan"
targets = { n1 = { ip = "10.0.0.1" } }
options = { cipher = "3", lanplus = "1", username = "fence" }
secrets = { password = "/etc/convoke/secrets/bmc" }
timeout = "60s"

[fence.pdu]
agent = "fence_apc_snmp"
targets = { n2 = { plug = "3" } }
options = { ip = "10.0.0.9" }
secrets = { community = "credential:convoke.pdu" }
timeout = "20s"

[node.n1]
rack = "a"
"#;

#[test]
fn what_is_shown_is_what_was_applied() {
    let document = read(WHOLE).expect("a good document");
    assert_eq!(document.warnings, []);
    assert_eq!(render(&document.settle(&nodes())), WHOLE);
    let settings = &document.settings;
    assert_eq!((settings.starts_per_node, settings.starts_per_cluster), (Some(4), Some(20)));
    let device = &document.devices["bmc-n1"];
    assert_eq!(device.timeout_ms, 60_000);
    assert_eq!(device.targets[&NodeId(1)]["ip"], "10.0.0.1");
    assert_eq!(document.attributes[&NodeId(1)]["rack"], "a");
}

#[test]
fn an_empty_document_is_the_defaults() {
    let document = read("").expect("empty");
    assert_eq!(document.settings, Settings::default());
    assert!(document.devices.is_empty() && document.attributes.is_empty());
}

#[test]
fn numbers_and_truths_are_what_agents_take() {
    let text = "[fence.a]\nagent = \"fence_x\"\ntargets = { n1 = { plug = 3 } }\noptions = { ssl = true }\n";
    let document = read(text).expect("a good document");
    assert_eq!(document.devices["a"].targets[&NodeId(1)]["plug"], "3");
    assert_eq!(document.devices["a"].options["ssl"], "1");
}

#[test]
fn each_mistake_has_its_place_and_its_remedy() {
    let device = |line: &str| format!("[fence.d]\nagent = \"fence_x\"\ntargets = {{ n1 = {{}} }}\n{line}\n");
    for (text, line, column, message) in [
        ("detect = 2".to_owned(), 1, 10, "not a span of time"),
        ("detect = \"2 parsecs\"".to_owned(), 1, 10, "not a span of time"),
        ("detect = \"100ms\"".to_owned(), 1, 10, "out of range"),
        ("detekt = \"2s\"".to_owned(), 1, 1, "unknown key `detekt`"),
        ("detect = ".to_owned(), 1, 10, ""),
        ("[node.n3]\nrack = \"a\"".to_owned(), 1, 7, "no node `n3`"),
        ("[node.n1]\nrack = []".to_owned(), 2, 8, "not a text"),
        ("[fence.d]\ntargets = {}\n".to_owned(), 1, 8, "has no `agent`"),
        ("[fence.d]\nagent = \"fence_x\"\n".to_owned(), 1, 8, "has no `targets`"),
        ("[fence.d]\nagent = \"/bin/sh\"\ntargets = {}\n".to_owned(), 2, 9, "not the name of a fence agent"),
        ("[fence.d]\nagent = \"fence_\"\ntargets = {}\n".to_owned(), 2, 9, "not the name of a fence agent"),
        (
            "[fence.d]\nagent = \"fence_X-1\"\ntargets = {}\n".to_owned(),
            2,
            9,
            "not the name of a fence agent",
        ),
        (device("plug = \"3\""), 4, 1, "unknown key `plug`"),
        (device("options = { action = \"on\" }"), 4, 13, "set by the cluster"),
        (device("options = { port = \"1\" }"), 4, 13, "which node is switched off"),
        (device("options = { password = \"x\" }"), 4, 13, "log of the cluster"),
        (device("options = { snmp_priv_passwd = \"x\" }"), 4, 13, "log of the cluster"),
        (device("options = { method = \"cycle\" }"), 4, 22, "never proves"),
        (device("options = { ip = \"a\\nb\" }"), 4, 18, "more than one line"),
        (
            device("secrets = { password = \"bmc\" }"),
            4,
            24,
            "neither the path of a file nor `credential:NAME`",
        ),
        (device("secrets = { password = \"credential:../bmc\" }"), 4, 24, "cannot name a credential"),
        (device("options = { ACTION = \"on\" }"), 4, 13, "set by the cluster"),
        (device("options = { Option = \"off\" }"), 4, 13, "set by the cluster"),
        (device("secrets = { action = \"/f\" }"), 4, 13, "set by the cluster"),
        (device("secrets = { port = \"/f\" }"), 4, 13, "is no secret"),
        (device("secrets = { method = \"/f\" }"), 4, 13, "is no secret"),
        (device("secrets = { \"a b\" = \"/f\" }"), 4, 13, "cannot name an option"),
        (device("timeout = \"0s\""), 4, 11, "out of range"),
        (device("timeouts = \"5s\""), 4, 12, "`timeouts` is a table"),
        (device("timeouts = { reboot = \"5s\" }"), 4, 14, "no agent is called for `reboot`"),
        (device("timeouts = { off = 40 }"), 4, 20, "not a span of time"),
        (device("timeouts = { status = \"11min\" }"), 4, 23, "out of range"),
        (device("level = 0"), 4, 9, "not a number that is possible"),
        (device("level = \"first\""), 4, 9, "not a number that is possible"),
        (device("at_once = 0"), 4, 11, "not a number that is possible"),
        (device("retries = 10"), 4, 11, "not a number that is possible"),
        (device("delay = 5"), 4, 9, "not a span of time"),
        ("after_fence = \"reboot\"".to_owned(), 1, 15, "what becomes of a fenced node"),
        ("failure_domain = \"\"".to_owned(), 1, 18, "not the name of an attribute"),
        ("failure_domain = [\"room\"]".to_owned(), 1, 18, "not a text"),
    ] {
        let findings = read(&text).expect_err(&text);
        let [finding] = findings.as_slice() else { panic!("{text}: {findings:?}") };
        assert!(finding.message.contains(message), "{text}: {}", finding.message);
        assert_eq!((finding.line, finding.column), (line, column), "{text}\n{finding}");
        assert!(!finding.help.is_empty(), "{text}");
    }
}

#[test]
fn all_mistakes_are_found_at_once_in_order() {
    let findings = read("quarantine = 1\ndetect = 2\n[node.n9]\n").expect_err("three");
    assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(listing(&findings).contains("cluster.toml:2:10"), "{}", listing(&findings));
}

#[test]
fn levels_and_what_goes_with_them_are_kept() {
    let text = WHOLE.replace("detect", "after_fence = \"on\"\ndetect").replace(
        "timeout = \"20s\"\n",
        "timeout = \"20s\"\nlevel = 2\nretries = 1\nat_once = 4\ndelay = \"5s\"\n",
    );
    let document = read(&text).expect("a good document");
    let pdu = &document.devices["pdu"];
    assert_eq!((pdu.level, pdu.retries, pdu.at_once, pdu.delay_ms), (2, 1, 4, 5_000));
    let shown = render(&document.settle(&nodes()));
    assert_eq!(read(&shown).expect("what is shown is good").settle(&nodes()), document.settle(&nodes()));
    assert!(shown.contains("after_fence = \"on\""), "{shown}");
}

#[test]
fn the_failure_domain_is_kept() {
    let text = WHOLE.replace(
        "starts_per_cluster = 20\n",
        "starts_per_cluster = 20\nfailure_domain = \"fire \\\"A\\\"\"\n",
    );
    let document = read(&text).expect("a good document");
    assert_eq!(document.settings.failure_domain.as_deref(), Some("fire \"A\""));
    assert_eq!(render(&document.settle(&nodes())), text);
}

#[test]
fn an_action_has_a_deadline_of_its_own_where_one_is_given() {
    let own = "timeouts = { list = \"1s\", off = \"40s\", on = \"10min\", status = \"5s\" }\n";
    let text = WHOLE.replace("timeout = \"60s\"\n", &format!("timeout = \"60s\"\n{own}"));
    let document = read(&text).expect("a good document");
    let device = &document.devices["bmc-n1"];
    assert_eq!(
        policy::AgentAction::ALL.map(|action| device.deadline_ms(action)),
        [40_000, 600_000, 5_000, 1_000]
    );
    assert!(document.devices["pdu"].timeouts.is_empty());
    assert_eq!(render(&document.settle(&nodes())), text);
}

#[test]
fn a_quarantine_that_a_late_power_off_outlasts_is_told() {
    for (given, told) in [("15s", 0), ("14s", 1), ("0s", 1)] {
        let document = read(&format!("quarantine = \"{given}\"\n")).expect("sound");
        assert_eq!(document.warnings.len(), told, "{given}");
    }
}

#[test]
fn two_devices_without_a_word_on_levels_are_warned_of() {
    let two = WHOLE.replace("n2 = { plug", "n1 = { plug");
    let document = read(&two).expect("two devices");
    let [finding] = document.warnings.as_slice() else { panic!("{:?}", document.warnings) };
    assert!(finding.message.contains("n1 is off only when both `bmc-n1` and `pdu` say so"), "{finding}");
    assert!(finding.help.contains("`level = 2`"), "{finding}");
    for said in ["level = 1", "level = 2"] {
        let said = two.replace("timeout = \"20s\"", &format!("timeout = \"20s\"\n{said}"));
        assert_eq!(read(&said).expect("levels").warnings, []);
    }
}

#[test]
fn two_feeds_are_two_switches() {
    let text = "[fence.a]\nagent = \"fence_x\"\ntargets = { n1 = { plug = 1 } }\n\
                [fence.b]\nagent = \"fence_x\"\ntargets = { n1 = { port = 1 } }\nlevel = 2\n";
    let findings = read(text).expect_err("one switch twice");
    assert!(findings[0].message.contains("`b` switches the same as `a`"), "{}", findings[0]);
}

#[test]
fn two_nodes_are_not_switched_off_by_one_call() {
    let pdu = |targets: &str, options: &str| {
        format!("[fence.pdu]\nagent = \"fence_x\"\ntargets = {{ {targets} }}\noptions = {{ {options} }}\n")
    };
    for (text, good) in [
        (pdu("n1 = { plug = 1 }, n2 = { plug = 2 }", "ip = \"a\""), true),
        (pdu("n1 = { ip = \"a\" }, n2 = { ip = \"b\" }", ""), true),
        (pdu("n1 = { plug = 1 }, n2 = { plug = 1 }", "ip = \"a\""), false),
        (pdu("n1 = { plug = 1 }, n2 = { port = 1 }", "ip = \"a\""), false),
        (pdu("n1 = {}, n2 = {}", "ip = \"a\""), false),
        (pdu("n1 = { systems_uri = \"/1\" }, n2 = { systems-uri = \"/1\" }", "ip = \"a\""), false),
        (pdu("n1 = { username = \"x\" }, n2 = { username = \"y\" }", "ip = \"a\""), false),
        (
            pdu("n1 = {}", "ip = \"a\"") + &pdu("n2 = {}", "ip = \"a\"").replace("fence.pdu", "fence.other"),
            false,
        ),
    ] {
        let findings = read(&text).err().unwrap_or_default();
        assert_eq!(findings.is_empty(), good, "{text}: {findings:?}");
        assert!(good || findings[0].message.contains("would switch off the same for n"), "{}", findings[0]);
        assert!(good || findings[0].message.contains(" and for n"), "{}", findings[0]);
    }
}

#[test]
fn ipmi_traps_are_warned_of() {
    let document = read(&WHOLE.replace("cipher = \"3\", lanplus = \"1\", ", "")).expect("allowed");
    assert_eq!(document.warnings.len(), 2);
    assert!(warning(&document.warnings[0]).starts_with("warning: fence_ipmilan without `lanplus`"));
}

#[test]
fn a_difference_is_shown_under_its_heading() {
    let new = WHOLE.replace("10.0.0.1", "10.0.0.2").replace("\n[node.n1]\nrack = \"a\"\n", "");
    let expected = "  [fence.bmc-n1]\n\
                    - targets = { n1 = { ip = \"10.0.0.1\" } }\n\
                    + targets = { n1 = { ip = \"10.0.0.2\" } }\n\
                    - [node.n1]\n\
                    - rack = \"a\"\n";
    assert_eq!(diff(WHOLE, &new), expected);
    assert_eq!(diff(WHOLE, WHOLE), "");
}

#[test]
fn a_device_that_only_cuts_off_says_how_it_lets_in_again() {
    use policy::Reconnect::{AfterCut, AtBoot, ByNode};
    let device = |agent: &str, said: &str| {
        format!("[fence.a]\nagent = \"{agent}\"\ntargets = {{ n1 = {{ plug = \"x\" }} }}\n{said}")
    };
    for (agent, said, isolates) in [
        ("fence_apc_snmp", "", None),
        ("fence_ifmib", "", Some(AfterCut)),
        ("fence_scsi", "", Some(ByNode)),
        ("fence_x", "isolates = \"at-boot\"\n", Some(AtBoot)),
        ("fence_x", "isolates = \"by-node\"\n", Some(ByNode)),
        ("fence_ifmib", "isolates = \"at-boot\"\n", Some(AtBoot)),
    ] {
        let document = read(&device(agent, said)).expect("a good document");
        assert_eq!(document.devices["a"].isolates, isolates, "{agent} {said}");
        let shown = render(&document.settle(&nodes()));
        assert!(shown.contains(said), "{shown}");
        assert_eq!(
            shown.contains("isolates"),
            !said.is_empty(),
            "what is known of an agent is not said: {shown}"
        );
        assert_eq!(read(&shown).expect("shown").settle(&nodes()), document.settle(&nodes()));
        let warned = document.warnings.iter().any(|warning| warning.message.contains("leaves it running"));
        assert_eq!(
            warned,
            agent == "fence_ifmib" || agent == "fence_scsi",
            "{agent}: {:?}",
            document.warnings
        );
    }
    let findings = read(&device("fence_x", "isolates = \"yes\"\n")).expect_err("no way to let in");
    assert!(findings[0].message.contains("how a node is let in again"), "{}", findings[0]);
}

#[test]
fn what_switches_power_and_what_cuts_off_are_no_level() {
    let text = "[fence.port]\nagent = \"fence_ifmib\"\ntargets = { n1 = { plug = \"x\" } }\n\
                [fence.pdu]\nagent = \"fence_apc_snmp\"\ntargets = { n1 = { plug = \"db\" } }\n";
    let findings = read(text).expect_err("one level");
    assert!(findings[0].message.contains("of one level, and one of them only cuts"), "{}", findings[0]);
    read(&format!("{text}level = 2\n")).expect("two levels");
}
