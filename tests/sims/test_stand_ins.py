# SPDX-License-Identifier: Apache-2.0
"""What the stand-ins do for other programs than the backends: epoll, select, a switch, blocked receives that another thread ends."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowparity.harness.rigs.sims import stand_in
from tests.sims.build import ROOT, program

SOURCE = Path(__file__).with_name("netmap_user.c")
DNS = ROOT / "fixtures/recorded/dns.pcap"
_FRAMES = 43


def _user(built: Path, what: str, **settings: str) -> subprocess.CompletedProcess[str]:
    said = ",".join(f"{key}={value}" for key, value in {"capture": str(DNS), **settings}.items())
    environment = os.environ | {"LD_PRELOAD": str(stand_in("netmap")), "FLOWPARITY_NETMAP_SIM": said}
    return subprocess.run([program(built, SOURCE), what], env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("what", ["poll", "ppoll", "epoll", "epoll-pwait", "epoll-with-a-pipe"])
def test_every_way_to_wait_brings_every_frame(built: Path, what: str) -> None:
    done = _user(built, what)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == [str(_FRAMES), "frames"]


@pytest.mark.parametrize(
    ("what", "said"),
    [("select", "select on a netmap descriptor"), ("edge", "not level-triggered"), ("idle", "polls in a row")],
)
def test_ways_to_wait_that_would_mislead_are_refused(built: Path, what: str, said: str) -> None:
    done = _user(built, what)
    assert f"netmap stand-in: illegal use: {said}" in done.stderr or said in done.stderr
    assert done.returncode < 0


def test_epoll_knows_what_it_watches(built: Path) -> None:
    """Adding twice, changing and removing what is not there, closing what is watched."""
    done = _user(built, "epoll-errors")
    assert done.stdout.split() == ["EEXIST", "ENOENT", "ENOENT", "0", "0"]


def test_tails_stand_where_they_can(built: Path) -> None:
    """Over a few syncs some tail is right behind head, and some frame is cut by one."""
    done = _user(built, "tails", capture=str(ROOT / "fixtures/recorded/iperf3-tcp.pcap"))
    seen = dict(line.split() for line in done.stdout.splitlines())
    assert int(seen["full"]) > 0
    assert int(seen["cut"]) > 0
    assert int(seen["wrapped"]) > 0
    assert int(seen["interrupted"]) > 0


class Library(ctypes.CDLL):
    """The stand-in for libpfring in this process; what it prints before it aborts is not tried here."""

    def __init__(self) -> None:
        super().__init__(str(stand_in("pfring")))
        pointer = ctypes.c_void_p
        for name, result, arguments in (
            ("pfring_open", pointer, [ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint32]),
            ("pfring_recv", ctypes.c_int, [pointer, pointer, ctypes.c_uint, pointer, ctypes.c_uint8]),
            ("pfring_zc_create_cluster", pointer, [ctypes.c_uint32] * 4 + [ctypes.c_int32, ctypes.c_char_p, ctypes.c_uint32]),
            ("pfring_zc_open_device", pointer, [pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32]),
            ("pfring_zc_get_packet_handle", pointer, [pointer]),
            ("pfring_zc_release_packet_handle", None, [pointer, pointer]),
            ("pfring_zc_recv_pkt_burst", ctypes.c_int, [pointer, pointer, ctypes.c_uint32, ctypes.c_uint8]),
        ):
            function = getattr(self, name)
            function.restype, function.argtypes = result, arguments
        for name in (
            "pfring_close",
            "pfring_enable_ring",
            "pfring_breakloop",
            "pfring_zc_destroy_cluster",
            "pfring_zc_close_device",
            "pfring_zc_queue_breakloop",
        ):
            getattr(self, name).argtypes = [pointer]


@pytest.fixture(scope="module")
def library() -> Iterator[Library]:
    os.environ["FLOWPARITY_PFRING_SIM"] = "device=quiet"
    yield Library()
    del os.environ["FLOWPARITY_PFRING_SIM"]


def _blocked(receive: threading.Thread, end: ctypes._CFuncPtr, what: int) -> int:
    """Breaks a blocked receive until it has ended; how often it took."""
    receive.start()
    assert receive.is_alive()
    breaks, limit = 0, time.monotonic() + 20
    while receive.is_alive() and time.monotonic() < limit:
        breaks += 1
        end(what)
        receive.join(0.05)
    assert not receive.is_alive(), "the receive did not end"
    return breaks


def test_a_blocked_receive_is_ended_from_another_thread(library: Library) -> None:
    ring = library.pfring_open(b"quiet", 1500, 0)
    library.pfring_enable_ring(ring)
    header, room, got = ctypes.create_string_buffer(4096), ctypes.c_void_p(), []
    receive = threading.Thread(target=lambda: got.append(library.pfring_recv(ring, ctypes.byref(room), 0, header, 1)))
    assert _blocked(receive, library.pfring_breakloop, ring) >= 1
    assert got == [0]
    library.pfring_close(ring)


def test_a_blocked_zero_copy_receive_is_ended_from_another_thread(library: Library) -> None:
    """It is negative then, as the header of the library says of whatever is neither packets nor an empty queue."""
    cluster = library.pfring_zc_create_cluster(1, 1536, 0, 512, -1, None, 0)
    queue = library.pfring_zc_open_device(cluster, b"quiet", 0, 0)
    handles = (ctypes.c_void_p * 1)(library.pfring_zc_get_packet_handle(cluster))
    got: list[int] = []
    for _ in range(8):
        receive = threading.Thread(target=lambda: got.append(library.pfring_zc_recv_pkt_burst(queue, handles, 1, 1)))
        assert _blocked(receive, library.pfring_zc_queue_breakloop, queue) >= 1
    assert got == [-1] * 8
    library.pfring_zc_close_device(queue)
    library.pfring_zc_release_packet_handle(cluster, handles[0])
    library.pfring_zc_destroy_cluster(cluster)


def test_handles_are_few(library: Library) -> None:
    """A cluster gives its user what a burst needs and not what the device's descriptors need."""
    cluster = library.pfring_zc_create_cluster(1, 1536, 0, 32768, -1, None, 0)
    handles = []
    while (handle := library.pfring_zc_get_packet_handle(cluster)) is not None:
        handles.append(handle)
    assert 64 <= len(handles) < 128
    for handle in handles:
        library.pfring_zc_release_packet_handle(cluster, handle)
    library.pfring_zc_destroy_cluster(cluster)
