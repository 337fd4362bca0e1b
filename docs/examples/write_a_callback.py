"""Two custom callbacks: a function, and a class that stores something from step to step."""


# --8<-- [start:function]
def report(state):
    if state.step % 10 == 0:
        print(f"{state.progress:.0%} {dict(state.losses)}")


# --8<-- [end:function]


# --8<-- [start:class]
import time

from nst import Callback


class Deadline(Callback):
    """End the run after a number of seconds."""

    def __init__(self, seconds):
        self.seconds = seconds

    def on_start(self, state):
        self.start = time.monotonic()

    def on_step(self, state):
        if time.monotonic() - self.start > self.seconds:
            state.stop(f"time limit of {self.seconds} s")


# --8<-- [end:class]


# --8<-- [start:run]
from nst import StyleTransfer

result = StyleTransfer().run("photo.jpg", "painting.jpg", callbacks=[report, Deadline(300)])
print(result.stop_reason)
# --8<-- [end:run]
