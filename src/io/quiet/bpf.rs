//! Two instructions of BPF at the TCX ingress hook: drop everything.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// linux/bpf.h
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;

/// `r0 = 2 (TC_ACT_SHOT); exit`, as the 64-bit words that `struct bpf_insn` is.
const PROGRAM: [u64; 2] = [word(0xb7, 2), word(0x95, 0)];

const fn word(opcode: u8, immediate: u32) -> u64 {
    let [a, b, c, d] = immediate.to_ne_bytes();
    u64::from_ne_bytes([opcode, 0, 0, 0, a, b, c, d])
}

/// `union bpf_attr` for BPF_PROG_LOAD, up to the program's name.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// `union bpf_attr` for BPF_LINK_CREATE with a TCX target.
#[repr(C)]
struct Attach {
    program: u32,
    ifindex: u32,
    hook: u32,
    flags: u32,
    relative_to: u32,
    _padding: u32,
    expected_revision: u64,
}

/// Drops everything at the device's ingress, until the descriptor is closed.
pub(super) fn drop_ingress(ifindex: u32) -> io::Result<OwnedFd> {
    let load = Load {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        instructions: PROGRAM.len() as u32,
        program: PROGRAM.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_bytes: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"lotus_quiet\0\0\0\0\0",
    };
    // SAFETY: the addresses in `load` are those of constants, with their true lengths.
    let program = unsafe { bpf(BPF_PROG_LOAD, &load) }.map_err(explain)?;
    let attach = Attach {
        program: program.as_raw_fd().cast_unsigned(),
        ifindex,
        hook: BPF_TCX_INGRESS,
        flags: 0,
        relative_to: 0,
        _padding: 0,
        expected_revision: 0,
    };
    // SAFETY: `attach` holds no addresses. The link keeps the program alive.
    unsafe { bpf(BPF_LINK_CREATE, &attach) }
}

/// Not allowed is what people meet who give lotus single capabilities.
fn explain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let text = format!("{error}: a BPF program needs CAP_BPF beside CAP_NET_ADMIN");
            io::Error::new(error.kind(), text)
        }
        _ => error,
    }
}

/// # Safety
///
/// `T` must be what the command takes (without padding that is not zeroed) and must hold only
/// addresses that are valid for it; the command must return a new descriptor.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes; the rest is the caller's duty.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *attributes,
            size_of::<T>(),
        )
    };
    let descriptor = i32::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
