//! Real FTP servers and clients.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::net::{Family, Host, Lab, Proc, need, text};

/// Big enough for several super-frames, small enough for hundreds of transfers.
const FILE_BYTES: usize = 300_000;
/// Long enough at [`SLOW_RATE`] for probes meanwhile.
const BIG_FILE_BYTES: usize = 16 << 20;
const SLOW_RATE: &str = "4M";
const START_WITHIN: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// vsftpd, active data from port 20.
    Vsftpd20,
    /// vsftpd, active data from any port.
    VsftpdAny,
    /// pyftpdlib, not root.
    Pyftpdlib,
}

impl Server {
    pub(crate) const ALL: [Server; 3] = [Server::Vsftpd20, Server::VsftpdAny, Server::Pyftpdlib];

    pub(crate) fn port(self) -> u16 {
        match self {
            Server::Vsftpd20 => 21,
            Server::VsftpdAny => 2100,
            Server::Pyftpdlib => 2121,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Curl,
    Lftp,
    Ftplib,
}

/// How the data port is agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Port,
    Eprt,
    Pasv,
    Epsv,
}

impl Mode {
    pub(crate) fn is_active(self) -> bool {
        matches!(self, Mode::Port | Mode::Eprt)
    }

    /// As lotus names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Port => "PORT",
            Mode::Eprt => "EPRT",
            Mode::Pasv => "PASV",
            Mode::Epsv => "EPSV",
        }
    }
}

/// What each client can do.
pub(crate) const ABILITIES: [(Client, Family, Mode); 14] = [
    (Client::Curl, Family::V4, Mode::Port),
    (Client::Curl, Family::V4, Mode::Eprt),
    (Client::Curl, Family::V4, Mode::Pasv),
    (Client::Curl, Family::V4, Mode::Epsv),
    (Client::Curl, Family::V6, Mode::Eprt),
    (Client::Curl, Family::V6, Mode::Epsv),
    (Client::Lftp, Family::V4, Mode::Port),
    (Client::Lftp, Family::V4, Mode::Pasv),
    (Client::Lftp, Family::V6, Mode::Eprt),
    (Client::Lftp, Family::V6, Mode::Epsv),
    (Client::Ftplib, Family::V4, Mode::Port),
    (Client::Ftplib, Family::V4, Mode::Pasv),
    (Client::Ftplib, Family::V6, Mode::Eprt),
    (Client::Ftplib, Family::V6, Mode::Epsv),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Download,
    Upload,
    /// Of the root folder.
    Listing,
}

/// One transfer to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) family: Family,
    pub(crate) mode: Mode,
    pub(crate) way: Way,
}

/// The FTP servers on the server host, and files at both ends.
#[derive(Debug)]
pub(crate) struct Site<'l> {
    lab: &'l Lab,
    payload: Vec<u8>,
    _servers: Vec<Proc>,
}

impl<'l> Site<'l> {
    /// Starts all servers.
    pub(crate) fn start(lab: &'l Lab) -> Site<'l> {
        for program in ["vsftpd", "curl", "lftp"] {
            need(program, program);
        }
        let root = lab.dir().join("ftp");
        fs::create_dir_all(root.join("incoming")).expect("folder");
        // vsftpd refuses a root that its anonymous user may write to.
        fs::set_permissions(root.join("incoming"), fs::Permissions::from_mode(0o777))
            .expect("permissions");
        fs::create_dir_all(lab.dir().join("empty")).expect("folder");
        fs::create_dir_all(lab.dir().join("got")).expect("folder");
        let payload = noise(FILE_BYTES, 1);
        fs::write(root.join("file.bin"), &payload).expect("file");
        fs::write(lab.dir().join("file.bin"), &payload).expect("file");
        fs::write(root.join("big.bin"), noise(BIG_FILE_BYTES, 2)).expect("file");
        let servers = vec![
            vsftpd(lab, Server::Vsftpd20.port(), true),
            vsftpd(lab, Server::VsftpdAny.port(), false),
            pyftpd(lab, Server::Pyftpdlib.port()),
        ];
        let site = Site {
            lab,
            payload,
            _servers: servers,
        };
        for server in Server::ALL {
            let listens = crate::net::eventually(START_WITHIN, || {
                let at = (IpAddr::from([127, 0, 0, 1]), server.port());
                lab.server
                    .enter(|| std::net::TcpStream::connect(at).is_ok())
            });
            assert!(listens, "{server:?} does not listen");
        }
        site
    }

    /// Makes a transfer and compares the files byte by byte.
    pub(crate) fn transfer(&self, transfer: Transfer) -> Result<(), String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("f{}.bin", NUMBER.fetch_add(1, Ordering::Relaxed));
        let got = match transfer.way {
            Way::Download => self.lab.dir().join("got").join(&name),
            Way::Upload => self.lab.dir().join("ftp/incoming").join(&name),
            Way::Listing => return self.listing(&transfer),
        };
        let mut command = match transfer.client {
            Client::Curl => self.curl(&transfer, &name),
            Client::Lftp => self.lftp(&transfer, &name),
            Client::Ftplib => self.ftplib(&transfer, &name),
        };
        let output = command.output().expect("client");
        if !output.status.success() {
            return Err(format!("{transfer:?}: {}", text(&output)));
        }
        let arrived = fs::read(&got).map_err(|e| format!("{transfer:?}: {e}"))?;
        let _ = fs::remove_file(&got);
        if arrived == self.payload {
            Ok(())
        } else {
            Err(format!("{transfer:?}: other content"))
        }
    }

