//! A control connection whose ends put together what arrives, as TCP does.

use std::net::SocketAddr;

use lotus::engine::Verdict;
use lotus::wire::{self, L4, Side, TcpFlags, checksum};

use super::{CLIENT_PORT, FTP, Hosts, Lab, Passed, Segment, at};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    Client,
    Server,
}
use Speaker::{Client, Server};

pub struct Talk {
    pub hosts: Hosts,
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub client_side: Side,
    pub vlan: Vec<u16>,
    /// What the client sends, what the server sends.
    streams: [Stream; 2],
}

/// One direction.
struct Stream {
    /// The sequence number of its first byte.
    first_seq: u32,
    /// How many bytes the sender has sent.
    sent: usize,
    /// What the receiver has, and how much of it has no gap before it.
    received: Vec<Option<u8>>,
    contiguous: usize,
    /// How much of it was acknowledged: what comes again the receiver does not look at.
    acked: usize,
    /// Urgent pointers that reached the receiver, as offsets of the urgent byte.
    urgent: Vec<usize>,
}

impl Speaker {
    pub fn other(self) -> Speaker {
        match self {
            Client => Server,
            Server => Client,
        }
    }
}

impl Talk {
    /// Nothing was sent yet. The client's numbers wrap around soon, the server's are large.
    pub fn new(hosts: Hosts, client_side: Side) -> Talk {
        Talk::on_port(hosts, client_side, FTP)
    }

    pub fn on_port(hosts: Hosts, client_side: Side, port: u16) -> Talk {
        let client = at(hosts.client, CLIENT_PORT);
        Talk::between(hosts, client, at(hosts.server, port), client_side)
    }

    pub fn between(
        hosts: Hosts,
        client: SocketAddr,
        server: SocketAddr,
        client_side: Side,
    ) -> Talk {
        Talk {
            hosts,
            client,
            server,
            client_side,
            vlan: Vec::new(),
            streams: [Stream::new(u32::MAX - 60), Stream::new(2_900_000_000)],
        }
    }

    /// Connected, and logged in.
    pub fn logged_in(lab: &mut Lab, hosts: Hosts, client_side: Side) -> Talk {
        let mut talk = Talk::new(hosts, client_side);
        talk.login(lab);
        talk
    }

    #[track_caller]
    pub fn login(&mut self, lab: &mut Lab) {
        self.connect(lab);
        self.dialogue(
            lab,
            &[
                (Server, "220 ready\r\n"),
                (Client, "USER joe\r\n"),
                (Server, "331 password?\r\n"),
                (Client, "PASS secret\r\n"),
                (Server, "230 welcome\r\n"),
            ],
        );
    }

    #[track_caller]
    pub fn connect(&mut self, lab: &mut Lab) {
        let mut syn = self.segment(Client).with_flags(TcpFlags::SYN).shifted(-1);
        syn.ack = 0;
        let answer = self.segment(Server).shifted(-1);
        let answer = answer.with_flags(TcpFlags::SYN | TcpFlags::ACK);
        for (who, segment) in [
            (Client, syn),
            (Server, answer),
            (Client, self.segment(Client)),
        ] {
            let verdict = lab.pass(self.side(who), segment.frame()).verdict;
            assert_eq!(verdict, Verdict::Forward, "the handshake");
        }
    }

    /// Lines that all must arrive as they were sent.
    #[track_caller]
    pub fn dialogue(&mut self, lab: &mut Lab, lines: &[(Speaker, &str)]) {
        for (who, line) in lines {
            assert_eq!(self.say(lab, *who, line), *line, "{who:?}");
        }
    }

    /// Sends bytes in one segment, in order, and tells what the other end received of them.
    #[track_caller]
    pub fn say(&mut self, lab: &mut Lab, who: Speaker, bytes: impl AsRef<[u8]>) -> String {
        let len = bytes.as_ref().len();
        self.say_cut(lab, who, bytes, len)
    }

    /// The same in segments of so many bytes.
    #[track_caller]
    pub fn say_cut(
        &mut self,
        lab: &mut Lab,
        who: Speaker,
        bytes: impl AsRef<[u8]>,
        segment_bytes: usize,
    ) -> String {
        let bytes = bytes.as_ref();
        let start = self.stream(who).sent;
        for piece in bytes.chunks(segment_bytes.max(1)) {
            let segment = self.segment(who).data(piece);
            self.stream(who).sent += piece.len();
            self.send(lab, who, &segment);
        }
        self.heard_from(who.other(), start)
    }

    /// Bytes at an offset from where the sender stands; they are not counted as sent.
    pub fn say_at(&mut self, lab: &mut Lab, who: Speaker, offset: i64, bytes: &[u8]) -> Verdict {
        let segment = self.segment(who).data(bytes).shifted(offset);
        self.send(lab, who, &segment).verdict
    }

