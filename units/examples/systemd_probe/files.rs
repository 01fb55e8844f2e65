//! The units that are tried, and what their files say.

pub(crate) const UNITS: &[(&str, &str)] = &[
    ("plain.service", "[Service]\nExecStart=sleep 1000\n"),
    ("java.service", "[Service]\nExecStart=sh -c 'trap \"exit 143\" TERM; sleep 1000 & wait'\n"),
    (
        "crashloop.service",
        "[Unit]\nStartLimitBurst=3\n[Service]\nExecStart=false\nRestart=always\nRestartSec=1ms\n",
    ),
    ("exits.service", "[Service]\nExecStart=sleep 0.3\n"),
    ("left.service", "[Service]\nExecStart=sh -c 'sleep 777 & sleep 778 & wait'\nKillMode=process\n"),
    (
        "stubborn.service",
        "[Service]\nExecStart=sh -c 'trap \"\" TERM; while :; do sleep 1; done'\nTimeoutStopSec=1\nSendSIGKILL=no\n",
    ),
    ("loop.service", "[Service]\nExecStart=false\nRestart=always\nRestartSec=600\n"),
    ("a\\x20b.service", "[Service]\nExecStart=sleep 1000\n"),
    ("mnt-x.mount", "[Mount]\nWhat=tmpfs\nWhere=/mnt/x\nType=tmpfs\n"),
    ("group.target", "[Unit]\nWants=part.service\n"),
    (
        "part.service",
        "[Unit]\nPartOf=group.target\nBefore=group.target\n[Service]\nExecStart=sleep 1000\nExecStop=sleep 1\n",
    ),
    ("early.target", "[Unit]\nWants=latepart.service\n"),
    (
        "latepart.service",
        "[Unit]\nPartOf=early.target\nAfter=early.target\n[Service]\nExecStart=sleep 1000\nExecStop=sleep 1\n",
    ),
    ("short.target", "[Unit]\nDescription=Short\n"),
    ("base.service", "[Service]\nExecStart=sleep 1000\n"),
    ("bound.service", "[Unit]\nBindsTo=base.service\nAfter=base.service\n[Service]\nExecStart=sleep 1000\n"),
    ("needs.service", "[Unit]\nRequires=base.service\nAfter=base.service\n[Service]\nExecStart=sleep 1000\n"),
    ("rival.service", "[Unit]\nConflicts=plain.service\n[Service]\nExecStart=sleep 1000\n"),
    ("unneeded.service", "[Unit]\nStopWhenUnneeded=yes\n[Service]\nExecStart=sleep 1000\n"),
    ("wanter.service", "[Unit]\nWants=unneeded.service\n[Service]\nExecStart=sleep 1000\n"),
    ("slow.service", "[Service]\nType=oneshot\nExecStart=sleep 1\n"),
    ("waits.service", "[Unit]\nWants=slow.service\nAfter=slow.service\n[Service]\nExecStart=sleep 1000\n"),
    ("tick.timer", "[Timer]\nOnActiveSec=200ms\nAccuracySec=1ms\nUnit=slow.service\n"),
    ("pull.target", "[Unit]\nWants=slow.service\n"),
    ("other.target", "[Unit]\nAllowIsolate=yes\nRequires=basic.target dbus.service\n"),
    (
        "host.service",
        "[Service]\nExecStart=sleep 1000\nRestart=always\nRestartSec=100ms\nIgnoreOnIsolate=yes\n",
    ),
];
