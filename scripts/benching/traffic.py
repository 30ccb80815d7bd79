"""The traffic programs (benches/gen), and what they report."""
import contextlib
import json
import os
import subprocess
import time

from . import figures
from .hosts import SERVER_ADDRESS, Cores, stop, wait_for

# Beyond the time that a program was told to run.
PATIENCE_SECS = 60
# What is still in a ring when the generator stops has arrived after this, even from a forwarder
# that has a small part of its core.
SETTLE_SECS = 0.15
# Slow enough for every forwarder to learn every flow before anything is counted.
LEARN_PPS = 150_000
SERVICE_PORTS, ASK_PORT = "5000-5015", 5100
CONNECTS_AT_ONCE = 64


def learn(lab, flows):
    """Sends each flow once or more, so that all are known."""
    seconds = max(0.3, flows / LEARN_PPS)
    finish(send(lab, seconds, flows=flows, pps=LEARN_PPS))
    time.sleep(SETTLE_SECS)


def send(lab, seconds, flows=1000, size=64, pps=0, reply=False, more=()):
    """Starts the generator at the client's end, or with `reply` at the server's."""
    host, port, core = ((lab.server, "server0", Cores.second_generator) if reply
                        else (lab.client, "client0", Cores.generator))
    rate = ["--pps", round(pps)] if pps else []
    return lab.start(host, "taskset", "-c", core, os.environ["PKTGEN"], "send", port, "--secs",
                     f"{seconds:.3f}", "--flows", flows, "--size", size, *rate,
                     *(["--reply"] if reply else []), *more,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, seconds=PATIENCE_SECS):
    """What a program reports as JSON when it ends."""
    try:
        out, problem = process.communicate(timeout=seconds + PATIENCE_SECS)
    except subprocess.TimeoutExpired:
        stop(process)
        raise RuntimeError(f"{process.args[4:]} did not end") from None
    if process.returncode:
        raise RuntimeError(f"{' '.join(process.args[4:])}: {(problem or out).strip()[-500:]}")
    return json.loads(out)


def trial(lab, seconds, ways=1, meter=contextlib.nullcontext(), **frames):
    """(offered, received, seconds) of one measurement. `meter` is entered while frames are sent.

    What the interface refused was offered, too: with AF_XDP a full ring is seen by the sender.
    """
    ends = [lab.server, lab.client][:ways]
    before = [figures.packets_counted(lab.listing(end)) for end in ends]
    with meter:
        reports = [finish(process) for process in
                   [send(lab, seconds, reply=way == 1, **frames) for way in range(ways)]]
    time.sleep(SETTLE_SECS)
    after = [figures.packets_counted(lab.listing(end)) for end in ends]
    return (sum(report["sent"] + report["refused"] for report in reports),
            sum(after) - sum(before), max(report["secs"] for report in reports))


def stamped(lab, seconds, pps, **frames):
    """What the sink says of frames that carry the time of their sending."""
    log = f"{lab.folder}/sink.log"
    with open(log, "w") as errors:
        sink = lab.start(lab.server, "taskset", "-c", Cores.sink, os.environ["PKTGEN"], "sink",
                         "server0", stdout=subprocess.PIPE, stderr=errors, text=True)
    wait_for(log, "ready", sink, "the sink")
    sent = finish(send(lab, seconds, pps=pps, more=["--stamp"], **frames))
    time.sleep(SETTLE_SECS)
    sink.terminate()
    return sent, finish(sink)


@contextlib.contextmanager
def service(lab):
    """The server that accepts connections and answers questions."""
    log = f"{lab.folder}/talk.log"
    with open(log, "w") as out:
        server = lab.start(lab.server, os.environ["TALK"], "serve", SERVER_ADDRESS, "--ports",
                           SERVICE_PORTS, "--ask-port", ASK_PORT, stdout=out,
                           stderr=subprocess.STDOUT)
    try:
        wait_for(log, "ready", server, "the server")
        yield
    finally:
        stop(server)


def send_each_once(lab, flows, kind, pps, at_server=False):
    """One frame of each flow: three such runs make real handshakes."""
    host, port = (lab.server, "server0") if at_server else (lab.client, "client0")
    return finish(lab.start(
        host, "taskset", "-c", Cores.generator, os.environ["PKTGEN"], "send", port, "--count",
        "--flows", flows, "--kind", kind, "--pps", pps, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True), flows / pps)


def connect(lab, seconds):
    return finish(lab.start(lab.client, os.environ["TALK"], "connect", SERVER_ADDRESS, "--ports",
                            SERVICE_PORTS, "--secs", seconds, "--at-once", CONNECTS_AT_ONCE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))


def ask(lab, seconds, kind):
    return finish(lab.start(lab.client, os.environ["TALK"], "ask", f"{SERVER_ADDRESS}:{ASK_PORT}",
                            "--kind", kind, "--secs", seconds,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
