"""Push to a real sshd: 100 MB over loopback beside scp, turn by turn; models over slow links.

    python benchmarks/push.py [--megabytes 100] [--rounds 5] [--links 10,80] [--model-kb 4000]
                              [--json FILE]

The second table sends int8 weights as trained ones are distributed, dense and with 80% zeros,
plainly and as `put` chooses, over a proxy of so many Mbit/s (--links '' leaves it out).

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
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from tools.slow_link import SlowLink  # noqa: E402
from tools.sshd import Sshd, why_no_sshd  # noqa: E402

from edgeopt.artifact import hash_path  # noqa: E402
from edgeopt.device import Device, connect, host_keys  # noqa: E402


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


def models(folder: Path, size: int) -> dict[str, Path]:
    """int8 weights, Laplace-distributed over most of the range; then with 80% of them zero."""
    random = np.random.default_rng(0)
    dense = np.clip(random.laplace(0, 18, size), -127, 127).astype(np.int8)
    files = {}
    for name, zeros in (("dense", 0.0), ("80% zeros", 0.8)):
        files[name] = folder / f"model-{zeros}"
        files[name].write_bytes(np.where(random.random(size) < zeros, 0, dense).tobytes())
    return files


def measure_links(board: Sshd, folder: Path, rates: list[float], size: int) -> list[dict[str, Any]]:
    """Each model over each link: pushed as it is, and put as edgeopt chooses, hashing included."""
    rows = []
    for rate in rates:
        with SlowLink((board.host, board.port), bits_s=rate * 1e6) as link:
            spec = board.spec(port=link.port)
            host_keys.pin(spec, board.fingerprint)
            for name, file in models(folder, size).items():
                with connect(spec) as device:
                    device.workspace.clean()
                    plain_s = seconds_of_push(device, file, f"{board.home}/plain")
                    start = time.perf_counter()
                    placed = device.workspace.put(file, sha256=hash_path(file), suffix=".bin")
                    put_s = time.perf_counter() - start
                assert placed.transfer
                told = placed.transfer.to_json()
                rows.append(
                    {"mbit_s": rate, "model": name, "plain_s": plain_s, "put_s": put_s, **told}
                )
    return rows


def report_links(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'link':>10} {'model':10} {'plain s':>8} {'put s':>7} {'sent':>6}   how")
    for row in rows:
        share = row["bytes"] / row["raw_bytes"]
        times = f"{row['plain_s']:8.2f} {row['put_s']:7.2f} {share:6.0%}"
        print(f"{row['mbit_s']:4g} Mbit/s {row['model']:10} {times}   {row['compression'] or '-'}")


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
    parser.add_argument("--links", default="10,80", help="Mbit/s, comma-separated")
    parser.add_argument("--model-kb", type=int, default=4000)
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
            rates = [float(rate) for rate in options.links.split(",") if rate]
            rows = measure_links(board, Path(folder), rates, options.model_kb * 1000)
    document = report(times, options.megabytes * 1_000_000)
    report_links(rows)
    document["links"] = rows
    if options.json:
        options.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return 0 if document["results"]["push"]["ratio_to_scp"] >= 0.95 else 1  # type: ignore[index]


if __name__ == "__main__":
    sys.exit(main())
