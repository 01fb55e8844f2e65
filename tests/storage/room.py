"""Emulated machines on networks of their own.

Everything is in one network namespace: cables and bridges end with it, and no address of the host is taken. What the
emulator needs is in its root file system (`image`). Each machine dies with the suite, however that ends.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from report import Failed, until

# The cluster talks over the first, disks are reached by the others: so that a node can lose the first and go on writing.
LAN, SAN, SAN2 = "lan", "san", "san2"
NETWORKS = {LAN: "10.86.0", SAN: "10.86.1", SAN2: "10.86.2"}
PREFIX = "convoke-storage-"
HERE = Path(__file__).resolve().parent
MEMORY_MIB = "512"
# Nothing of the kernel's that only costs time here.
LEAN = "net.ifnames=0 mitigations=off cryptomgr.notests apparmor=0 audit=0 nokaslr"
# For one thing that is asked of a machine, and for a boot: an emulated machine on a busy host is very slow.
STEP_S = 600
BOOT_S = 1200


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(map(str, command))}` ends with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class Room:
    """The namespace, its bridges, and the folder of disks and sockets."""

    def __init__(self, image, logs):
        self.image, self.logs = Path(image), Path(logs)
        self.name = f"{PREFIX}{os.getpid()}"
        self.folder = self.image.parent / "runs" / str(os.getpid())
        self.machines = []

    def open(self):
        self.forget_dead()
        self.folder.mkdir(parents=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        run("ip", "netns", "add", self.name)
        for bridge in NETWORKS:
            self.ip("link", "add", bridge, "type", "bridge")
            self.ip("link", "set", bridge, "up")

    def forget_dead(self):
        """What a suite that was killed has left: its machines died with it."""
        for line in run("ip", "netns", "list").splitlines():
            name = line.split()[0]
            owner = name.removeprefix(PREFIX)
            if name.startswith(PREFIX) and not Path("/proc", owner).exists():
                run("ip", "netns", "delete", name)
        for folder in (self.image.parent / "runs").glob("*"):
            if not Path("/proc", folder.name).exists():
                shutil.rmtree(folder)

    def ip(self, *words):
        return run("ip", "-n", self.name, *words)

    def emulator(self, *command):
        """A command in the emulator's root file system, which sees the images and this room's folder at their own paths."""
        tools = self.image / "tools"
        binds = "".join(
            f"mkdir -p '{tools}{path}' && mount --bind '{path}' '{tools}{path}' && "
            for path in ["/dev/net", str(self.folder)]
        )
        # The root file system is one of the images, so that they are bound as files.
        files = "".join(
            f"touch '{tools}/{name}' && mount --bind '{self.image}/{name}' '{tools}/{name}' && "
            for name in ["vmlinuz", "initrd"]
        )
        script = f"{binds}{files}exec setpriv --pdeathsig KILL -- nice -n 19 chroot '{tools}' \"$@\""
        return ["ip", "netns", "exec", self.name, "sh", "-ec", script, "sh", *command]

    def close(self):
        for machine in self.machines:
            machine.power_off()
        if Path("/run/netns", self.name).exists():
            run("ip", "netns", "delete", self.name)
        shutil.rmtree(self.folder, ignore_errors=True)


class Machine:
    """One emulated machine. `number` is the last part of its addresses."""

    def __init__(self, room, name, number, networks, disks=(), journal=None):
        self.room, self.name, self.number, self.networks = room, name, number, networks
        self.disks, self.journal = disks, journal
        self.process = None
        self.root = room.folder / f"{name}.raw"
        self.lock = threading.Lock()
        room.machines.append(self)

    def mac(self, network):
        return f"52:54:00:86:{list(NETWORKS).index(network):02x}:{self.number:02x}"

    def address(self, network):
        return f"{NETWORKS[network]}.{self.number}"

    def socket(self, what):
        return str(self.room.folder / f"{self.name}.{what}")

    def cable(self, network):
        return f"{self.name}-{network}"

    def make_disk(self, files, package=None):
        """The image with these files, which are named by their path in the machine, and with this package."""
        with tempfile.TemporaryDirectory(dir=self.room.folder) as folder:
            os.chmod(folder, 0o755)
            for network in self.networks:
                text = (
                    f"[Match]\nMACAddress={self.mac(network)}\n"
                    f"[Network]\nAddress={self.address(network)}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
                )
                files = {**files, f"/etc/systemd/network/{network}.network": text}
            for path, content in files.items():
                file = Path(folder + path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
                file.chmod(0o755 if content.startswith("#!") else 0o644)
            run(HERE / "disk", self.room.image, folder, self.root, *([package] if package else []))

    def power_on(self):
        log = open(self.room.logs / f"{self.name}.emulator", "ab")
        # A session of its own: ctrl-c reaches the suite, and the suite ends the machines.
        self.process = subprocess.Popen(
            self.room.emulator(*self.command()),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )
        for network in self.networks:
            until(f"{self.name} has its cable", lambda: self.has_cable(network), 30, 0.1)
            self.room.ip("link", "set", self.cable(network), "master", network, "up")
        if self.journal:
            self.journal.listen(self.socket("journal"))

    def has_cable(self, network):
        if self.process.poll() is not None:
            raise Failed(f"{self.name}: the emulator has ended; see {self.room.logs}/{self.name}.emulator")
        return self.cable(network) in self.room.ip("-br", "link")

    def command(self):
        words = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            "-accel", "tcg,thread=single", "-cpu", "qemu64", "-smp", "1", "-m", MEMORY_MIB,
            # A machine's time is counted in its instructions, 4 ns each, and follows the host's only while it idles: one that gets little of a
            # busy host is slow by its own clock as well, and its time limits hold.
            "-icount", "shift=2,sleep=on",
            "-kernel", "/vmlinuz", "-initrd", "/initrd",
            "-append", f"root=/dev/vda rw console=ttyS0 quiet systemd.hostname={self.name} {LEAN}",
            "-drive", f"if=none,id=root,format=raw,cache=unsafe,file={self.root}",
            "-device", "virtio-blk-pci,drive=root",
            "-serial", f"file:{self.room.folder}/{self.name}.console",
            "-qmp", f"unix:{self.socket('qmp')},server=on,wait=off",
            "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
        ]  # fmt: skip
        for port, name in [("agent", "org.qemu.guest_agent.0"), ("journal", "journal")]:
            words += ["-chardev", f"socket,id={port},path={self.socket(port)},server=on,wait=off"]
            words += ["-device", f"virtserialport,chardev={port},name={name}"]
        for network in self.networks:
            words += ["-netdev", f"tap,id={network},ifname={self.cable(network)},script=no,downscript=no"]
            words += ["-device", f"virtio-net-pci,netdev={network},mac={self.mac(network)},romfile="]
        for name, path in self.disks:
            # What the target acknowledges is in the file, where the suite reads it.
            words += ["-drive", f"if=none,id={name},format=raw,cache=writethrough,file={path}"]
            words += ["-device", f"virtio-blk-pci,drive={name},serial={name}"]
        return words

    def power_off(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
            self.process = None
        console = self.room.folder / f"{self.name}.console"
        if console.exists():
            shutil.copy(console, self.room.logs)

    def cut(self, network):
        self.room.ip("link", "set", self.cable(network), "down")

    def mend(self, network):
        self.room.ip("link", "set", self.cable(network), "up")

    def pause(self):
        self.qmp("stop")

    def go_on(self):
        self.qmp("cont")

    def qmp(self, verb):
        with Lines(self.socket("qmp"), 30) as lines:
            lines.read()
            for execute in ["qmp_capabilities", verb]:
                lines.write({"execute": execute})
                while "return" not in lines.read():
                    pass

    # What is done inside, by the guest agent: it needs no network.

    def wait_up(self):
        until(f"{self.name} has booted", self.answers, BOOT_S)

    def answers(self):
        try:
            return self.shell("systemctl is-active basic.target", 30).strip() == "active"
        except (Failed, OSError, ValueError):
            return False

    def shell(self, script, limit_s=STEP_S, stdin=None):
        code, text = self.try_shell(script, limit_s, stdin)
        if code != 0:
            raise Failed(f"{self.name}: `{script}` ends with {code}: {text.strip()}")
        return text

    def try_shell(self, script, limit_s=STEP_S, stdin=None):
        """Exit status and output of a script, both streams together."""
        arguments = {
            "path": "/bin/bash", "arg": ["-c", f"exec 2>&1; {script}"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "COLUMNS=160"],
            "capture-output": True,
        }  # fmt: skip
        if stdin is not None:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        ends = time.monotonic() + limit_s
        with self.lock, Lines(self.socket("agent"), limit_s) as lines:
            lines.synchronize(ends)
            pid = lines.ask("guest-exec", arguments)["pid"]
            while not (status := lines.ask("guest-exec-status", {"pid": pid}))["exited"]:
                if time.monotonic() > ends:
                    raise Failed(f"{self.name}: `{script}` has not ended within {limit_s} s")
                time.sleep(0.2)
        return status.get("exitcode", -1), base64.b64decode(status.get("out-data", "")).decode(errors="replace")


class Lines:
    """JSON objects, one a line, over a socket."""

    def __init__(self, path, limit_s):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(limit_s)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def write(self, value):
        self.socket.sendall(json.dumps(value).encode() + b"\n")

    def read(self):
        line = self.file.readline()
        if not line:
            raise Failed("a machine has closed its control socket")
        return json.loads(line)

    def synchronize(self, ends):
        """An answer to a question of before, whose asker gave up, may still come."""
        mark = time.monotonic_ns() % 2**31
        self.write({"execute": "guest-sync", "arguments": {"id": mark}})
        while self.read().get("return") != mark:
            if time.monotonic() > ends:
                raise Failed("the guest agent does not answer")

    def ask(self, verb, arguments):
        self.write({"execute": verb, "arguments": arguments})
        answer = self.read()
        if "return" not in answer:
            raise Failed(f"{verb}: {answer.get('error', {}).get('desc', answer)}")
        return answer["return"]
