"""Puts VLAN tags on all that a host sends and takes them off what it gets, for kernels without
VLAN devices: vlan.py INTERFACE TPID:TCI [TPID:TCI]   (outermost first, hexadecimal or decimal)

Two small BPF programs, written out by hand below, are attached by TCX links (Linux 6.6 and later)
and vanish with this process. What comes in with other tags, or none, is dropped.
"""

import ctypes
import os
import platform
import signal
import socket
import struct
import sys

PROG_LOAD, LINK_CREATE = 5, 28
SCHED_CLS, TCX_INGRESS, TCX_EGRESS = 3, 46, 47
VLAN_PUSH, VLAN_POP = 18, 19  # BPF helpers
# Offsets in struct __sk_buff.
VLAN_PRESENT, VLAN_TCI, VLAN_PROTO = 20, 24, 28
ACT_OK, ACT_SHOT = 0, 2
SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}[platform.machine()]

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = libc.syscall(SYS_BPF, command, buffer, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def op(code, dst=0, src=0, off=0, imm=0):
    return struct.pack("<BBhi", code, dst | src << 4, off, imm)


def mov(dst, src):
    return op(0xBF, dst, src)


def mov_imm(dst, imm):
    return op(0xB7, dst, imm=imm)


def call(helper):
    return op(0x85, imm=helper)


EXIT = op(0x95)


def program(steps):
    """Steps, then 'pass'; a step's None is a jump to 'drop' if r0 (or the given test) says so."""
    body = [mov(6, 1)] + steps + [mov_imm(0, ACT_OK), EXIT, mov_imm(0, ACT_SHOT), EXIT]
    drop = len(body) - 2
    done = []
    for place, step in enumerate(body):
        if isinstance(step, tuple):  # (jump code, register, value): jump to drop
            code, register, value = step
            step = op(code, register, off=drop - place - 1, imm=value)
        done.append(step)
    return b"".join(done)


JNE, JEQ = 0x55, 0x15


def push(tags):
    steps = []
    for tpid, tci in reversed(tags):
        steps += [mov(1, 6), mov_imm(2, socket.htons(tpid)), mov_imm(3, tci), call(VLAN_PUSH)]
        steps += [(JNE, 0, 0)]
    return program(steps)


def pop(tags):
    steps = []
    for tpid, tci in tags:
        for offset, jump, value in (
            (VLAN_PRESENT, JEQ, 0),
            (VLAN_TCI, JNE, tci),
            (VLAN_PROTO, JNE, socket.htons(tpid)),
        ):
            steps += [op(0x61, 2, 6, offset), (jump, 2, value)]
        steps += [mov(1, 6), call(VLAN_POP), (JNE, 0, 0)]
    return program(steps)


def attach(interface, code, kind):
    text = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(1 << 16)
    attributes = struct.pack(
        "=IIQQIIQII16sII",
        SCHED_CLS, len(code) // 8, ctypes.addressof(text), ctypes.addressof(licence),
        1, len(log), ctypes.addressof(log), 0, 0, b"lotus_e2e_vlan", 0, kind,
    )  # fmt: skip
    try:
        loaded = bpf(PROG_LOAD, attributes)
    except OSError as error:
        sys.exit(f"the kernel refuses the program: {error}\n{log.value.decode()}")
    index = socket.if_nametoindex(interface)
    try:
        return bpf(LINK_CREATE, struct.pack("=IIIIIIQ", loaded, index, kind, 0, 0, 0, 0))
    except OSError as error:
        sys.exit(f"no TCX link (Linux 6.6 and later has them): {error}")


interface = sys.argv[1]
tags = [tuple(int(number, 0) for number in tag.split(":")) for tag in sys.argv[2:]]
links = [
    attach(interface, push(tags), TCX_EGRESS),
    attach(interface, pop(tags), TCX_INGRESS),
]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", flush=True)
signal.pause()