    fn listing(&self, transfer: &Transfer) -> Result<(), String> {
        let mut command = match transfer.client {
            Client::Curl => self.curl(transfer, ""),
            Client::Lftp => self.lftp(transfer, ""),
            Client::Ftplib => self.ftplib(transfer, ""),
        };
        let output = command.output().expect("client");
        let listed = ["file.bin", "big.bin", "incoming"]
            .iter()
            .all(|name| String::from_utf8_lossy(&output.stdout).contains(name));
        if output.status.success() && listed {
            Ok(())
        } else {
            Err(format!("{transfer:?}: {}", text(&output)))
        }
    }

    /// curl fetching a file, with `more` flags, for tests of their own.
    pub(crate) fn curl_get(&self, family: Family, mode: Mode, more: &[&str]) -> Command {
        let mut command = self.lab.client.command("curl");
        command
            .args(["-sS", "--output", "/dev/null"])
            .args(curl_mode(mode))
            .args(more);
        command.arg(url(family, Server::Vsftpd20, "file.bin"));
        command
    }

    /// A download that takes about four seconds, longer than any probe.
    pub(crate) fn slow_download(&self, family: Family, mode: Mode) -> Proc {
        self.slow_download_at(SLOW_RATE, family, mode)
    }

    /// The same at another rate, in curl's words.
    pub(crate) fn slow_download_at(&self, rate: &str, family: Family, mode: Mode) -> Proc {
        let mut command = self.lab.client.command("curl");
        let got = self.lab.dir().join("got/big.bin");
        command.args(["-sS", "--max-time", "90", "--limit-rate", rate]);
        command.args(curl_mode(mode)).arg("--output").arg(got);
        command.arg(url(family, Server::Pyftpdlib, "big.bin"));
        self.lab.start(command, "curl")
    }

    /// Whether the slow download has brought a first part of its file.
    pub(crate) fn slow_download_begun(&self) -> bool {
        let got = self.lab.dir().join("got/big.bin");
        got.metadata().is_ok_and(|file| file.len() > 0)
    }

    /// Whether the file of a finished slow download is what the server has.
    pub(crate) fn slow_download_arrived(&self) -> bool {
        let read = |name: &str| fs::read(self.lab.dir().join(name)).expect("file");
        read("got/big.bin") == read("ftp/big.bin")
    }

    /// `ftp_load.py` on the client against all families, with the given flags.
    pub(crate) fn load(&self, ports: &str, flags: &[&str]) -> Command {
        let mut command = self.lab.python_command(Host::Client, "ftp_load.py");
        let hosts = format!("{},{}", Host::Server.v4(), Host::Server.v6());
        command.args([
            "--hosts",
            &hosts,
            "--ports",
            ports,
            "--modes",
            "active,passive",
        ]);
        command
            .args(["--get", &format!("file.bin={}", self.local().display())])
            .args(flags);
        command
    }

    fn local(&self) -> PathBuf {
        self.lab.dir().join("file.bin")
    }

    fn curl(&self, transfer: &Transfer, name: &str) -> Command {
        let mut command = self.lab.client.command("curl");
        command
            .args(["-sS", "--max-time", "60"])
            .args(curl_mode(transfer.mode));
        match transfer.way {
            Way::Download => {
                command
                    .arg("--output")
                    .arg(self.lab.dir().join("got").join(name));
                command.arg(url(transfer.family, transfer.server, "file.bin"));
            }
            Way::Upload => {
                command.arg("--upload-file").arg(self.local());
                command.arg(url(
                    transfer.family,
                    transfer.server,
                    &format!("incoming/{name}"),
                ));
            }
            Way::Listing => {
                command.arg(url(transfer.family, transfer.server, ""));
            }
        }
        command
    }

