# SPDX-License-Identifier: Apache-2.0
"""Running things as an ordinary user from tests that run as root, also where interpreter or checkout lie below a directory that only root may enter."""

from __future__ import annotations

import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.kernel.bench import ROOT

_ENTER = stat.S_IXOTH
# In a mount namespace of its own: a directory that anybody may enter takes the place of each that is closed, and what is in it is mounted there again.
_OPEN = """
set -e
aside=$1; shift
while [ "$1" != -- ]; do
    n=$((n + 1))
    mkdir -p "$aside/$n"
    mount --bind "$1" "$aside/$n"
    mount -t tmpfs -o mode=755 none "$1"
    for each in "$aside/$n"/* "$aside/$n"/.[!.]*; do
        if [ -d "$each" ]; then
            mkdir "$1/${each##*/}"
            mount --rbind "$each" "$1/${each##*/}"
        fi
    done
    shift
done
shift
exec "$@"
"""


def _closed() -> list[str]:
    """Directories on the way to what Python needs that others may not enter, outermost first."""
    needed = (Path(sys.executable), Path(sys.executable).resolve(), Path(sysconfig.get_path("purelib")), Path(sys.base_prefix), ROOT)
    parents = {parent for path in needed for parent in (path, *path.parents) if parent.is_dir()}
    return sorted((str(parent) for parent in parents if not parent.stat().st_mode & _ENTER), key=len)


def as_nobody(aside: Path, *capabilities: str) -> tuple[str, ...]:
    """The argv that runs a program as user 65534 with these capabilities alone. `aside` is a directory for mount points."""
    wanted = "".join(f",+{name}" for name in capabilities)
    return (
        *("unshare", "--mount", "--propagation", "private", "sh", "-c", _OPEN, "sh", str(aside), *_closed(), "--"),
        *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
        *(f"--inh-caps=-all{wanted}", f"--ambient-caps=-all{wanted}", f"--bounding-set=-all{wanted}"),
    )


def why_no_user_namespace(aside: Path) -> str:
    """Why an ordinary user can make no user namespace here; empty if one can."""
    done = subprocess.run([*as_nobody(aside), "unshare", "--user", "--map-root-user", "--net", "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""
