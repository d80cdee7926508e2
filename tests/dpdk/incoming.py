# SPDX-License-Identifier: Apache-2.0
"""In a network namespace of its own: five frames leave by an interface, then three come in by it, under one of DPDK's PMDs. Prints what was received."""

import json
import socket
import subprocess
import sys
import threading

from flowparity import native

from .conftest import udp_frame


def main() -> None:
    """The port is the only argument."""
    for command in ("link add near type veth peer name far", "link set near up", "link set far up"):
        subprocess.run(["ip", *command.split()], check=True)
    near, far = (socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) for _ in range(2))
    near.bind(("near", 0))
    far.bind(("far", 0))
    with native.Exporter(native.RunConfig("dpdk", sys.argv[1], huge_pages=False)) as exporter:
        caps = exporter.capabilities
        thread = threading.Thread(target=exporter.run)
        thread.start()
        for index in range(8):
            (near if index < 5 else far).send(udp_frame(index, host=1 + index).data)
        while exporter.snapshot().accounting.metered < 3 and thread.is_alive():
            thread.join(0.01)
        exporter.stop()
        thread.join()
        print(json.dumps({"received": exporter.snapshot().accounting.received, "coalesces": caps.coalesces}))


if __name__ == "__main__":
    main()
