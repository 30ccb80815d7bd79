//! FTP over TLS with real servers and clients: a passive range for what can't be read, CCC, implicit
//! TLS.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::dut::{Config, Dut, FTP_PORTS, Lotus, lotus_only, stand_in, strict_rules};
use crate::ftp::noise;
use crate::ledger::Ledger;
use crate::net::{Family, Host, Lab, Proc, eventually, need, text};
use crate::tcp::{Bait, Knock};

/// The servers' passive range; the last port of it is never theirs: a [`Bait`] listens there.
const RANGE: (u16, u16) = (40_000, 40_019);
const TLS_PORTS: &str = "ftp.tls_ports=40000-40020";
const BAIT_PORT: u16 = 40_020;
/// A bait outside the range.
const FAR_BAIT_PORT: u16 = 40_021;

/// Another host at the client's side of the firewall.
const STRANGER: [&str; 2] = ["192.0.2.11", "2001:db8::11"];

const FILE_BYTES: usize = 300_000;
const BIG_FILE_BYTES: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// proftpd, AUTH TLS; also knows CCC.
    Proftpd,
    /// vsftpd, AUTH TLS.
    Vsftpd,
    /// proftpd, TLS from the first byte.
    Implicit,
}

impl Server {
    fn port(self) -> u16 {
        match self {
            Server::Proftpd => 21,
            Server::Vsftpd => 2100,
            Server::Implicit => 990,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Curl,
    Lftp,
}

/// The servers, with a certificate of their own, and the client's files.
struct Site<'l> {
    lab: &'l Lab,
    _servers: Vec<Proc>,
}

#[test]
fn tls_range_named() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab, &[Server::Proftpd, Server::Vsftpd]);
    let mut dut = Dut::start(&lab, &config(TLS_PORTS));
    let ledger = Ledger::open(&lab, &mut dut);
    for server in [Server::Proftpd, Server::Vsftpd] {
        for client in [Client::Curl, Client::Lftp] {
            for family in Family::BOTH {
                site.get(client, server, family, &[]).unwrap();
            }
        }
    }
    for family in Family::BOTH {
        site.range_is_the_sessions_own(family);
    }
    if let Some(lotus) = dut.lotus() {
        assert!(lotus.events("port_opened").is_empty(), "who can read TLS?");
        for (kind, least) in [
            ("range_opened", 10),
            ("range_used", 10),
            ("range_closed", 10),
        ] {
            let all = eventually(Duration::from_secs(10), || {
                lotus.events(kind).len() >= least
            });
            assert!(all, "{kind}: {:?}", lotus.events(kind));
        }
    }
    ledger.close(&lab, &mut dut);
    dut.stop();
}

/// Nothing is opened, the client learns it at once, and the event says which setting to use.
#[test]
fn tls_no_range_named_fails_fast() {
    /// curl tries EPSV and then PASV. What nobody answers takes it two minutes.
    const AT_ONCE: Duration = Duration::from_secs(8);
    /// lftp waits between its own attempts.
    const LFTP: Duration = Duration::from_secs(60);
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab, &[Server::Proftpd]);
    let mut dut = Dut::start(&lab, &config("ftp.active=yes"));
    let ledger = Ledger::open(&lab, &mut dut);
    for client in [Client::Curl, Client::Lftp] {
        for family in Family::BOTH {
            let start = Instant::now();
            let result = site.get(client, Server::Proftpd, family, &[]);
            let took = start.elapsed();
            crate::say(&format!(
                "{client:?} {family:?} without a range: {took:.1?}"
            ));
            assert_eq!(
                result.is_ok(),
                stand_in(),
                "{client:?} {family:?}: {result:?}"
            );
            if let Err(log) = result {
                let bound = match client {
                    Client::Curl => AT_ONCE,
                    Client::Lftp => LFTP,
                };
                assert!(took < bound, "{client:?} {family:?} waited {took:?}: {log}");
                assert!(!log.contains("Login failed"), "{log}");
            }
        }
    }
    if let Some(lotus) = dut.lotus() {
        assert!(
            lotus.status().drops("tls_no_range") >= 4,
            "{:?}",
            lotus.status()
        );
        for kind in ["encrypted", "range_missed"] {
            let events = lotus.events(kind);
            assert!(events.len() >= 4, "{kind}: {events:?}");
            for event in events {
                let advice = event["advice"].as_str().unwrap_or_default();
                assert!(advice.contains("tls_ports"), "{event}");
            }
        }
        assert!(lotus.events("port_opened").is_empty());
        assert!(lotus.events("range_opened").is_empty());
    }
    ledger.close(&lab, &mut dut);
    dut.stop();
}

