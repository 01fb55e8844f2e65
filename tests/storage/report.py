"""What the suite says, with the seconds since it began."""

import time

BEGAN = time.monotonic()


class Failed(Exception):
    """A check that did not hold, or a step that could not be done; the text says which and what to look at."""


def since(moment):
    return moment - BEGAN


def say(text, at=None):
    print(f"{since(time.monotonic() if at is None else at):8.2f} s  {text}", flush=True)


def title(text):
    print(f"\n== {text}", flush=True)


def check(holds, text, otherwise=""):
    """Prints a check that holds; one that does not ends its case."""
    if not holds:
        raise Failed(f"it does not hold that {text}{': ' if otherwise else ''}{otherwise}")
    say(f"  holds: {text}")


def until(what, look, limit_s, every_s=1.0):
    """Waits until `look` returns something, and returns that."""
    ends = time.monotonic() + limit_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > ends:
            raise Failed(f"not within {limit_s} s: {what}")
        time.sleep(every_s)
