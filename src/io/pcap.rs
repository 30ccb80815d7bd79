//! A port on pcap files: receives the frames of one, writes what is sent to another.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, PcapError};

use super::{BATCH_FRAMES, Port, Received, Sent};
use crate::observe::DropReason;
use crate::wire::{Meta, OwnedFrame, VNET_HEADER_BYTES};

/// A port that reads `R` and writes `W`. At the end of the file it receives nothing more.
pub struct PcapPort<R: Read, W: Write> {
    reader: PcapReader<R>,
    writer: PcapWriter<W>,
    batch: Vec<Packet>,
    now: Duration,
    ended: bool,
}

struct Packet {
    time: Duration,
    frame: OwnedFrame,
    wire_bytes: usize,
}

impl<R: Read, W: Write> PcapPort<R, W> {
    /// A port between these two.
    ///
    /// # Errors
    ///
    /// `input` is no pcap file of Ethernet frames, or `output` can't be written.
    pub fn new(input: R, output: W) -> io::Result<Self> {
        let reader = PcapReader::new(input).map_err(to_io)?;
        let header = reader.header();
        if header.datalink != DataLink::ETHERNET {
            return Err(invalid(format!(
                "frames of type {:?}, not Ethernet",
                header.datalink
            )));
        }
        let header = PcapHeader {
            ts_resolution: header.ts_resolution,
            ..PcapHeader::default()
        };
        let writer = PcapWriter::with_header(output, header).map_err(to_io)?;
        Ok(PcapPort {
            reader,
            writer,
            batch: Vec::new(),
            now: Duration::ZERO,
            ended: false,
        })
    }

    /// When a frame of the current batch was captured, since 1970.
    #[must_use]
    pub fn captured(&self, index: usize) -> Option<Duration> {
        self.batch.get(index).map(|packet| packet.time)
    }

    /// The time at which frames are said to be sent from here on. Without it, that of the latest
    /// frame received.
    pub fn set_time(&mut self, time: Duration) {
        self.now = time;
    }

    /// Whether all frames were received.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Ends both files and hands the written one back.
    ///
    /// # Errors
    ///
    /// What was written last can't be.
    pub fn finish(self) -> io::Result<W> {
        let mut output = self.writer.into_writer();
        output.flush()?;
        Ok(output)
    }
}

fn to_io(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        error => invalid(error.to_string()),
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: Read + Send, W: Write + Send> Port for PcapPort<R, W> {
    fn receive(&mut self) -> io::Result<usize> {
        self.batch.clear();
        while self.batch.len() < BATCH_FRAMES && !self.ended {
            let Some(packet) = self.reader.next_packet() else {
                self.ended = true;
                break;
            };
            let packet = packet.map_err(|error| {
                // The reader would give the same error again.
                self.ended = true;
                to_io(error)
            })?;
            self.batch.push(Packet {
                time: packet.timestamp,
                frame: OwnedFrame::copy_of(&packet.data, &Meta::default()),
                wire_bytes: packet.orig_len as usize,
            });
            self.now = packet.timestamp;
        }
        Ok(self.batch.len())
    }

    fn frame(&mut self, index: usize) -> Received<'_> {
        match self.batch.get_mut(index) {
            Some(packet) if packet.is_whole() => {
                let meta = packet.frame.meta();
                Received::Frame(packet.frame.frame_mut(), meta)
            }
            cut => Received::Unusable {
                reason: DropReason::RxCut,
                bytes: cut.map_or(0, |packet| packet.wire_bytes),
            },
        }
    }

    fn to_send(&self, index: usize) -> &[u8] {
        match self.batch.get(index) {
            Some(packet) if packet.is_whole() => packet.frame.with_header(),
            Some(_) | None => &[],
        }
    }

    fn release(&mut self) {
        self.batch.clear();
    }

    fn send(&mut self, frames: &[IoSlice<'_>], results: &mut Vec<Sent>) {
        for frame in frames {
            let written = frame.get(VNET_HEADER_BYTES..).ok_or(()).and_then(|frame| {
                let bytes = u32::try_from(frame.len()).map_err(drop)?;
                let packet = PcapPacket::new(self.now, bytes, frame);
                self.writer.write_packet(&packet).map_err(drop)
            });
            results.push(written.map(drop).map_err(|()| DropReason::TxError));
        }
    }

    fn lost(&mut self) -> u64 {
        0
    }

    fn check(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Packet {
    fn is_whole(&self) -> bool {
        self.frame.frame().len() >= self.wire_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(packets: &[(u64, usize, &[u8])], datalink: DataLink) -> Vec<u8> {
        let header = PcapHeader {
            datalink,
            ..PcapHeader::default()
        };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for &(seconds, wire_bytes, data) in packets {
            let time = Duration::from_secs(seconds);
            writer
                .write_packet(&PcapPacket::new(time, wire_bytes as u32, data))
                .unwrap();
        }
        writer.into_writer()
    }

    #[test]
    fn what_is_received_and_sent_comes_out_the_same() {
        let input = file(&[(5, 60, &[1; 60]), (7, 90, &[2; 90])], DataLink::ETHERNET);
        let mut port = PcapPort::new(&input[..], Vec::new()).unwrap();
        let mut results = Vec::new();
        assert_eq!(port.receive().unwrap(), 2);
        assert_eq!(port.captured(1), Some(Duration::from_secs(7)));
        for index in 0..2 {
            port.set_time(port.captured(index).unwrap());
            let frame = port.to_send(index).to_vec();
            port.send(&[IoSlice::new(&frame)], &mut results);
        }
        port.send(&[IoSlice::new(&[0; 3])], &mut results);
        assert_eq!(results, [Ok(()), Ok(()), Err(DropReason::TxError)]);
        assert_eq!((port.receive().unwrap(), port.ended()), (0, true));
        assert_eq!(port.finish().unwrap(), input);
    }

    #[test]
    fn frames_that_the_capture_cut_are_unusable() {
        let input = file(&[(0, 1500, &[1; 96])], DataLink::ETHERNET);
        let mut port = PcapPort::new(&input[..], Vec::new()).unwrap();
        port.receive().unwrap();
        assert!(matches!(
            port.frame(0),
            Received::Unusable {
                reason: DropReason::RxCut,
                bytes: 1500
            }
        ));
        assert!(port.to_send(0).is_empty());
    }

    #[test]
    fn other_files_are_refused_and_a_torn_one_says_so() {
        let kind = |bytes: &[u8]| PcapPort::new(bytes, Vec::new()).err().map(|e| e.kind());
        assert!(kind(b"not a capture at all, but long enough").is_some());
        assert_eq!(
            kind(&file(&[], DataLink::RAW)),
            Some(io::ErrorKind::InvalidData)
        );
        let torn = file(&[(0, 60, &[1; 60])], DataLink::ETHERNET);
        let mut port = PcapPort::new(&torn[..torn.len() - 1], Vec::new()).unwrap();
        assert!(port.receive().is_err());
        assert_eq!(port.receive().unwrap(), 0);
    }
}