/// After CCC there is clear text again, and ports are opened one by one.
#[test]
fn tls_ccc_opens_exactly_the_port() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab, &[Server::Proftpd]);
    // No range: what opens the ports is that they are read.
    let mut dut = Dut::start(&lab, &config("ftp.active=yes"));
    let ledger = Ledger::open(&lab, &mut dut);
    let mut transfers = 0;
    for family in Family::BOTH {
        // Not lftp: it and proftpd often reset each other after CCC, without a firewall, too.
        for mode in ["active", "passive"] {
            let ccc = ["--ftp-ssl-ccc", "--ftp-ssl-ccc-mode", mode];
            site.get(Client::Curl, Server::Proftpd, family, &ccc)
                .unwrap();
            transfers += 1;
        }
    }
    site.get(
        Client::Curl,
        Server::Proftpd,
        Family::V4,
        &["--ftp-ssl-ccc", "--disable-epsv"],
    )
    .unwrap();
    transfers += 1;
    let baits =
        [BAIT_PORT, FAR_BAIT_PORT].map(|port| Bait::lay(&lab, Host::Server, Family::V4, port));
    let mut download = site.slow_get(Family::V4, &["--ftp-ssl-ccc"]);
    transfers += 1;
    for bait in &baits {
        let expected = shut();
        assert_eq!(bait.knock(&lab, expected), expected, "{bait:?}");
    }
    assert!(download.alive(), "over too early: {}", download.output());
    assert!(
        download.wait(Duration::from_secs(60)).success(),
        "{}",
        download.output()
    );
    ledger.close(&lab, &mut dut);
    if let Some(lotus) = dut.lotus() {
        let all = eventually(Duration::from_secs(10), || {
            lotus.events("clear_again").len() == transfers
        });
        assert!(all, "{:?}", lotus.events("clear_again"));
        for kind in ["port_opened", "port_used"] {
            let events = lotus.events(kind);
            assert_eq!(events.len(), transfers, "{kind}: {events:?}");
        }
        assert!(lotus.events("range_opened").is_empty());
    }
    dut.stop();
}

#[test]
fn tls_implicit() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab, &[Server::Implicit]);
    let config = config(TLS_PORTS).set(&["ftp.implicit_tls=yes"]);
    let mut dut = Dut::start(&lab, &config);
    let ledger = Ledger::open(&lab, &mut dut);
    for client in [Client::Curl, Client::Lftp] {
        for family in Family::BOTH {
            site.get(client, Server::Implicit, family, &[]).unwrap();
        }
    }
    if let Some(lotus) = dut.lotus() {
        let all = eventually(Duration::from_secs(10), || {
            lotus.events("range_used").len() >= 4
        });
        assert!(all, "{:?}", lotus.events("range_used"));
    }
    ledger.close(&lab, &mut dut);
    dut.stop();
}

/// Without that setting, what begins with TLS is no FTP.
#[test]
fn tls_implicit_must_be_said() {
    if !lotus_only() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let site = Site::start(&lab, &[Server::Implicit]);
    let mut dut = Dut::start(&lab, &config(TLS_PORTS));
    let result = site.get(
        Client::Curl,
        Server::Implicit,
        Family::V4,
        &["--max-time", "6"],
    );
    assert!(
        result.is_err(),
        "a range was opened for what is not known to be FTP"
    );
    let lotus: &Lotus<'_> = dut.lotus().expect("lotus");
    assert!(lotus.events("range_opened").is_empty());
    dut.stop();
}

