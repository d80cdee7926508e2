# SPDX-License-Identifier: Apache-2.0
"""The process that holds a rig's private network namespace: `python -m flowparity.harness.rigs.holder FD` inside `unshare`.

It serves one rig over a socket pair. When the rig's process ends, however that comes, it ends whatever is still running inside, and then itself; the namespace
and all that is in it go with the last process. Links, switches and sockets are made here because only a process inside can.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from flowparity.harness.rigs import wire
from flowparity.harness.rigs.handshake import carries_times

_SIOCETHTOOL = 0x8946
_SET = {"gro": 0x2C, "gso": 0x24, "tso": 0x1F, "tx": 0x17}  # ETHTOOL_SGRO, _SGSO, _STSO, _STXCSUM
_GET_FLAGS, _SET_FLAGS, _TAGS = 0x25, 0x26, 0x180  # ETHTOOL_GFLAGS, _SFLAGS; ETH_FLAG_TXVLAN, _RXVLAN
_GET = {"gro": 0x2B, "gso": 0x23, "tso": 0x1E, "tx": 0x16}
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x0002_0000, 0x4000, 0x4_0000
_SYSFS = Path("/sys")


class Holder:
    """The requests, each a method `do_NAME` that takes and gives what JSON can say."""

    def __init__(self) -> None:
        from pyroute2 import IPRoute

        # Before any link is made: afterwards the kernel has already sent its own frames over it.
        with suppress(OSError):  # no IPv6 at all is as quiet
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1", encoding="ascii")
        self._route = IPRoute()
        self._sysfs = False
        self._control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._route.link("set", index=self._index("lo"), state="up")

    def _index(self, name: str) -> int:
        found = self._route.link_lookup(ifname=name)
        if not found:
            raise OSError(f"no interface {name}")
        return int(found[0])

    def _ethtool(self, name: str, command: int, value: int) -> int:
        data = array.array("I", [command, value])
        fcntl.ioctl(self._control, _SIOCETHTOOL, struct.pack("16sQ16x", name.encode(), data.buffer_info()[0]))
        return data[1]

    def do_pair(self, transmit: str, receive: str, queues: int, mtu: int) -> dict[str, Any]:
        """Makes a veth pair, both ends here, quiet and up."""
        each = {"num_tx_queues": queues, "num_rx_queues": queues}
        self._route.link("add", ifname=transmit, kind="veth", mtu=mtu, peer={"ifname": receive, "mtu": mtu, **each}, **each)
        for name in (transmit, receive):
            for feature in _SET:
                self._ethtool(name, _SET[feature], 0)
            if self._ethtool(name, _GET["gro"], 0):
                raise OSError(f"{name}: generic receive offload cannot be turned off")
            self.do_tags(name, False)
            self._route.link("set", index=self._index(name), state="up")
        return {}

    def do_remove(self, name: str) -> dict[str, Any]:
        """Removes an interface, and with it its peer."""
        self._route.link("del", index=self._index(name))
        return {}

    def do_state(self, name: str, up: bool) -> dict[str, Any]:
        """Takes an interface up or down."""
        self._route.link("set", index=self._index(name), state="up" if up else "down")
        return {}

    def do_mtu(self, name: str, mtu: int) -> dict[str, Any]:
        """Sets an interface's MTU."""
        self._route.link("set", index=self._index(name), mtu=mtu)
        return {}

    def do_offload(self, name: str, feature: str, on: bool) -> dict[str, Any]:
        """Switches gro, gso, tso or tx."""
        self._ethtool(name, _SET[feature], int(on))
        return {}

    def do_tags(self, name: str, on: bool) -> dict[str, Any]:
        """Whether the interface takes VLAN tags out of frames, and puts them into frames, by itself (rxvlan, txvlan)."""
        flags = self._ethtool(name, _GET_FLAGS, 0)
        self._ethtool(name, _SET_FLAGS, flags | _TAGS if on else flags & ~_TAGS)
        return {}

    def do_offloads(self) -> dict[str, Any]:
        """Which of the offloads are on, by interface."""
        names = [name for _, name in socket.if_nameindex()]
        return {name: [feature for feature, command in _GET.items() if self._ethtool(name, command, 0)] for name in names}

    def do_hold_segments(self, name: str, nanoseconds: int) -> dict[str, Any]:
        """Lets generic receive offload wait so long for a segment that it can merge with the one before; without this it merges nothing that comes singly."""
        self._own_sysfs()
        for knob, value in (("napi_defer_hard_irqs", 100), ("gro_flush_timeout", nanoseconds)):
            (_SYSFS / "class/net" / name / knob).write_text(str(value), encoding="ascii")
        return {}

    def _own_sysfs(self) -> None:
        """The interfaces below /sys are those of the namespace in which it was mounted."""
        if self._sysfs:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        steps = (
            libc.unshare(_CLONE_NEWNS),
            libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None),
            libc.mount(b"sysfs", str(_SYSFS).encode(), b"sysfs", 0, None),
        )
        if any(steps):
            raise OSError(ctypes.get_errno(), f"no /sys of its own: {os.strerror(ctypes.get_errno())}")
        self._sysfs = True

    def do_address(self, name: str, address: str, prefix: int) -> dict[str, Any]:
        """Gives an interface an IPv4 address."""
        self._route.addr("add", index=self._index(name), address=address, prefixlen=prefix)
        return {}

    def do_handshake(self, transmit: str, receive: str) -> dict[str, Any]:
        """Whether frames keep their own times on the way."""
        return {"exact": carries_times(transmit, receive)}

    def do_counters(self, name: str) -> dict[str, Any]:
        """The interface's statistics as the kernel has them."""
        (link,) = self._route.get_links(self._index(name))
        return {key: int(value) for key, value in dict(link.get_attr("IFLA_STATS64")).items()}


def serve(channel: socket.socket) -> None:
    """Answers requests until the rig goes."""
    holder = Holder()
    try:
        wire.put(channel, {"ready": True})
    except ConnectionError:  # interrupted while the namespace was being made
        return
    while True:
        try:
            request, _ = wire.get(channel)
        except (EOFError, ConnectionError):
            return
        descriptors: list[int] = []
        made: socket.socket | None = None
        try:
            name = request.pop("do")
            if name == "socket":
                made = socket.socket(request["family"], request["kind"], request.get("protocol", 0))
                descriptors, answer = [made.fileno()], {}
            else:
                method: Callable[..., dict[str, Any]] = getattr(holder, f"do_{name}")
                answer = method(**request)
        except Exception as error:  # pyroute2 has its own errors; the rig's side tells the user
            answer = {"error": str(error) or type(error).__name__}
        try:
            wire.put(channel, answer, descriptors)
        except ConnectionError:
            return
        if made is not None:
            made.close()


def _network_of(pid: int | str) -> int:
    """The number of a process's network namespace; 0 if it is gone or not to be looked at."""
    try:
        return (Path("/proc") / str(pid) / "ns/net").stat().st_ino
    except OSError:
        return 0


def end_others() -> None:
    """Kills every other process inside: an exporter or injector whose starter was killed would keep the namespace alive."""
    inside, outside = _network_of("self"), _network_of(os.getppid())
    if inside == outside:
        return  # not a namespace of its own
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and _network_of(entry.name) == inside:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(entry.name), signal.SIGKILL)


def main() -> None:
    """Serves, then leaves nothing."""
    serve(socket.socket(fileno=int(sys.argv[1])))
    end_others()


if __name__ == "__main__":
    main()