    fn lftp(&self, transfer: &Transfer, name: &str) -> Command {
        let passive = if transfer.mode.is_active() {
            "off"
        } else {
            "on"
        };
        let epsv = if transfer.mode == Mode::Epsv {
            "on"
        } else {
            "off"
        };
        let set = format!(
            "set ftp:passive-mode {passive}; set ftp:prefer-epsv {epsv}; set net:timeout 30; \
             set net:max-retries 1; set cmd:fail-exit yes; set ftp:use-feat no; \
             set ftp:sync-mode on"
        );
        let action = match transfer.way {
            Way::Download => {
                format!(
                    "get file.bin -o {}",
                    self.lab.dir().join("got").join(name).display()
                )
            }
            Way::Upload => format!("put {} -o incoming/{name}", self.local().display()),
            Way::Listing => "ls".to_owned(),
        };
        let mut command = self.lab.client.command("lftp");
        // Its history and caches go to the testbed's folder.
        command.env("HOME", self.lab.dir()).args(["--norc", "-e"]);
        command.arg(format!("{set}; {action}; exit"));
        command.arg(url(transfer.family, transfer.server, ""));
        command
    }

    fn ftplib(&self, transfer: &Transfer, name: &str) -> Command {
        let mut command = self.lab.python_command(Host::Client, "ftp_load.py");
        let host = Host::Server.address(transfer.family).to_string();
        let mode = if transfer.mode.is_active() {
            "active"
        } else {
            "passive"
        };
        command.args(["--hosts", &host, "--modes", mode]);
        command.args(["--ports", &transfer.server.port().to_string()]);
        let local = self.local();
        match transfer.way {
            Way::Download => {
                command.args(["--get", &format!("file.bin={}", local.display())]);
                command
                    .arg("--store")
                    .arg(self.lab.dir().join("got").join(name));
            }
            Way::Upload => {
                command.args(["--put", &format!("{}=incoming/{name}", local.display())]);
            }
            Way::Listing => {
                command.arg("--list");
            }
        }
        command
    }
}

/// Bytes without a pattern, the same for the same seed (xorshift).
pub(crate) fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut data = Vec::with_capacity(bytes + 8);
    while data.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(bytes);
    data
}

fn curl_mode(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::Port => &["--ftp-port", "-", "--disable-eprt"],
        Mode::Eprt => &["--ftp-port", "-"],
        Mode::Pasv => &["--disable-epsv"],
        Mode::Epsv => &[],
    }
}

fn url(family: Family, server: Server, path: &str) -> String {
    let host = match Host::Server.address(family) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    format!("ftp://{host}:{}/{path}", server.port())
}

fn vsftpd(lab: &Lab, port: u16, from_port_20: bool) -> Proc {
    let from_20 = if from_port_20 { "YES" } else { "NO" };
    let root = lab.dir().join("ftp");
    let empty = lab.dir().join("empty");
    let config = lab.dir().join(format!("vsftpd-{port}.conf"));
    // One listener for both families. Its own process isolation is off: kernels in containers
    // may refuse it, and it is not what is tested. User `ftp` exists only where vsftpd's package
    // was configured, `bin` everywhere, and it has a home, which vsftpd wants to see.
    let settings = format!(
        "listen=NO\nlisten_ipv6=YES\nlisten_port={port}\nbackground=NO\n\
         anonymous_enable=YES\nno_anon_password=YES\nlocal_enable=NO\nanon_root={}\n\
         write_enable=YES\nanon_upload_enable=YES\nanon_umask=022\n\
         anon_world_readable_only=NO\nftp_username=bin\nnopriv_user=nobody\n\
         secure_chroot_dir={}\n\
         connect_from_port_20={from_20}\nseccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\n\
         xferlog_enable=NO\nconnect_timeout=30\naccept_timeout=30\n",
        root.display(),
        empty.display()
    );
    fs::write(&config, settings).expect("vsftpd's configuration");
    let mut command = lab.server.command("vsftpd");
    command.arg(config);
    lab.start(command, "vsftpd")
}

fn pyftpd(lab: &Lab, port: u16) -> Proc {
    let folder = lab.dir().join("ftp");
    let arguments = [port.to_string(), folder.display().to_string()];
    let mut server = lab.python(Host::Server, "pyftpd.py", &[&arguments[0], &arguments[1]]);
    server.wait_for("ready", START_WITHIN);
    server
}
