"""An FTP server that is not root and so sends data from any port: pyftpd.py PORT FOLDER"""

import logging
import os
import pwd
import sys

try:
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import FTPServer
except ImportError:
    sys.exit("pyftpdlib is missing; install it: apt-get install python3-pyftpdlib")

port, folder = int(sys.argv[1]), sys.argv[2]
nobody = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(nobody.pw_gid)
os.setuid(nobody.pw_uid)

authorizer = DummyAuthorizer()
authorizer.add_anonymous(folder, perm="elradfmwMT")


class Handler(FTPHandler):
    pass


Handler.authorizer = authorizer
Handler.permit_foreign_addresses = False
logging.basicConfig(level=logging.WARNING)
server = FTPServer(("::", port), Handler, backlog=256)
server.max_cons = 1024
server.max_cons_per_ip = 0
print("ready", flush=True)
server.serve_forever()
