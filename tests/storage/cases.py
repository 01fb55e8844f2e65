"""What is to be shown. Each case begins with the cluster that the one before has left: whole, the unit running."""

import time

from cluster import OTHER, UNIT
from guards import SHARED, key
from report import Failed, check, say, until
from room import BOOT_S, LAN, STEP_S

# So many records of the new writer come before the old one may go on: there is something to be overwritten.
RECORDS = 10


class Takeover:
    """The moments of one loss, all by the clock of the host."""

    def __init__(self, cluster, victim, old):
        self.cluster, self.journal, self.victim, self.old = cluster, cluster.journal, victim, old
        self.other = next(one for one in cluster.nodes if one is not victim)
        self.boot_id = cluster.boot_id(victim)
        self.lost_at = time.monotonic()
        self.new = self.began = None

    def wait_elsewhere(self):
        """The other node writes, and has written for a while."""
        told = until(
            f"the unit writes on {self.other.name}",
            lambda: self.journal.told(self.lost_at, node=self.other.name, disk="guarded", outcome="written"),
            STEP_S,
        )
        self.new, self.began = told[0].run, told[0].at
        say(f"first record of {told[0].node} acknowledged, {self.began - self.lost_at:.1f} s after the loss", self.began)
        until(
            f"{RECORDS} records of the new writer",
            lambda: len(self.journal.told(run=self.new, disk="guarded", outcome="written")) >= RECORDS,
            STEP_S,
        )

    def wait_refused(self, after):
        """The old copy has tried to write the guarded disk, and was told that it may not."""
        refused = until(f"a write of {self.victim.name} is refused", lambda: self.refused(after), STEP_S, 0.2)[0]
        say(f"a write of {self.victim.name} is refused with {refused.outcome} (its record {refused.number})", refused.at)

    def refused(self, after):
        return [one for one in self.journal.told(after, run=self.old, disk="guarded") if one.outcome != "written"]

    def wait_late(self, after):
        """It goes on and on, and the disk that nobody guards takes what it writes."""
        until(f"{RECORDS} writes of the old copy are refused", lambda: len(self.refused(after)) >= RECORDS, STEP_S, 0.2)
        until("the unguarded disk has late records", lambda: self.journal.late("unguarded", self.old, self.new), STEP_S)

    def judge(self):
        """No write of the old copy lies behind the new one's first. The unguarded disk shows that one would have been seen."""
        of_old = self.journal.told(after=self.began, run=self.old, disk="guarded")
        written = [one for one in of_old if one.outcome == "written"]
        outcomes = {one.outcome: sum(1 for other in of_old if other.outcome == one.outcome) for one in of_old}
        say(f"the old copy told of {len(of_old)} writes to the guarded disk after the new one began: {outcomes}")
        late, control = self.journal.late("guarded", self.old, self.new), self.journal.late("unguarded", self.old, self.new)
        check(of_old, f"the old copy on {self.victim.name} went on and tried to write")
        check(not written, "none of its writes was acknowledged after the new copy began", str(written[:3]))
        check(not late, "no record of it lies at or behind the first one of the new copy", str(late[:3]))
        lost = self.journal.lost("guarded", self.new)
        check(not lost, "every record that the new copy was told is written is there", str(lost[:3]))
        spoiled = self.journal.lost("unguarded", self.new)
        seen = f"the unguarded disk has {len(control)} late records, and {len(spoiled)} of the new copy's are overwritten"
        check(control, f"without a fence they would be seen: {seen}")

    def judge_silent(self):
        """A node without power has written nothing."""
        after = self.journal.told(self.began, run=self.old)
        late = self.journal.late("guarded", self.old, self.new)
        check(not after and not late, f"{self.victim.name} has written nothing since", str((after + late)[:3]))

    def check_key_gone(self):
        keys = self.cluster.keys(self.other)
        check(self.victim.name not in keys, f"the key of {self.victim.name} is gone from the disk", str(keys))


