# SPDX-License-Identifier: Apache-2.0
"""How fast the injectors are here: `python -m tests.kernel.rates`, as root.

Frames of 60 octets over a veth, in millions per second of processor time and of the clock, and relative to the same program that drops its frames at once:
what this machine can do at most.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from dataclasses import dataclass

from flowparity.harness.rigs.veth import VethLink, VethRig
from flowparity.native import Player
from tests.kernel.bench import inside
from tests.kernel.packets import frames, udp

_FRAMES = frames([udp(1000 + n, b"x" * 18) for n in range(64)])
_SYS_BPF, _PROG_LOAD, _LINK_CREATE = 321, 5, 28
_PROG_TYPE_XDP, _BPF_XDP, _DRV_MODE, _XDP_DROP = 6, 37, 4, 1
_MTU = 1500  # above 3,498 a program must know frames in several pieces


@dataclass(frozen=True, slots=True)
class Rate:
    """Millions of frames a second that arrived."""

    name: str
    by_processor: float
    by_clock: float


def main() -> None:
    """Measures and prints."""
    with VethRig("none") as rig:
        rates = [
            _rate(rig, "xdp_live, dropped at once", "xdp_live", 200_000, into="nothing"),
            _rate(rig, "xdp_live into native XDP", "xdp_live", 200_000, into="peer"),
            _rate(rig, "xdp_live into the stack", "xdp_live", 60_000, into="stack"),
            _rate(rig, "af_packet (sendmmsg) into the stack", "af_packet", 1, time="none"),
        ]
    print(f"{'':36} per CPU s  per s   of what is possible")
    for each in rates:
        print(f"{each.name:36} {each.by_processor:9.2f} {each.by_clock:6.2f} {each.by_processor / rates[0].by_processor:8.2f}")


def _rate(rig: VethRig, name: str, injector: str, loop: int, **options: str) -> Rate:
    with rig.bare_link(mtu=_MTU) as link:
        program = inside(rig.namespace, lambda: _dropping(link.receive)) if options.get("into") == "peer" else None
        before = rig.namespace.ask("counters", name=link.receive)["rx_packets"]
        sent, processor, clock = inside(rig.namespace, lambda: _play(link, injector, loop, options))
        arrived = rig.namespace.ask("counters", name=link.receive)["rx_packets"] - before
        if options.get("into") in ("nothing", "stack"):  # of what comes in by this way the interface knows nothing
            arrived = sent
        if program is not None:
            os.close(program)
    return Rate(name, arrived / processor / 1e6, arrived / clock / 1e6)


def _play(link: VethLink, injector: str, loop: int, options: dict[str, str]) -> tuple[int, float, float]:
    interface = link.receive if options.get("into") == "stack" else link.transmit
    assert interface is not None
    many, repeated = (_FRAMES, {"loop": str(loop)}) if injector == "xdp_live" else (_FRAMES * 20_000, {})
    started: list[float] = []
    injection = Player(injector, interface, {**options, **repeated}).play(many, timeout=60, on_open=lambda _: started.append(time.process_time()))
    return injection.sent, time.process_time() - started[0], injection.seconds


def _dropping(interface: str) -> int:
    """A native XDP program that drops everything; it goes with the descriptor."""
    code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, _XDP_DROP, 0x95, 0, 0, 0))
    licence = ctypes.create_string_buffer(b"GPL")
    program = _bpf(_PROG_LOAD, struct.pack("<IIQQ", _PROG_TYPE_XDP, 2, ctypes.addressof(code), ctypes.addressof(licence)))
    link = _bpf(_LINK_CREATE, struct.pack("<IIII", program, socket.if_nametoindex(interface), _BPF_XDP, _DRV_MODE))
    os.close(program)
    return link


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"))
    result = int(libc.syscall(_SYS_BPF, command, buffer, 128))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


if __name__ == "__main__":
    main()
