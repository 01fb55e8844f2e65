//! Each trap, and what is none.

use units::Severity::{Error, Warning};

use super::*;
use crate::fence_agents::given::Table;
use crate::fence_agents::given::tests::given;

#[test]
fn each_trap_is_seen_where_it_is_and_nowhere_else() {
    for (line, found) in [
        ("fence_ipmilan lanplus=1 cipher=3 n1:ip=a", &[][..]),
        ("fence_ipmilan cipher=3 n1:ip=a", &[(Warning, "IPMI 1.5")]),
        ("fence_ipmilan lanplus=0 cipher=3 n1:ip=a", &[(Warning, "IPMI 1.5")]),
        ("fence_ipmilan cipher=3 n1:lanplus=yes n2:lanplus=off", &[(Warning, "IPMI 1.5")]),
        ("fence_ilo4 cipher=3 n1:ip=a", &[]),
        ("fence_ilo4 lanplus=0 cipher=3 n1:ip=a", &[(Warning, "IPMI 1.5")]),
        ("fence_ipmilan lanplus=1 n1:ip=a", &[(Warning, "without `cipher`")]),
        ("fence_ipmilan lanplus=1 n1:cipher=3 n2:", &[(Warning, "without `cipher`")]),
        ("fence_redfish n1:systems_uri=/redfish/v1/Systems/1", &[]),
        ("fence_redfish systems-uri=/redfish/v1/Systems/1 n1:ip=a n2:ip=b", &[]),
        ("fence_redfish n1:ip=a", &[(Error, "may switch off another system")]),
        ("fence_redfish n1:systems_uri=", &[(Error, "may switch off another system")]),
        ("fence_redfish n1:systems_uri=/a n2:ip=b", &[(Error, "may switch off another system")]),
        ("fence_apc_snmp ip=a n1:plug=3", &[]),
        ("fence_apc_snmp snmp_version=2c n1:plug=3", &[(Warning, "with SNMP 2c")]),
        ("fence_apc_snmp snmp_version=3 n1:plug=db,3 n2:plug=web", &[(Warning, "with SNMP 3")]),
        ("fence_apc_snmp n1:plug=3 n2:plug=4 n2:snmp_version=2c", &[(Warning, "with SNMP 2c")]),
        ("fence_apc_snmp snmp-version=2c n1:port=db1", &[]),
        ("fence_ifmib snmp_version=1 n1:port=9", &[(Warning, "cuts a node off and leaves it running")]),
        ("fence_ifmib n1:port=9", &[(Warning, "with SNMP 2c"), (Warning, "cuts a node off")]),
        ("fence_ifmib n1:port=vb-n1", &[(Warning, "cuts a node off and leaves it running")]),
        (
            "fence_scsi devices=/dev/disk/by-id/wwn-1 n1:key=a1 n2:key=a2",
            &[(Warning, "only units with `Fencing=isolated`")],
        ),
        (
            "fence_scsi devices=/dev/disk/by-id/wwn-1 n1:key=a1 n2:",
            &[(Warning, "only units with"), (Warning, "asks corosync for the cluster's name and for n2")],
        ),
        (
            "fence_scsi devices=/dev/disk/by-id/wwn-1 n1:key=a1 n2:key=0a1",
            &[(Warning, "only units with"), (Error, "n1 and n2 have the same key")],
        ),
        (
            "fence_scsi devices=/dev/disk/by-id/wwn-1 key=A1 n1: n2:",
            &[
                (Warning, "only units with"),
                (Error, "disks list the key `A1` as `a1`"),
                (Error, "n1 and n2 have the same key"),
            ],
        ),
        (
            "fence_scsi devices=/dev/disk/by-id/wwn-1 n1:key=0x1 n2:key=0 n3:key=node3 n4:key=0010",
            &[
                (Warning, "only units with"),
                (Error, "disks list the key `0x1` as `1`: fence_scsi takes it for gone, and for fenced"),
                (Error, "`0` is no key"),
                (Error, "`node3` is no key"),
            ],
        ),
        (
            "fence_scsi n1:key=a1",
            &[(Warning, "only units with"), (Warning, "looks for clustered volume groups")],
        ),
        (
            "fence_scsi devices=/dev/sdb,/dev/dm-1 n1:key=a1 n2:key=a2",
            &[
                (Warning, "only units with"),
                (Warning, "/dev/sdb may be another disk"),
                (Warning, "/dev/dm-1 may be"),
            ],
        ),
        ("fence_mpath devices=/dev/mapper/db n1:plug=a1 n2:key=a2", &[(Warning, "only units with")]),
        (
            "fence_mpath devices=/dev/mapper/db n1:",
            &[(Warning, "only units with"), (Warning, "has no key for n1")],
        ),
        (
            "fence_mpath devices=/dev/mapper/db n1:plug=0a1 n2:port=11112222333344445 n3:plug=1111222233334444",
            &[
                (Warning, "only units with"),
                (Error, "disks list the key `0a1` as `a1`: fence_mpath takes"),
                (Error, "`11112222333344445` is no key"),
            ],
        ),
        (
            "fence_mpath n1:plug=a1 n2:plug=a2",
            &[(Warning, "only units with"), (Error, "without `devices` does nothing")],
        ),
        (
            "fence_mpath n1:devices=/dev/sdb n1:plug=a1 n2:devices=/dev/mapper/mpatha n2:plug=a2",
            &[
                (Warning, "only units with"),
                (Error, "/dev/sdb is one path to a disk"),
                (Warning, "/dev/mapper/mpatha may be"),
            ],
        ),
        ("fence_x isolates=after-cut n1:", &[]),
        ("fence_ipdu n1:plug=1", &[(Warning, "with SNMP 3")]),
        ("fence_emerson n1:plug=1", &[(Warning, "with SNMP 2c or 3")]),
        ("fence_emerson snmp_version=1 n1:plug=1", &[]),
        ("fence_sbd devices=/dev/sdb n1:plug=n1", &[(Error, "says off when a message was written")]),
        ("fence_kdump n1:nodename=n1", &[(Error, "has no `status`")]),
        ("fence_heuristics_ping ping_targets=a n1:", &[(Error, "has no `status`")]),
        ("fence_ack_manual n1:", &[(Error, "is named like a fence agent")]),
        ("fence_dummy n1:", &[(Warning, "switches nothing off")]),
        ("fence_x help=0 n1:", &[(Error, "says success, does nothing")]),
        ("fence_x secret:version n1:", &[(Error, "says success, does nothing")]),
        ("fence_x method=onoff n1:", &[]),
        ("fence_x method=cycle n1:", &[(Error, "never proves")]),
        ("fence_x n1:method=CYCLE", &[(Error, "never proves")]),
        ("fence_x disable_timeout=0 n1:", &[]),
        ("fence_x disable-timeout=True n1:", &[(Error, "does not end by itself")]),
        ("fence_x secret:disable_timeout n1:", &[(Error, "does not end by itself")]),
        ("fence_x delay=0 n1:", &[(Error, "cluster's affair")]),
        ("fence_x n1:delay=3", &[(Error, "cluster's affair")]),
        ("fence_x secret:delay n1:", &[(Error, "cluster's affair")]),
        ("fence_x missing-as-off=1 n1:", &[(Error, "taken for fenced")]),
        ("fence_x missing_as_off=0 n1:", &[]),
        ("fence_x ip=a secret:ip n1:", &[(Error, "`ip` is given twice")]),
        ("fence_x secret:systems_uri n1:systems-uri=/a", &[(Error, "are the same")]),
        ("fence_crosslink crosscableip=a n1:", &[(Error, "a broken cable reads as a node that is off")]),
        ("fence_evacuate n1:", &[(Error, "never proves that a node is off")]),
        ("fence_x verbose=0 verbose_level=0 n1:", &[]),
        ("fence_x n1:verbose=yes", &[(Warning, "passwords among them")]),
        ("fence_x verbose_level=2 n1:", &[(Warning, "passwords among them")]),
        ("fence_x debug-file=/tmp/x n1:", &[(Warning, "passwords among them")]),
        ("fence_x secret:community n1:", &[]),
        ("fence_x community=public n1:", &[(Warning, "as good as a password")]),
        ("fence_x ip=a n1:ip=b n2:ip=c", &[]),
        ("fence_x ip=a n1:ipaddr=b", &[(Error, "`ip` and `ipaddr` are the same")]),
        ("fence_x n1:plug=a n2:port=b", &[]),
        ("fence_x n1:plug=a n1:port=b", &[(Error, "`plug` and `port` are the same")]),
        ("fence_x login-timeout=1 login_timeout=2 n1:", &[(Error, "are the same")]),
    ] {
        let remarks = traps(&given(line));
        assert_eq!(remarks.len(), found.len(), "{line}: {remarks:#?}");
        for (remark, (severity, message)) in remarks.iter().zip(found) {
            assert_eq!(remark.severity, *severity, "{line}: {remark:?}");
            assert!(remark.message.contains(message), "{line}: {remark:?}");
            assert!(!remark.help.is_empty(), "{line}");
        }
    }
}

#[test]
fn a_trap_is_shown_where_it_was_written() {
    let spot = |line| traps(&given(line)).pop().expect("a trap").spot;
    let target = || Table::Target("n2".to_owned());
    assert_eq!(spot("fence_ipdu n1:plug=a n2:port=9"), Spot::Value(target(), "port".to_owned()));
    assert_eq!(spot("fence_redfish n1:systems_uri=/a n2:ip=b"), Spot::Target("n2".to_owned()));
    assert_eq!(spot("fence_x n1: n2:delay=3"), Spot::Name(target(), "delay".to_owned()));
    assert_eq!(spot("fence_dummy n1:"), Spot::Agent);
    assert_eq!(spot("fence_ipmilan lanplus=1 n1:"), Spot::Device);
}

#[test]
fn an_agents_notes_are_its_own() {
    assert_eq!(notes("fence_ilo5").len(), 4);
    assert!(notes("fence_redfish").iter().all(|note| !note.contains("SNMP")));
    assert!(notes("fence_x").is_empty());
}