def registers_first(cluster):
    """Nodes register before the unit starts, and without that it does not start."""
    first, bare = cluster.nodes
    for machine in cluster.machines:
        cluster.find_disks(machine)
    say("all see both disks")
    check(cluster.keys(first) == set(), "the guarded disk has no key at first")
    cluster.log_out(bare)
    say(f"{bare.name} is without its disks")
    said = cluster.configure_fencing()
    check("Fencing=isolated" in said, "`config apply` warns that the device only cuts nodes off", said)
    applied = time.monotonic()
    able = [first.name, cluster.store.name]
    cluster.wait_ready(able)
    say(f"{' and '.join(able)} are ready, {time.monotonic() - applied:.1f} s after `config apply`")
    keys = cluster.keys(first)
    check(keys == set(able), f"they have registered and {bare.name} has not, before any unit was asked for", str(keys))

    cluster.start_on(first.name, first)
    say(f"{UNIT} writes on {first.name}")
    said = first.try_shell(f"convoke move --timeout 20s {UNIT} {bare.name}")[1]
    say(f"a move to {bare.name} says: {' '.join(said.split())}")
    stays = cluster.runs_on() == [first.name] and not cluster.journal.told(node=bare.name)
    check(stays, f"it does not run on {bare.name}, which has not registered")

    if cluster.guard.own_key:
        told_of_key(cluster, bare, first)
    begun = time.monotonic()
    cluster.log_in(bare)
    cluster.wait_ready([bare.name])
    say(f"{bare.name} has its disks, and is ready {time.monotonic() - begun:.1f} s later")
    check_all_registered(cluster, first)
    until(f"{UNIT} moves to {bare.name}, as it was asked to", lambda: cluster.runs_on() == [bare.name], STEP_S)
    say(f"{UNIT} has moved there by itself, as it was asked to")


def told_of_key(cluster, bare, by):
    """A node whose own settings name another key registers nothing, and everybody is told why."""
    file, own = cluster.guard.own_key, key(bare.number)
    bare.shell(f"sed -i 's/reservation_key 0x.*/reservation_key 0xbad/' {file} && multipathd reconfigure")
    cluster.log_in(bare)

    def told():
        alarms = (cluster.status(by) or {"alarms": []})["alarms"]
        return [one["text"] for one in alarms if f"`reservation_key` in {file} is 0xbad" in one["text"]]

    said = until(f"`status` tells what {bare.name} lacks", told, STEP_S)[0]
    say(f"`status` says: {said}")
    check(bare.name not in cluster.keys(by), f"{bare.name} has its disks and another key in {file}, and does not register")
    cluster.log_out(bare)
    bare.shell(f"sed -i 's/reservation_key 0x.*/reservation_key 0x{own}/' {file} && multipathd reconfigure")


def check_all_registered(cluster, by):
    paths = len(cluster.guard.paths)
    everybody = {one.name: paths for one in cluster.machines}
    until("the disk has the keys of all", lambda: cluster.registrations(by) == everybody, STEP_S)
    say(f"  holds: all have registered{f', by {paths} paths each' if paths > 1 else ''}")


def paused(cluster):
    """A machine stops between two instructions, is fenced, and goes on: its clock, its lease and its watchdog know nothing of it."""
    victim, by = cluster.nodes
    loss = Takeover(cluster, victim, cluster.start_on(victim.name, by))
    victim.pause()
    say(f"{victim.name} is paused")
    loss.wait_elsewhere()
    loss.check_key_gone()
    # Where nobody can tell it that it is over, it has nothing but its own clock.
    victim.cut(LAN)
    went_on = time.monotonic()
    victim.go_on()
    say(f"{victim.name} goes on, after {went_on - loss.lost_at:.1f} s")
    loss.wait_refused(went_on)
    loss.wait_late(went_on)
    loss.judge()
    victim.mend(LAN)
    say(f"{victim.name} reaches the cluster again")
    return_of(cluster, loss)


def cut_off(cluster):
    """A node that loses the cluster's network and keeps that of its disks, and whose writer does not stop when it is told to."""
    victim, by = cluster.nodes
    old = cluster.start_on(victim.name, by)
    victim.shell("touch /run/stubborn")
    loss = Takeover(cluster, victim, old)
    victim.cut(LAN)
    say(f"{victim.name} is cut off from the cluster; it still reaches its disks")
    loss.wait_refused(loss.lost_at)
    loss.wait_elsewhere()
    loss.check_key_gone()
    loss.wait_late(loss.lost_at)
    reads = victim.try_shell(f"dd if={SHARED}/guarded of=/dev/null bs=512 count=1 iflag=direct status=none")[0]
    say(f"it {'still reads' if reads == 0 else 'does not read'} the disk")
    loss.judge()
    victim.mend(LAN)
    say(f"{victim.name} has its network again")
    return_of(cluster, loss)


def power_lost(cluster):
    """Each node in its turn, while it writes. The machine is gone between two instructions, and its key is not."""
    for victim in cluster.nodes:
        by = next(one for one in cluster.nodes if one is not victim)
        loss = Takeover(cluster, victim, cluster.start_on(victim.name, by))
        victim.power_off()
        check(victim.name in cluster.keys(by), f"{victim.name} has lost its power; its key is still on the disk")
        loss.wait_elsewhere()
        loss.check_key_gone()
        victim.power_on()
        return_of(cluster, loss)
        check(cluster.runs_on(by) == [by.name], f"the unit has stayed on {by.name}")
        loss.judge_silent()


