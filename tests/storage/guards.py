"""The two agents that take keys from disks, and what each wants of the machines: paths to the disks, files, options."""

from pathlib import Path

from room import SAN, SAN2

FILES = Path(__file__).parent / "files"
# Where a disk appears on each machine that sees it.
SHARED = "/dev/shared"
DISKS = ["guarded", "unguarded"]
# Calls an agent's helper, and may keep the agent waiting for it.
HELD = "/usr/local/sbin/held"


def file(name):
    return (FILES / name).read_text()


def key(number):
    """The reservation key of a node. Of itself fence_mpath knows none, and fence_scsi asks corosync, which is not there."""
    return f"c0de000{number}"


def wwid(disk):
    """The name that initiators give to a disk, of the serial number that `serve-disks` writes: so many digits are taken of it."""
    return f"36001405{DISKS.index(disk) + 1:025d}"


class Guard:
    """What is alike."""

    # The file in which a node has to name its own key, if there is one.
    own_key = None

    def files(self, number):
        return {HELD: file("held").replace("HELPER", self.helper)}


class Scsi(Guard):
    """One path to each disk, and no multipath."""

    agent = "fence_scsi"
    paths = [SAN]
    device = f"{SHARED}/guarded"
    key_option = "key"
    helper_option, helper = "sg_persist_path", "/usr/bin/sg_persist"

    def files(self, number):
        return {**super().files(number), "/etc/udev/rules.d/60-shared.rules": file("60-shared.rules")}

    def target(self, machine):
        return f'plug = "{machine.name}", {self.key_option} = "{key(machine.number)}"'


class Mpath(Guard):
    """Two paths to each disk by networks of their own, and multipathd over them."""

    agent = "fence_mpath"
    paths = [SAN, SAN2]
    device = "/dev/mapper/guarded"
    key_option = "plug"
    own_key = "/etc/multipath.conf"
    helper_option, helper = "mpathpersist_path", "/usr/sbin/mpathpersist"

    def files(self, number):
        disks = "".join(f"\tmultipath {{\n\t\twwid {wwid(disk)}\n\t\talias {disk}\n\t}}\n" for disk in DISKS)
        return {
            **super().files(number),
            "/etc/udev/rules.d/60-shared.rules": file("60-shared-mapped.rules"),
            self.own_key: file("multipath.conf").replace("KEY", key(number)) + f"multipaths {{\n{disks}}}\n",
        }

    def target(self, machine):
        return f'{self.key_option} = "{key(machine.number)}"'


GUARDS = [Scsi(), Mpath()]
