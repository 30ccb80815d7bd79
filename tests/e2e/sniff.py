"""Writes each frame that crosses an interface as one JSON line: sniff.py INTERFACE FILE

{"at": nanoseconds, "dir": "in"|"out", "tags": [[tpid, tci], ...], "len": bytes, "hex": first bytes}; length and
bytes are those of the frame without its tags. Ends at SIGTERM.
"""

import json
import select
import signal
import socket
import struct
import sys

ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA = 263, 8
SO_TIMESTAMPNS = 35
VLAN_VALID, TPID_VALID = 0x10, 0x40
OUTGOING = 4
TAGS = (0x8100, 0x88A8, 0x9100)
KEPT_BYTES = 256

interface, path = sys.argv[1:3]
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
sock.bind((interface, ETH_P_ALL))
sock.setblocking(False)

ending = []
signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
out = open(path, "w")
print("ready", flush=True)
while True:
    readable, _, _ = select.select([sock], [], [], 0.05)
    if not readable:
        if ending:
            break
        continue
    frame, extra, _, address = sock.recvmsg(70000, 256)
    tags, at = [], 0
    for level, kind, data in extra:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", data[:20])
            if status & VLAN_VALID:
                tags.append([tpid if status & TPID_VALID else 0x8100, tci])
        elif (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("@ll", data[:16])
            at = seconds * 1_000_000_000 + nanoseconds
    while len(frame) >= 18 and struct.unpack("!H", frame[12:14])[0] in TAGS:
        tags.append(list(struct.unpack("!HH", frame[12:16])))
        frame = frame[:12] + frame[16:]
    line = {
        "at": at,
        "dir": "out" if address[2] == OUTGOING else "in",
        "tags": tags,
        "len": len(frame),
        "hex": frame[:KEPT_BYTES].hex(),
    }
    out.write(json.dumps(line) + "\n")
out.close()