def back_meanwhile(cluster):
    """A paused node goes on while the agent that fences it has taken its key and has not ended."""
    victim, by = cluster.nodes
    run = cluster.start_on(victim.name, by)
    cluster.configure_held()
    everybody = [one.name for one in cluster.machines]
    until("all are ready with the new settings", lambda: all(cluster.is_ready(one, by) for one in everybody), STEP_S)
    executors = [one for one in cluster.machines if one is not victim]
    for one in executors:
        one.shell("touch /run/hold")
    boot_id, lost_at = cluster.boot_id(victim), time.monotonic()
    victim.pause()
    say(f"{victim.name} is paused")

    def held():
        return [one.name for one in executors if one.try_shell("test -e /run/held", 60)[0] == 0]

    executor = until("an agent has taken its key", held, STEP_S, 0.5)[0]
    say(f"the agent on {executor} has taken the key of {victim.name}, and is kept from ending")
    check(victim.name not in cluster.keys(by), "its key is gone")
    went_on = time.monotonic()
    victim.go_on()
    say(f"{victim.name} goes on, after {went_on - lost_at:.1f} s")
    refused = until(
        "a write of it is refused",
        lambda: [one for one in cluster.journal.told(went_on, run=run, disk="guarded") if one.outcome != "written"],
        STEP_S,
        0.2,
    )[0]
    say(f"a write of it is refused with {refused.outcome}", refused.at)
    until(f"{victim.name} is heard", lambda: (cluster.node_status(victim.name, by) or {}).get("state") == "online", STEP_S, 0.5)
    say(f"{victim.name} is heard; the agent may end")
    for one in executors:
        one.shell("rm -f /run/hold /run/held")
    check_all_registered(cluster, by)
    cluster.wait_ready([victim.name], by)
    registered = time.monotonic()
    say(f"{victim.name} has registered anew, {registered - went_on:.1f} s after it went on")
    until(
        f"{victim.name} writes again",
        lambda: cluster.journal.told(registered, node=victim.name, disk="guarded", outcome="written"),
        STEP_S,
    )
    elsewhere = cluster.journal.told(lost_at, node=by.name)
    check(not elsewhere, f"it writes again, and {by.name} has not", str(elsewhere[:3]))
    check(cluster.boot_id(victim) == boot_id, "it was not made to boot")
    cluster.configure_fencing()
    # New settings register everybody anew: one that is paused in the midst of that cannot be cut off.
    cluster.wait_ready(everybody, by)


def at_each_other(cluster):
    """Each of two nodes takes the other one's key: the one is stopped just before it asks the disk, and fenced by the other."""
    first, second = cluster.nodes
    agent = cluster.guard.agent
    cluster.start_on(second.name, first)
    first.shell(f"convoke start --on {first.name} {OTHER}")
    cluster.configure_held()
    # The witness fences nobody here.
    away = cluster.store.shell(f"path=$(command -v {agent}) && mv $path $path.away && echo $path").strip()
    cluster.wait_ready([one.name for one in cluster.machines], first)
    first.shell("rm -f /run/preempted; touch /run/hold-before")
    boot_id = cluster.boot_id(first)
    second.pause()
    say(f"{second.name} is paused")
    until(f"the agent on {first.name} is about to take its key", lambda: first.try_shell("test -e /run/about", 60)[0] == 0, STEP_S, 0.5)
    first.pause()
    say(f"{first.name} is paused too, with the agent about to take the key of {second.name}")
    check(second.name in cluster.keys(cluster.store), f"{second.name} still has its key")
    lost_at = time.monotonic()
    second.go_on()
    say(f"{second.name} goes on")
    until(f"{second.name} takes the key of {first.name}", lambda: first.name not in cluster.keys(second), STEP_S)
    until(f"{OTHER} runs there", lambda: cluster.runs_on(second, OTHER) == [second.name], STEP_S)
    say(f"{second.name} has taken the key of {first.name}, and {OTHER} runs there")
    first.cut(LAN)
    first.go_on()
    first.shell("rm -f /run/hold-before")
    went_on = time.monotonic()
    say(f"{first.name} goes on, and its agent asks the disk for the key of {second.name}")

    def ended():
        # Of several tries the first may only hear that the node's own key was taken.
        agents = first.shell("systemctl list-units --no-legend --plain --state=activating 'convoke-fence-*'", 60)
        code, text = first.try_shell("cat /run/preempted", 60)
        return text.split() if code == 0 and not agents.strip() else None

    statuses = until("that agent has ended", ended, STEP_S)
    check("0" not in statuses, f"the disk refuses it: its helper exits with {' and '.join(statuses)}")
    keys = cluster.keys(second)
    check(second.name in keys and first.name not in keys, f"it has not got it: {second.name} keeps its key", str(keys))
    until(
        f"{RECORDS} more records of {second.name}",
        lambda: len(cluster.journal.told(went_on, node=second.name, disk="guarded", outcome="written")) >= RECORDS,
        STEP_S,
    )
    told = cluster.journal.told(lost_at, node=second.name, disk="guarded")
    refused = [one for one in told if one.outcome != "written"]
    check(not refused, f"none of its {len(told)} writes was refused", str(refused[:3]))
    first.mend(LAN)
    wait_for_boot(cluster, first, boot_id)
    cluster.store.shell(f"mv {away}.away {away}")
    second.shell(f"convoke stop {OTHER}")
    cluster.configure_fencing()
    cluster.wait_ready([one.name for one in cluster.machines], second)
    check_all_registered(cluster, second)


