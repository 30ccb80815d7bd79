//! Sending straight from where the frames lie.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use crate::io::{BATCH_FRAMES, Sent, link};
use crate::observe::DropReason;

/// Message headers, used again for each call. Between calls they point nowhere.
struct Headers(Box<[libc::mmsghdr; BATCH_FRAMES]>);

// SAFETY: the pointers inside are set and used only within `Transmitter::submit`.
unsafe impl Send for Headers {}

/// A socket that only sends.
pub(super) struct Transmitter {
    socket: OwnedFd,
    ifindex: u32,
    headers: Headers,
}

impl Transmitter {
    pub(super) fn new(socket: OwnedFd, ifindex: u32) -> Transmitter {
        // SAFETY: all zero is a valid `mmsghdr`: null pointers and lengths of zero.
        let empty: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Transmitter {
            socket,
            ifindex,
            headers: Headers(Box::new([empty; BATCH_FRAMES])),
        }
    }

    /// Sends frames in order and pushes a result for each.
    pub(super) fn send(&mut self, frames: &[IoSlice<'_>], results: &mut Vec<Sent>) {
        let mut rest = frames;
        let mut busy = None;
        while !rest.is_empty() {
            match self.submit(rest) {
                Ok(sent) => {
                    results.extend(std::iter::repeat_n(Ok(()), sent.min(rest.len())));
                    rest = rest.get(sent..).unwrap_or_default();
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or_default();
                    if errno == libc::EINTR {
                        continue;
                    }
                    if matches!(errno, libc::ENETDOWN | libc::ENXIO | libc::ENODEV) {
                        // None of the others would fare better.
                        results.extend(rest.iter().map(|_| Err(DropReason::TxDown)));
                        return;
                    }
                    results.push(Err(match errno {
                        libc::EMSGSIZE => DropReason::TxTooLong,
                        libc::ENOBUFS | libc::EAGAIN => *busy.get_or_insert_with(|| self.busy()),
                        _ => DropReason::TxError,
                    }));
                    rest = rest.get(1..).unwrap_or_default();
                }
            }
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// "No buffer space" is also what a link without carrier says.
    fn busy(&self) -> DropReason {
        match link::carrier(self.socket.as_fd(), self.ifindex) {
            Ok(false) => DropReason::TxDown,
            Ok(true) | Err(_) => DropReason::TxBusy,
        }
    }

    /// One system call: how many of the frames were sent, or why not even the first was.
    fn submit(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let headers = &mut self.headers.0;
        let count = frames.len().min(headers.len());
        for (header, frame) in headers.iter_mut().zip(frames) {
            // `IoSlice` has the layout of `iovec`. The kernel only reads it.
            header.msg_hdr.msg_iov = ptr::from_ref(frame).cast_mut().cast();
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the first `count` headers are valid and point each at one element of `frames`,
        // which, as well as the bytes it stands for, is borrowed beyond this call. The other
        // pointers in them are null, with lengths of zero.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}