fn config(setting: &str) -> Config {
    let rules = strict_rules(Host::Server, true, "").replace(FTP_PORTS, "{ 21, 990, 2100 }");
    Config::new(Host::Server, rules).set(&[setting])
}

/// What a probe of a shut port must meet.
fn shut() -> Knock {
    if stand_in() {
        Knock::Open
    } else {
        Knock::Silence
    }
}

impl<'l> Site<'l> {
    fn start(lab: &'l Lab, which: &[Server]) -> Site<'l> {
        for program in ["curl", "lftp", "openssl"] {
            need(program, program);
        }
        let root = lab.dir().join("ftp");
        for folder in [&root, &lab.dir().join("empty"), &lab.dir().join("got")] {
            fs::create_dir_all(folder).expect("folder");
        }
        fs::write(root.join("file.bin"), noise(FILE_BYTES, 1)).expect("file");
        fs::write(root.join("big.bin"), noise(BIG_FILE_BYTES, 2)).expect("file");
        certificate(lab);
        for (family, address) in Family::BOTH.into_iter().zip(STRANGER) {
            // Deprecated: nobody uses it who does not say so.
            let more = match family {
                Family::V4 => "/24",
                Family::V6 => "/64 nodad preferred_lft 0",
            };
            let device = Host::Client.interface();
            lab.client
                .ip(&format!("addr add {address}{more} dev {device}"));
        }
        let servers = which
            .iter()
            .map(|server| match server {
                Server::Vsftpd => vsftpd(lab, server.port()),
                _ => proftpd(lab, *server),
            })
            .collect();
        for server in which {
            let listens = eventually(Duration::from_secs(20), || {
                let at = (IpAddr::from([127, 0, 0, 1]), server.port());
                lab.server
                    .enter(|| std::net::TcpStream::connect(at).is_ok())
            });
            assert!(listens, "{server:?} does not listen");
        }
        Site {
            lab,
            _servers: servers,
        }
    }

    /// Fetches the small file and compares it.
    fn get(
        &self,
        client: Client,
        server: Server,
        family: Family,
        more: &[&str],
    ) -> Result<(), String> {
        let got = self.lab.dir().join("got/file.bin");
        let _ = fs::remove_file(&got);
        let output = match client {
            Client::Curl => self.curl(server, family, "file.bin", more).output(),
            Client::Lftp => self.lftp(server, family, more).output(),
        };
        let output = output.expect("client");
        let what = format!("{client:?} {server:?} {family:?}: {}", text(&output));
        // Else it is not what is tested here.
        assert!(
            server == Server::Implicit || what.contains("234"),
            "no TLS: {what}"
        );
        if !output.status.success() {
            return Err(what);
        }
        let same = fs::read(&got).is_ok_and(|bytes| bytes == noise(FILE_BYTES, 1));
        if same {
            Ok(())
        } else {
            Err(format!("other content: {what}"))
        }
    }

    fn curl(&self, server: Server, family: Family, file: &str, more: &[&str]) -> Command {
        let mut command = self.lab.client.command("curl");
        command.args([
            "-sS",
            "--verbose",
            "--max-time",
            "60",
            "--ssl-reqd",
            "--cacert",
        ]);
        command.arg(self.lab.dir().join("cert.pem")).args(more);
        command
            .arg("--output")
            .arg(self.lab.dir().join("got").join(file));
        command.arg(url(server, family, file));
        command
    }

    fn lftp(&self, server: Server, family: Family, more: &[&str]) -> Command {
        let more: String = more.iter().map(|set| format!("set {set}; ")).collect();
        let ca = self.lab.dir().join("cert.pem");
        // The certificate is checked, the name in it is not: it has addresses, which lftp does not
        // look for.
        let set = format!(
            "set ssl:ca-file {}; set ssl:check-hostname no; set ftp:ssl-force yes; \
             set ftp:ssl-allow-anonymous yes; set ftp:ssl-protect-data yes; set net:timeout 20; \
             set net:max-retries 1; set net:reconnect-interval-base 1; set cmd:fail-exit yes; debug 5; {more}",
            ca.display()
        );
        let got = self.lab.dir().join("got/file.bin");
        let mut command = self.lab.client.command("lftp");
        command.env("HOME", self.lab.dir()).args(["--norc", "-c"]);
        // Opened after the settings: it looks at some of them only then.
        let url = url(server, family, "");
        command.arg(format!(
            "{set} open {url}; get file.bin -o {}",
            got.display()
        ));
        command
    }

    /// A download of about four seconds that has begun.
    fn slow_get(&self, family: Family, more: &[&str]) -> Proc {
        let got = self.lab.dir().join("got/big.bin");
        let _ = fs::remove_file(&got);
        let more = [&["--limit-rate", "4M"], more].concat();
        let command = self.curl(Server::Proftpd, family, "big.bin", &more);
        let download = self.lab.start(command, "curl");
        let begun = eventually(Duration::from_secs(20), || {
            got.metadata().is_ok_and(|file| file.len() > 0)
        });
        assert!(begun, "it does not begin: {}", download.output());
        download
    }

    /// While a session lives its client reaches the whole range and nothing else, another host
    /// nothing; afterwards nobody does.
    fn range_is_the_sessions_own(&self, family: Family) {
        let [inner, outer] =
            [BAIT_PORT, FAR_BAIT_PORT].map(|port| Bait::lay(self.lab, Host::Server, family, port));
        let stranger = STRANGER[usize::from(family == Family::V6)];
        let probe = |when: &str, expected: Knock| {
            assert_eq!(
                inner.knock(self.lab, expected),
                expected,
                "{when}, {family:?}: the range"
            );
            // lotus itself refuses it to the client of a session, so that it need not wait.
            let beyond = match expected {
                Knock::Open if !stand_in() => Knock::Refused,
                expected => expected,
            };
            let far = outer.knock(self.lab, beyond);
            assert_eq!(far, beyond, "{when}, {family:?}: beyond the range");
            let other = self.knock_from(stranger, family);
            assert_eq!(
                other,
                shut(),
                "{when}, {family:?}: the range for another host"
            );
        };
        probe("before", shut());
        let mut download = self.slow_get(family, &[]);
        probe("during", Knock::Open);
        assert!(download.alive(), "over too early: {}", download.output());
        assert!(
            download.wait(Duration::from_secs(60)).success(),
            "{}",
            download.output()
        );
        let same =
            fs::read(self.lab.dir().join("got/big.bin")).expect("file") == noise(BIG_FILE_BYTES, 2);
        assert!(same, "other content");
        probe("after", shut());
    }

    /// Tries the bait in the range from one of the client's other addresses.
    fn knock_from(&self, source: &str, family: Family) -> Knock {
        const SCRIPT: &str = "import socket, sys
try:
    socket.create_connection((sys.argv[2], int(sys.argv[3])), 0.5, (sys.argv[1], 0))
    print('open')
except ConnectionRefusedError:
    print('refused')
except TimeoutError:
    print('silence')
";
        let mut command = self.lab.client.command("/usr/bin/python3");
        let to = Host::Server.address(family).to_string();
        command.args(["-c", SCRIPT, source, &to, &BAIT_PORT.to_string()]);
        let output = command.output().expect("python3");
        match String::from_utf8_lossy(&output.stdout).trim() {
            "open" => Knock::Open,
            "refused" => Knock::Refused,
            "silence" => Knock::Silence,
            _ => panic!("{}", text(&output)),
        }
    }
}

fn url(server: Server, family: Family, file: &str) -> String {
    let scheme = if server == Server::Implicit {
        "ftps"
    } else {
        "ftp"
    };
    let host = match Host::Server.address(family) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    format!("{scheme}://{host}:{}/{file}", server.port())
}

/// Makes key.pem and cert.pem in the testbed's folder.
fn certificate(lab: &Lab) {
    let names = format!(
        "subjectAltName=IP:{},IP:{}",
        Host::Server.v4(),
        Host::Server.v6()
    );
    let output = Command::new("openssl")
        .current_dir(lab.dir())
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=server.example", "-addext", &names])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .output()
        .expect("openssl");
    assert!(output.status.success(), "{}", text(&output));
}

/// A program that `scripts/test` may have unpacked instead of installing it.
fn unpacked(program: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr/sbin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), tools])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{program} is missing; scripts/test fetches it"))
}

