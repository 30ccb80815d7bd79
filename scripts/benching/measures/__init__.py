"""What is measured. Each measure lists its cases, says who can take part, and runs one case."""
from .connections import Concurrent, Connections, SynFlood
from .frames import Overload, Udp
from .ftp import Ftp
from .latency import Latency
from .tcp import Tcp

MEASURES = {measure.name: measure for measure in (
    Udp(), Overload(), Connections(), Concurrent(), Tcp(), Latency(), Ftp(), SynFlood())}
