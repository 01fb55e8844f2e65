"""What was written to the two disks: as the writers tell it, and as it lies there."""

import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
DISK_MIB = 64


@dataclass(frozen=True)
class Told:
    """One write, as its writer tells it, when that arrived here."""

    at: float
    node: str
    run: str
    number: int
    disk: str
    place: int
    outcome: str


@dataclass(frozen=True)
class Found:
    """One record that lies on a disk."""

    place: int
    node: str
    run: str
    number: int


class Journal:
    """Listens to the writers of all nodes, and reads the disks from below the target."""

    def __init__(self, folder):
        self.disks = {name: Path(folder) / f"disk-{name}" for name in ["guarded", "unguarded"]}
        self.heard = []

    def make_disks(self):
        for path in self.disks.values():
            with open(path, "wb") as file:
                file.truncate(DISK_MIB * 1024 * 1024)

    def listen(self, path):
        port = socket.socket(socket.AF_UNIX)
        port.connect(path)
        threading.Thread(target=self.hear, args=(port,), daemon=True).start()

    def hear(self, port):
        with port.makefile("r", errors="replace") as lines:
            for line in lines:
                words = line.split()
                if len(words) == 6:
                    node, run, number, disk, place, outcome = words
                    self.heard.append(Told(time.monotonic(), node, run, int(number), disk, int(place), outcome))

    def told(self, after=0.0, **which):
        """What was told after a moment, with these values."""
        return [one for one in list(self.heard) if one.at > after and all(getattr(one, key) == value for key, value in which.items())]

    def found(self, disk):
        records = []
        with open(self.disks[disk], "rb") as file:
            place = 0
            while words := file.read(SECTOR).rstrip(b"\0").decode().split():
                node, run, number = words
                records.append(Found(place, node, run, int(number)))
                place += 1
        return records

    def late(self, disk, old, new):
        """Records of a run that lie at or behind the first one of a run that came after it."""
        records = self.found(disk)
        began = [one.place for one in self.heard if one.run == new and one.disk == disk and one.outcome == "written"]
        if not began:
            return []
        return [one for one in records if one.run == old and one.place >= min(began)]

    def lost(self, disk, run):
        """Records that a run was told are written, and that are not there."""
        there = {(one.place, one.number) for one in self.found(disk) if one.run == run}
        acknowledged = [one for one in list(self.heard) if one.run == run and one.disk == disk and one.outcome == "written"]
        return [one for one in acknowledged if (one.place, one.number) not in there]