fn proftpd(lab: &Lab, server: Server) -> Proc {
    let program = unpacked("proftpd");
    let prefix = program
        .ancestors()
        .nth(2)
        .expect("/usr or what stands for it");
    let (dir, port, (first, last)) = (lab.dir().display(), server.port(), RANGE);
    let modules = prefix.join("lib/proftpd");
    let options = match server {
        Server::Implicit => "NoSessionReuseRequired UseImplicitSSL",
        _ => "NoSessionReuseRequired",
    };
    let config = lab.dir().join(format!("proftpd-{port}.conf"));
    let settings = format!(
        "ServerName e2e\nServerType standalone\nModulePath {}\nLoadModule mod_tls.c\n\
         Port {port}\nUseIPv6 on\nUser nobody\nGroup nogroup\nUseReverseDNS off\nWtmpLog off\n\
         ScoreboardFile {dir}/proftpd-{port}.score\nPidFile {dir}/proftpd-{port}.pid\n\
         DelayEngine off\nTransferLog none\nSystemLog {dir}/proftpd-{port}.log\n\
         PassivePorts {first} {last}\nRequireValidShell off\nAuthPAM off\nUseFtpUsers off\n\
         TLSEngine on\nTLSRSACertificateFile {dir}/cert.pem\nTLSRSACertificateKeyFile {dir}/key.pem\n\
         TLSRequired off\nTLSOptions {options}\nTLSLog {dir}/proftpd-{port}.tls\n\
         <Anonymous {dir}/ftp>\n  User nobody\n  Group nogroup\n  UserAlias anonymous nobody\n\
         </Anonymous>\n",
        modules.display()
    );
    fs::write(&config, settings).expect("proftpd's configuration");
    // It looks at who may read its key.
    let key = lab.dir().join("key.pem");
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("permissions");
    let mut command = lab.server.command(&program.display().to_string());
    command.args(["-n", "-d", "1", "-c"]).arg(config);
    lab.start(command, "proftpd")
}

fn vsftpd(lab: &Lab, port: u16) -> Proc {
    let (dir, (first, last)) = (lab.dir().display(), RANGE);
    let config = lab.dir().join(format!("vsftpd-{port}.conf"));
    let settings = format!(
        "listen=NO\nlisten_ipv6=YES\nlisten_port={port}\nbackground=NO\n\
         anonymous_enable=YES\nno_anon_password=YES\nlocal_enable=NO\nanon_root={dir}/ftp\n\
         anon_world_readable_only=NO\nftp_username=bin\nnopriv_user=nobody\n\
         secure_chroot_dir={dir}/empty\nseccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\n\
         xferlog_enable=NO\npasv_min_port={first}\npasv_max_port={last}\n\
         ssl_enable=YES\nallow_anon_ssl=YES\nforce_anon_data_ssl=YES\nforce_anon_logins_ssl=YES\n\
         require_ssl_reuse=NO\nssl_ciphers=HIGH\nrsa_cert_file={dir}/cert.pem\n\
         rsa_private_key_file={dir}/key.pem\n"
    );
    fs::write(&config, settings).expect("vsftpd's configuration");
    let mut command = lab.server.command("vsftpd");
    command.arg(config);
    lab.start(command, "vsftpd")
}
