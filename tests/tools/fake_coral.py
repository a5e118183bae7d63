"""A Coral board that is none: a tree of /sys, /dev and /proc, and a libedgetpu that says so.

The tree is read with a folder in front of every path. The library is compiled by gcc and is a
delegate that the real interpreter loads, claims `edgetpu-custom-op` and answers zeros.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.sshd import Sshd

__all__ = [
    "FRESH",
    "GOOGLES_LABEL",
    "USED",
    "FakeBoard",
    "build_library",
    "mount_into",
    "why_no_library",
]

FRESH, USED = "1a6e:089a", "18d1:9302"
GOOGLES_LABEL = "COMPILER=6.3.0 20170516,DATE=redacted,TIME=redacted"
LATER_LABEL = "COMPILER=12.2.0,DATE=redacted,TIME=redacted"
_SOURCE = Path(__file__).with_suffix(".c")


def why_no_library() -> str:
    """The reason to skip, or an empty text."""
    return "" if shutil.which("gcc") else "gcc is not installed, so no fake libedgetpu"


def build_library(folder: Path, label: str = LATER_LABEL) -> Path:
    """libedgetpu.so.1 in `folder`; `label` is the compiler's mark that a real one carries."""
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "libedgetpu.so.1"
    words = ["gcc", "-shared", "-fPIC", "-O1", f'-DLABEL="{label}"', "-o", str(library)]
    subprocess.run([*words, str(_SOURCE)], check=True)
    return library


@dataclass(frozen=True)
class FakeBoard:
    """Every method adds to the tree under `root`."""

    root: Path

    def write(self, path: str, text: str) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        return file

    def usb(self, usb_id: str = USED, *, name: str = "2-1", speed: int = 5000) -> Path:
        """An accelerator as device 3 of bus 2. Returns its node."""
        folder = f"/sys/bus/usb/devices/{name}"
        vendor, _, product = usb_id.partition(":")
        self.write(f"{folder}/idVendor", vendor)
        self.write(f"{folder}/idProduct", product)
        self.write(f"{folder}/busnum", "2")
        self.write(f"{folder}/devnum", "3")
        self.write(f"{folder}/speed", str(speed))
        return self.write("/dev/bus/usb/002/003", "a fake node")

    def pci(self, *, driver: bool = True, temp: int = 45_300, number: int = 0) -> Path:
        """An M.2 card, with the apex driver loaded or not. Returns its node."""
        card = f"/sys/bus/pci/devices/0000:0{number + 1}:00.0"
        self.write(f"{card}/vendor", "0x1ac1")
        node = self.root / f"dev/apex_{number}"
        if not driver:
            return node
        (self.root / card.lstrip("/") / "driver").symlink_to("/sys/bus/pci/drivers/apex")
        self.write("/sys/module/apex/version", "1.2")
        self.write("/sys/module/gasket/version", "1.1.4")
        folder = f"/sys/class/apex/apex_{number}"
        values = {"temp": temp, "hw_temp_warn2": 100_000, "hw_temp_warn2_en": 1}
        values |= {f"trip_point{n}_temp": 85_000 + 5_000 * n for n in range(3)}
        values |= {"temp_poll_interval": 5000}
        for name, value in values.items():
            self.write(f"{folder}/{name}", str(value))
        self.write(f"{folder}/status", "ALIVE")
        return self.write(f"/dev/apex_{number}", "a fake node")

    def holder(self, node: str, *, pid: int = 4711, name: str = "frigate") -> None:
        """A process that has `node` open."""
        folder = self.root / f"proc/{pid}/fd"
        folder.mkdir(parents=True)
        (folder / "9").symlink_to(node)
        self.write(f"/proc/{pid}/comm", name)

    def library(self, *, label: str = LATER_LABEL, package: str = "", version: str = "") -> None:
        """A file that carries a label; with `package`, as Debian would have installed it."""
        path = "/usr/lib/x86_64-linux-gnu/libedgetpu.so.1"
        self.write(path, f"\x7fELF\0{label}\0")
        self.write("/var/lib/dpkg/available", "")
        if package:
            self.package(package, version, path)

    def package(self, name: str, version: str, *files: str) -> None:
        """An installed Debian package with these files, in dpkg's own data base."""
        status = self.root / "var/lib/dpkg/status"
        known = status.read_text() if status.exists() else ""
        self.write(
            "/var/lib/dpkg/status",
            f"{known}Package: {name}\nStatus: install ok installed\nMaintainer: a fake\n"
            f"Architecture: amd64\nVersion: {version}\nDescription: a fake\n",
        )
        self.write(f"/var/lib/dpkg/info/{name}.list", "\n".join(["/.", *files]))
        self.write("/var/lib/dpkg/info/format", "1")


# /sys is the tree's, with the real processors; /dev a small one of its own with the tree's nodes.
_MOUNT = """
mkdir -p "$1/sys/devices" "$1/dev"
mount --rbind /sys/devices "$1/sys/devices" && mount --rbind "$1/sys" /sys
mount -t tmpfs tmpfs /dev
mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/zero c 1 5; mknod -m 666 /dev/urandom c 1 9
ln -s /proc/self/fd /dev/fd; mkdir /dev/shm; cp -r "$1/dev/." /dev/
"""


def mount_into(sshd: Sshd, board: FakeBoard) -> None:
    """Give a board behind a real sshd the fake tree as its own /sys and /dev."""
    if sshd.inside("sh", "-ec", _MOUNT, "mount", str(board.root)).wait(20) != 0:
        raise RuntimeError("the fake tree could not be mounted")
