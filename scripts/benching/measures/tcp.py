"""TCP connections as fast as they go."""
import time

from .. import figures
from ..hosts import SERVER_ADDRESS, stop
from .case import Case, Measure

PORT = 5201
PATIENCE_SECS = 20
WAYS = {"client to server": [], "server to client": ["--reverse"]}


class Tcp(Measure):
    name = "tcp"
    about = "TCP bulk of 1 and 4 streams, each way, with super-frames where they can pass"
    quantities = {"Gbit/s": "more"}

    def cases(self, options):
        for streams in (1, 4):
            for way in WAYS:
                yield Case.of(self.name, streams=streams, way=way, offloads="as can be")
                if options.offloads_off:
                    yield Case.of(self.name, streams=streams, way=way, offloads="off")

    def run(self, case, bench):
        lab = bench.lab
        server = lab.start(lab.server, "iperf3", "--server", "--port", PORT)
        try:
            for _ in range(100):
                if lab.on(lab.server, "ss", "-Hltn", f"sport = :{PORT}"):
                    break
                time.sleep(0.05)
            # It counts in whole seconds.
            secs = max(1, round(bench.secs))
            return {"Gbit/s": figures.iperf_gbits(lab.on(
                lab.client, "iperf3", "--client", SERVER_ADDRESS, "--port", PORT, "--time", secs,
                "--parallel", case["streams"], "--json", *WAYS[case["way"]],
                timeout=secs + PATIENCE_SECS))}
        finally:
            stop(server)
