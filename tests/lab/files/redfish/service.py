"""The Redfish service of one node: sushy-tools, whose only system has the node's power.

Its one argument is a file of settings. All that it is told of power it hands to a program of the lab, where faults are, too; what that
program refuses becomes HTTP 500, and as long as it does not answer nobody gets an answer.
"""

import json
import ssl
import subprocess
import sys

import bcrypt
from sushy_tools import error
from sushy_tools.emulator import main as emulator
from sushy_tools.emulator.resources.systems.base import AbstractSystemsDriver

# What a reset is for the node's power.
RESETS = {
    "On": ("power", "1"),
    "ForceOn": ("power", "1"),
    "ForceOff": ("power", "0"),
    "ForceRestart": ("reset", "1"),
    "GracefulShutdown": ("shutdown", "1"),
}


class Machine(AbstractSystemsDriver):
    """The only system behind this controller."""

    driver = "<a node of the lab>"

    def __init__(self, settings):
        self.hook = settings["hook"]
        self.node = settings["node"]
        self.system = settings["system"]

    @property
    def systems(self):
        return [self.system]

    def uuid(self, identity):
        if identity != self.system:
            raise error.NotFound()
        return self.system

    def name(self, identity):
        self.uuid(identity)
        return self.node

    def get_power_state(self, identity):
        self.uuid(identity)
        return "On" if self._ask("get", "power") == "power:1" else "Off"

    def set_power_state(self, identity, state):
        self.uuid(identity)
        if state not in RESETS:
            raise error.BadRequest(f"a reset of type {state} is not possible")
        self._ask("set", *RESETS[state])

    # A controller has to have these two; the node boots from its disk whatever they say.
    def get_boot_device(self, identity):
        self.uuid(identity)
        return "Hdd"

    def set_boot_device(self, identity, boot_source):
        raise error.NotSupportedError()

    def _ask(self, *words):
        done = subprocess.run([*self.hook, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise error.FishyError(done.stdout.strip() or "the power cannot be controlled")
        return done.stdout.strip()


class Patient(ssl.SSLContext):
    """Leaves the handshake to the thread of its connection: who is frozen or dead in the middle of one holds up nobody else."""

    def wrap_socket(self, *arguments, **options):
        options["do_handshake_on_connect"] = False
        return super().wrap_socket(*arguments, **options)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    # The lowest cost that there is: each request is checked anew.
    digest = bcrypt.hashpw(settings["password"].encode(), bcrypt.gensalt(4)).decode()
    with open(settings["logins"], "w", encoding="utf-8") as file:
        file.write(f"{settings['user']}:{digest}\n")
    emulator.app.configure(
        extra_config={"SUSHY_EMULATOR_AUTH_FILE": settings["logins"], "SUSHY_EMULATOR_FEATURE_SET": "minimum"}
    )
    emulator.Application.systems = Machine(settings)
    context = Patient(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings["certificate"], settings["key"])
    emulator.app.run(host=settings["address"], port=settings["port"], ssl_context=context, threaded=True)


main()
