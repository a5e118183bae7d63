"""Push 100 MB over loopback to a real sshd: edgeopt beside scp, turn by turn.

    python benchmarks/push.py [--megabytes 100] [--rounds 5] [--json FILE]

Needs root and Debian's openssh packages (tests/tools/install_device_packages.sh). The bar: at
least 0.95 of scp's throughput. Figures are this machine's; loopback has no latency.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tools.sshd import Sshd, why_no_sshd  # noqa: E402

from edgeopt.artifact import hash_path  # noqa: E402
from edgeopt.device import Device, connect  # noqa: E402


def seconds_of_scp(board: Sshd, source: Path) -> float:
    """Connecting included, as a user waits for it."""
    options = ["-q", "-i", str(board.key), "-P", str(board.port)]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    start = time.perf_counter()
    target = f"root@{board.host}:{board.home}/by-scp"
    subprocess.run(["scp", *options, str(source), target], check=True, capture_output=True)
    return time.perf_counter() - start


def seconds_of_push(device: Device, source: Path, remote: str) -> float:
    start = time.perf_counter()
    device.transport.push(source, remote, timeout_s=300)
    return time.perf_counter() - start


def seconds_connected_and_pushed(board: Sshd, source: Path) -> float:
    start = time.perf_counter()
    with connect(board.spec()) as device:
        device.transport.push(source, f"{board.home}/by-connect", timeout_s=300)
    return time.perf_counter() - start


def seconds_of_put(device: Device, source: Path, sha256: str) -> float:
    """With the work folder, the hash on the device and the renaming."""
    start = time.perf_counter()
    device.workspace.put(source, sha256=sha256, suffix=".bin")
    return time.perf_counter() - start


def measure(board: Sshd, source: Path, rounds: int) -> dict[str, list[float]]:
    names = ("scp", "connect+push", "push", "put", "cached")
    times: dict[str, list[float]] = {name: [] for name in names}
    sha256 = hash_path(source)
    with connect(board.spec()) as device:
        for _ in range(rounds):
            times["scp"].append(seconds_of_scp(board, source))
            times["connect+push"].append(seconds_connected_and_pushed(board, source))
            times["push"].append(seconds_of_push(device, source, f"{board.home}/by-edgeopt"))
            device.workspace.clean()
            times["put"].append(seconds_of_put(device, source, sha256))
            times["cached"].append(seconds_of_put(device, source, sha256))
    return times


def report(times: dict[str, list[float]], size: int) -> dict[str, object]:
    scp = statistics.median(times["scp"])
    print(f"{'':14} {'median s':>9} {'MB/s':>7} {'of scp':>7}   {size / 1e6:.0f} MB, loopback")
    rows = {}
    for name, samples in times.items():
        median = statistics.median(samples)
        rows[name] = {"samples_s": samples, "median_s": median, "ratio_to_scp": scp / median}
        print(f"{name:14} {median:9.3f} {size / 1e6 / median:7.0f} {scp / median:7.2f}")
    return {"schema": "edgeopt.bench-push/1", "size_bytes": size, "results": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if reason := why_no_sshd():
        print(f"cannot measure: {reason}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGEOPT_CONFIG"] = f"{folder}/config"
        os.environ["HOME"] = folder
        source = Path(folder) / "source"
        source.write_bytes(os.urandom(options.megabytes * 1_000_000))
        with Sshd(Path(folder) / "board") as board:
            board.trust()
            times = measure(board, source, options.rounds)
    document = report(times, options.megabytes * 1_000_000)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return 0 if document["results"]["push"]["ratio_to_scp"] >= 0.95 else 1  # type: ignore[index]


if __name__ == "__main__":
    sys.exit(main())