def keys_lost(cluster):
    """The disk forgets all keys, as one whose own power has failed: to an agent every node reads as fenced, and none is refused."""
    victim, by = cluster.nodes
    run = cluster.start_on(victim.name, by)
    cluster.forget_keys()
    victim.pause()
    lost_at = time.monotonic()
    check(not cluster.keys(by), f"{victim.name} is paused, and the disk has no key at all")
    until(
        "an attempt to fence it has failed for that",
        lambda: "is not registered either" in by.try_shell("convoke events -n 50", 60)[1],
        STEP_S,
        5.0,
    )
    say(f"the fence has failed, {time.monotonic() - lost_at:.1f} s after the loss: its executor misses its own key too")
    elsewhere = cluster.journal.told(lost_at, node=by.name)
    check(not elsewhere and cluster.runs_on(by) != [by.name], "the unit does not start elsewhere", str(elsewhere[:3]))
    victim.go_on()
    went_on = time.monotonic()
    until(
        f"{victim.name} goes on, and writes",
        lambda: cluster.journal.told(went_on, run=run, disk="guarded", outcome="written"),
        STEP_S,
    )
    say("it goes on, and its writes are taken: it would have written beside another copy")
    for one in cluster.machines:
        cluster.register(one)
    cluster.wait_ready([one.name for one in cluster.machines], by)
    check_all_registered(cluster, by)
    check(not cluster.journal.told(lost_at, node=by.name), f"{by.name} has never written meanwhile")


def path_lost(cluster):
    """One path of two goes and comes back, and then the other one: it is nobody's affair but multipathd's."""
    node, by = cluster.nodes
    run = cluster.start_on(node.name, by)
    until("it has two paths", lambda: cluster.paths(node) == 2, STEP_S)
    begun = time.monotonic()
    for path in cluster.guard.paths:
        node.cut(path)
        cut = time.monotonic()
        say(f"{node.name} has lost {path}")
        # Longer than it takes to give up a path, so that it was.
        until(f"{path} is given up", lambda: cluster.paths(node) == 1, STEP_S)
        given_up = time.monotonic()
        until(
            "it writes by the other path",
            lambda: len(cluster.journal.told(given_up, run=run, disk="guarded", outcome="written")) >= RECORDS,
            STEP_S,
        )
        say(f"it goes on by the other path; {path} was given up {given_up - cut:.1f} s after it was lost")
        node.mend(path)
        until(f"{path} is taken up again", lambda: cluster.paths(node) == 2, STEP_S)
        say(f"{path} is used again, {time.monotonic() - given_up:.1f} s later")
    told = cluster.journal.told(begun, run=run, disk="guarded")
    refused = [one for one in told if one.outcome != "written"]
    check(not refused, f"none of its {len(told)} writes has failed", str(refused[:3]))
    check_all_registered(cluster, by)
    status = cluster.status(by)
    check(cluster.runs_on(by) == [node.name] and not status["fences"], "the unit has stayed, and nothing is fenced")


def return_of(cluster, loss):
    """The life that was cut off ends by itself; the next one registers anew, and may run units again."""
    victim, by = loss.victim, loss.other
    begun = time.monotonic()
    wait_for_boot(cluster, victim, loss.boot_id)
    cluster.wait_ready([victim.name], by)
    say(f"{victim.name} is ready again, {time.monotonic() - begun:.1f} s after it was let go")
    check_all_registered(cluster, by)


def wait_for_boot(cluster, node, boot_id):
    begun = time.monotonic()

    def booted():
        try:
            return cluster.boot_id(node, 20) != boot_id
        except (Failed, OSError, ValueError):
            return False

    until(f"{node.name} boots by itself", booted, BOOT_S)
    say(f"{node.name} has booted by itself, {time.monotonic() - begun:.1f} s later")


def comes_back(cluster):
    """Where it was cut off twice, it is started and writes."""
    node, by = cluster.nodes
    check(cluster.runs_on(by) != [node.name], f"it runs elsewhere at first, not on {node.name}")
    run = cluster.start_on(node.name, by)
    told = cluster.journal.told(run=run, disk="guarded")
    refused = [one for one in told if one.outcome != "written"]
    check(told and not refused, f"{node.name} writes, and nothing of it is refused: {len(told)} records", str(refused[:3]))
