"""Two nodes of Convoke that may run the unit, and a witness that serves the disks which all three share."""

import json
import queue
import threading
import time
from collections import Counter
from pathlib import Path

from guards import DISKS, HELD, SHARED, file, key
from report import Failed, say, until
from room import LAN, STEP_S, Machine

TARGET = "iqn.2026-11.example.convoke:disks"
UNIT = "journal.service"
# Another exclusive one, which shares nothing.
OTHER = "other.service"
# The most that there is. A machine that boots on a busy host gets next to nothing of it, while an idle one keeps the host's
# time: with 20 s, beside ten other processes that wanted the two cores, nodes were called lost that were only slow.
DETECT_S = 60
QUARANTINE_S = 10
LOOK_S = 60


def initiator(node):
    return f"iqn.2026-11.example.convoke:{node}"


class Cluster:
    def __init__(self, room, journal, package, guard):
        self.room, self.journal, self.package, self.guard = room, journal, package, guard
        networks = [LAN, *guard.paths]
        self.nodes = [Machine(room, f"n{i}", i, networks, journal=journal) for i in (1, 2)]
        # With the witness there is a quorum when a node is lost. It reaches the disks as they do: only who does can fence by
        # them, or say of another node that it could be fenced.
        self.store = Machine(room, "store", 9, networks, disks=journal.disks.items())
        self.machines = [self.store, *self.nodes]

    def node(self, name):
        return next(one for one in self.nodes if one.name == name)

    def together(self, work, machines):
        """The same on several machines at once; the first failure is the result."""
        ended = queue.SimpleQueue()

        def one(machine):
            try:
                work(machine)
                ended.put(None)
            except Exception as failed:
                ended.put(failed)

        for machine in machines:
            # Nobody waits for it when the suite is interrupted.
            threading.Thread(target=one, args=(machine,), daemon=True).start()
        for _ in machines:
            if failed := ended.get():
                raise failed

    # How it is made.

    def boot(self):
        self.together(self.make_disk, self.machines)
        say(f"disks are made, with {Path(self.package).name} installed")
        for machine in self.machines:
            machine.power_on()
        self.together(Machine.wait_up, self.machines)
        say("all machines have booted")

    def make_disk(self, machine):
        files = {"/etc/hosts": "127.0.0.1 localhost\n" + "".join(f"{one.address(LAN)} {one.name}\n" for one in self.machines)}
        if machine is self.store:
            nodes = " ".join(initiator(one.name) for one in self.machines)
            files["/usr/local/sbin/serve-disks"] = file("serve-disks")
            files["/etc/default/serve-disks"] = f"TARGET={TARGET}\nINITIATORS={nodes}\n"
            files["/etc/systemd/system/serve-disks.service"] = file("serve-disks.service")
        else:
            files["/usr/local/sbin/journal-writer"] = file("journal-writer")
            for unit in [UNIT, OTHER]:
                files[f"/etc/systemd/system/{unit}"] = file(unit)
        files |= self.guard.files(machine.number)
        for unit in ["service", "socket"]:
            files[f"/etc/systemd/system/multipathd.{unit}.d/convoke.conf"] = file("multipathd.conf")
        files["/etc/iscsi/initiatorname.iscsi"] = f"InitiatorName={initiator(machine.name)}\n"
        machine.make_disk(files, self.package)

    def serve_disks(self):
        self.store.shell("systemctl start serve-disks")
        by = " and ".join(self.store.address(path) for path in self.guard.paths)
        say(f"store serves {' and '.join(DISKS)} by iSCSI at {by}")

    def find_disks(self, node):
        """Its disks appear, and will in each boot."""
        found = [f"iscsiadm -m discovery -t sendtargets -p {self.store.address(path)}" for path in self.guard.paths]
        # A lost path is given up soon: another one may be there.
        settings = {"node.startup": "automatic", "node.session.timeo.replacement_timeout": "5"}
        update = [f"iscsiadm -m node -o update -n {name} -v {value}" for name, value in settings.items()]
        node.shell(" && ".join(found + update))
        self.log_in(node)

    def log_in(self, node):
        node.shell("iscsiadm -m node -l")
        for disk in DISKS:
            node.shell(f"udevadm settle; for i in {{1..60}}; do test -b {SHARED}/{disk} && exit; sleep 1; done; exit 1")

    def log_out(self, node):
        gone = f"for i in {{1..60}}; do test ! -e {SHARED}/{DISKS[0]} && exit; sleep 1; done; exit 1"
        node.shell(f"iscsiadm -m node -u && udevadm settle && {gone}")

    def form(self):
        """By the commands of the manual, over the one network alone."""
        first = self.nodes[0]
        first.shell(f"convoke init --name storage --address {first.address(LAN)}")
        self.configure(f'detect = "{DETECT_S}s"\n')
        for machine, role in [(self.nodes[1], ""), (self.store, "--role witness")]:
            token = next(line for line in first.shell("convoke token").split() if line.startswith("convoke1:"))
            machine.shell(f"convoke join {role} --address {machine.address(LAN)} -", stdin=token.encode())
            say(f"{machine.name} has joined")

    def configure(self, text):
        return self.nodes[0].shell("convoke config apply -", stdin=text.encode())

    def configure_fencing(self, options=""):
        targets = ", ".join(f"{one.name} = {{ {self.guard.target(one)} }}" for one in self.machines)
        return self.configure(
            f'detect = "{DETECT_S}s"\nquarantine = "{QUARANTINE_S}s"\n\n'
            f'[fence.disk]\nagent = "{self.guard.agent}"\ntargets = {{ {targets} }}\n'
            f'options = {{ devices = "{self.guard.device}"{options} }}\ntimeout = "60s"\n'
        )

    def configure_held(self):
        """As before, and each agent may be kept waiting after it has taken a key."""
        return self.configure_fencing(f', {self.guard.helper_option} = "{HELD}", power_timeout = "50"')

    # What it says.

    def status(self, by=None):
        """The cluster as one of its nodes sees it; nothing if that cannot say."""
        code, text = (by or self.nodes[0]).try_shell("convoke status --json", LOOK_S)
        try:
            return json.loads(text)
        except ValueError:
            return None

    def node_status(self, name, by=None):
        status = self.status(by) or {"nodes": []}
        return next((one for one in status["nodes"] if one["name"] == name), None)

    def is_ready(self, name, by=None):
        """Whether its device has shown its way open, in its present life."""
        node = self.node_status(name, by)
        return bool(node) and node["state"] == "online" and [one["state"] for one in node["devices"]] == ["ready"]

    def runs_on(self, by=None, name=UNIT):
        status = self.status(by) or {"units": []}
        copies = [copy for unit in status["units"] if unit["name"] == name for copy in unit["copies"]]
        return [copy["node"] for copy in copies if copy["state"] == "active"]

    def registrations(self, by):
        """How many paths of each node have its key, as the disk itself lists them."""
        code, text = by.try_shell(f"sg_persist -n -i -k -d {self.guard.device}", 60)
        found = Counter(word.removeprefix("0x") for word in text.split() if word.startswith("0x"))
        return {one.name: found[key(one.number)] for one in self.machines if found[key(one.number)]}

    def keys(self, by):
        return set(self.registrations(by))

    def forget_keys(self):
        self.store.shell(f"sg_persist -n -o -C -K {key(self.store.number)} -d {self.guard.device}")

    def register(self, machine):
        """As an operator does it by hand: the agent's `on`, on the node itself."""
        told = f"action=on\ndevices={self.guard.device}\n{self.guard.key_option}={key(machine.number)}\n"
        machine.shell(self.guard.agent, stdin=told.encode())

    def paths(self, node):
        """How many paths of the guarded disk's map are in use there."""
        code, text = node.try_shell("multipathd show paths raw format '%m %t'", 60)
        return sum(line.split() == ["guarded", "active"] for line in text.splitlines())

    def boot_id(self, node, limit_s=LOOK_S):
        return node.shell("cat /proc/sys/kernel/random/boot_id", limit_s).strip()

    def wait_ready(self, names, by=None, limit_s=STEP_S):
        for name in names:
            until(f"{name} is ready (`convoke fence` says why not)", lambda: self.is_ready(name, by), limit_s)

    def start_on(self, name, by):
        """Has the unit run there, wherever it is now, and write; says which run of it that is."""
        if not self.runs_on(by):
            by.try_shell(f"convoke start {UNIT}")
        if self.runs_on(by) != [name]:
            by.shell(f"convoke move {UNIT} {name}")
        begun = time.monotonic()

        def written():
            return self.journal.told(begun, node=name, disk="guarded", outcome="written")

        return until(f"{UNIT} has written a few records on {name}", lambda: written()[2:], STEP_S)[0].run

    def save(self):
        """What a person wants to see of a run that failed."""
        for node in self.machines:
            if node.process is None:
                continue
            for name, script in [
                ("status", "convoke status; convoke fence; convoke events -n 200; iscsiadm -m session; multipath -ll"),
                ("journal", "journalctl --no-pager -o short-precise -n 3000"),
            ]:
                try:
                    text = node.try_shell(script, 60)[1]
                except (Failed, OSError) as failed:
                    text = str(failed)
                (self.room.logs / f"{node.name}.{name}").write_text(text)
        heard = "".join(f"{one}\n" for one in self.journal.heard)
        (self.room.logs / "writes").write_text(heard)
