"""FTP: sessions, small files, one large file."""
import json
import os
import shutil
import sys
import time

from ..hosts import ROOT, SERVER_ADDRESS, stop
from .case import Case, Measure

SMALL_BYTES, SMALL_FILES = 4096, 200
LARGE_BYTES, LARGE_BYTES_QUICK = 1 << 30, 1 << 29
CLIENT = f"{ROOT}/scripts/benching/ftp_client.py"
PATIENCE_SECS = 90


class Ftp(Measure):
    name = "ftp"
    about = "FTP through vsftpd: sessions a second, 200 files of 4 KiB, one file of 1 GiB"
    quantities = {"sessions/s": "more", "files/s": "more", "Gbit/s": "more"}

    def cases(self, options):
        yield Case.of(self.name, what="log in, list, quit")
        yield Case.of(self.name, what=f"{SMALL_FILES} files of 4 KiB, passive, one session")
        size = LARGE_BYTES_QUICK if options.quick else LARGE_BYTES
        yield Case.of(self.name, what=f"one file of {size >> 20} MiB, passive", bytes=size)

    def guess_secs(self, case, options):
        return 8

    def run(self, case, bench):
        lab = bench.lab
        site(lab.folder, case.get("bytes", 0))
        server = lab.start(lab.server, shutil.which("vsftpd"), f"{lab.folder}/vsftpd.conf")
        try:
            for _ in range(100):
                if lab.on(lab.server, "ss", "-Hltn", "sport = :21"):
                    break
                time.sleep(0.05)
            if "bytes" in dict(case.params):
                return {"Gbit/s": large(lab, case["bytes"])}
            how = (["small", SMALL_FILES, SMALL_BYTES] if case["what"].startswith(str(SMALL_FILES))
                   else ["sessions", bench.secs])
            report = json.loads(lab.on(lab.client, sys.executable, CLIENT, SERVER_ADDRESS, *how,
                                       timeout=PATIENCE_SECS))
            name = "files/s" if how[0] == "small" else "sessions/s"
            return {name: report["done"] / report["secs"]}
        finally:
            stop(server)


def large(lab, size):
    """Gbit/s of one download, as curl measures it, login included."""
    out = lab.on(lab.client, "curl", "--silent", "--show-error", "--disable-epsv", "--output",
                 "/dev/null", "--max-time", PATIENCE_SECS, "--write-out",
                 "%{time_total} %{size_download}", f"ftp://{SERVER_ADDRESS}/large.bin")
    seconds, got = out.split()
    if int(got) != size:
        raise RuntimeError(f"curl got {got} of {size} bytes")
    return size * 8 / float(seconds) / 1e9


def site(folder, large_bytes):
    """Files to fetch and vsftpd's settings. It wants a root that its user can't write to."""
    root, empty = f"{folder}/ftp", f"{folder}/empty"
    for path in (root, empty):
        os.makedirs(path, mode=0o755, exist_ok=True)
    with open(f"{root}/small.bin", "wb") as file:
        file.write(os.urandom(SMALL_BYTES))
    with open(f"{root}/large.bin", "wb") as file:
        # Of holes: no disk is measured.
        file.truncate(large_bytes)
    with open(f"{folder}/vsftpd.conf", "w") as file:
        file.write(f"""listen=YES
background=NO
anonymous_enable=YES
no_anon_password=YES
local_enable=NO
anon_root={root}
ftp_username=bin
nopriv_user=nobody
secure_chroot_dir={empty}
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
xferlog_enable=NO
""")
