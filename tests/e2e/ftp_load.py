"""Many FTP sessions with Python's ftplib, and a count of what failed.

ftp_load.py --hosts A,B --ports P,Q --modes active,passive --sessions N --parallel K
            --get REMOTE=LOCAL | --put LOCAL=REMOTE | --list [--timeout S]

Session i takes the i-th combination of host, port and mode, so that all are mixed. A download is
compared with the file LOCAL, and with --store FILE kept. Prints one JSON object; exit code 1 if a
session failed.
"""

import argparse
import ftplib
import io
import itertools
import json
import sys
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument("--hosts", required=True)
parser.add_argument("--ports", required=True)
parser.add_argument("--modes", required=True)
parser.add_argument("--sessions", type=int, default=1)
parser.add_argument("--parallel", type=int, default=1)
parser.add_argument("--get")
parser.add_argument("--put")
parser.add_argument("--store")
parser.add_argument("--list", action="store_true")
parser.add_argument("--timeout", type=float, default=40)
args = parser.parse_args()

mixes = list(itertools.product(args.modes.split(","), args.hosts.split(","), args.ports.split(",")))
failures, lock, numbers = [], threading.Lock(), itertools.count()
# With --parallel all log in first and then transfer at once.
gate = threading.Barrier(args.parallel)


def session(mode, host, port, meet):
    ftp = ftplib.FTP(timeout=args.timeout)
    try:
        ftp.connect(host, int(port))
        ftp.login()
        ftp.set_pasv(mode == "passive")
        if meet:
            gate.wait(timeout=60)
        if args.get:
            remote, local = args.get.split("=")
            got = io.BytesIO()
            ftp.retrbinary("RETR " + remote, got.write)
            if args.store:
                with open(args.store, "wb") as out:
                    out.write(got.getvalue())
            with open(local, "rb") as want:
                if got.getvalue() != want.read():
                    raise RuntimeError("the file differs")
        if args.put:
            local, remote = args.put.split("=")
            with open(local, "rb") as source:
                ftp.storbinary("STOR " + remote, source)
        if args.list:
            ftp.retrlines("LIST", lambda line: print(line, flush=True))
        ftp.quit()
    finally:
        ftp.close()


def worker():
    first = True
    while True:
        number = next(numbers)
        if number >= args.sessions:
            return
        mix = mixes[number % len(mixes)]
        try:
            session(*mix, meet=first and args.parallel > 1)
        except Exception as error:
            with lock:
                failures.append(f"session {number} {' '.join(mix)}: {type(error).__name__} {error}")
        first = False


start = time.monotonic()
threads = [threading.Thread(target=worker) for _ in range(args.parallel)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(
    json.dumps(
        {
            "sessions": args.sessions,
            "failed": len(failures),
            "seconds": round(time.monotonic() - start, 2),
            "failures": failures[:10],
        }
    )
)
sys.exit(1 if failures else 0)
