"""An FTP client for the measurements, run in the client's namespace.

  ftp_client.py ADDRESS sessions SECONDS    log in, list, quit, again and again
  ftp_client.py ADDRESS small FILES BYTES   fetch a small file, passive, in one session

It prints {"done": n, "secs": f}.
"""
import ftplib
import json
import sys
import time

TIMEOUT_SECS = 10


def main():
    address, what, *numbers = sys.argv[1:]
    if what == "sessions":
        done, secs = sessions(address, float(numbers[0]))
    else:
        done, secs = small(address, int(numbers[0]), int(numbers[1]))
    print(json.dumps({"done": done, "secs": secs}))


def sessions(address, seconds):
    done, begun = 0, time.monotonic()
    while time.monotonic() - begun < seconds:
        session = log_in(address)
        if "small.bin" not in session.nlst():
            sys.exit("the listing lacks a file")
        session.quit()
        done += 1
    return done, time.monotonic() - begun


def small(address, files, size):
    session = log_in(address)
    session.voidcmd("TYPE I")
    begun = time.monotonic()
    for _ in range(files):
        parts = []
        session.retrbinary("RETR small.bin", parts.append)
        if sum(map(len, parts)) != size:
            sys.exit("a file came in part")
    took = time.monotonic() - begun
    session.quit()
    return files, took


def log_in(address):
    session = ftplib.FTP(timeout=TIMEOUT_SECS)
    session.connect(address, 21)
    session.login()
    return session


if __name__ == "__main__":
    main()