    /// So many bytes were sent, in segments that the test made itself.
    pub fn sent(&mut self, who: Speaker, bytes: usize) {
        self.stream(who).sent += bytes;
    }

    /// An acknowledgment of all that this end has.
    pub fn acknowledge(&mut self, lab: &mut Lab, who: Speaker) {
        let segment = self.segment(who);
        assert_eq!(self.send(lab, who, &segment).verdict, Verdict::Forward);
    }

    /// An empty segment that continues the stream and acknowledges all that has come.
    pub fn segment(&self, who: Speaker) -> Segment {
        let (from, to) = match who {
            Client => (self.client, self.server),
            Server => (self.server, self.client),
        };
        let own = &self.streams[who as usize];
        let other = &self.streams[who.other() as usize];
        let seq = own.first_seq.wrapping_add(own.sent as u32);
        let ack = other.first_seq.wrapping_add(other.contiguous as u32);
        Segment::new(from, to, TcpFlags::ACK, seq, ack).tagged(&self.vlan)
    }

    /// Sends any segment, from the right side.
    pub fn send(&mut self, lab: &mut Lab, who: Speaker, segment: &Segment) -> Passed {
        self.send_frame(lab, who, segment.frame())
    }

    pub fn send_frame(&mut self, lab: &mut Lab, who: Speaker, frame: Vec<u8>) -> Passed {
        let passed = lab.pass(self.side(who), frame);
        for frame in &passed.frames {
            self.arrives(who, frame);
        }
        passed
    }

    pub fn side(&self, who: Speaker) -> Side {
        match who {
            Client => self.client_side,
            Server => self.client_side.other(),
        }
    }

    /// All that an end has received without a gap.
    pub fn heard(&self, who: Speaker) -> String {
        self.heard_from(who, 0)
    }

    /// All behind an offset, as far as there is no gap. Each byte is a character.
    fn heard_from(&self, who: Speaker, start: usize) -> String {
        let stream = &self.streams[who.other() as usize];
        let end = stream.contiguous;
        let bytes = stream.received.get(start..end).unwrap_or_default();
        bytes.iter().flatten().map(|&b| char::from(b)).collect()
    }

    /// How many bytes an end has without a gap.
    pub fn has(&self, who: Speaker) -> usize {
        self.streams[who.other() as usize].contiguous
    }

    /// Offsets of bytes that reached this end as urgent.
    pub fn urgent(&self, who: Speaker) -> &[usize] {
        &self.streams[who.other() as usize].urgent
    }

    fn stream(&mut self, who: Speaker) -> &mut Stream {
        &mut self.streams[who as usize]
    }

    /// What an honest TCP does with a segment of this connection.
    fn arrives(&mut self, from: Speaker, frame: &[u8]) {
        let packet = wire::parse(frame).expect("what leaves is a good frame");
        let ip = packet.ip.expect("IP");
        if ip.fragment.is_some() {
            return; // the tests with fragments look on their own
        }
        let L4::Tcp(segment) = &ip.l4 else { return };
        let sender = match from {
            Client => self.client,
            Server => self.server,
        };
        if (ip.src, segment.src_port) != (sender.ip(), sender.port())
            || segment.flags.has(TcpFlags::SYN | TcpFlags::RST)
            || !checksum::transport_is_right(frame, &ip)
        {
            return;
        }
        if segment.flags.has(TcpFlags::ACK) {
            let acked = self.stream(from.other());
            let up_to = segment.ack.wrapping_sub(acked.first_seq) as usize;
            if up_to <= acked.contiguous {
                acked.acked = acked.acked.max(up_to);
            }
        }
        let stream = self.stream(from);
        let offset = segment.seq.wrapping_sub(stream.first_seq) as i32;
        if segment.flags.has(TcpFlags::URG) {
            let at = offset + i32::from(segment.urgent) - 1;
            stream.urgent.extend(usize::try_from(at));
        }
        for (index, &byte) in frame[ip.payload()].iter().enumerate() {
            let Ok(at) = usize::try_from(offset + index as i32) else {
                continue;
            };
            if at < stream.acked {
                continue;
            }
            if stream.received.len() <= at {
                stream.received.resize(at + 1, None);
            }
            match stream.received[at] {
                None => stream.received[at] = Some(byte),
                Some(had) => assert_eq!(had, byte, "byte {at} arrives twice and differs"),
            }
        }
        while let Some(Some(_)) = stream.received.get(stream.contiguous) {
            stream.contiguous += 1;
        }
    }
}

impl Stream {
    fn new(first_seq: u32) -> Stream {
        Stream {
            first_seq,
            sent: 0,
            received: Vec::new(),
            contiguous: 0,
            acked: 0,
            urgent: Vec::new(),
        }
    }
}
