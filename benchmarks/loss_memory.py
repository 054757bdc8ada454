"""Memory of one forward and backward of the losses, in multiples of the logits (float32).

    python -m benchmarks.loss_memory --classes 5 14 40 --patch 96

*peak*: how far the process rises above what it holds once logits and label map exist (VmHWM, reset through
/proc/self/clear_refs), each variant in a process of its own; Linux only. *kept*: bytes of the tensors that autograd holds between
forward and backward, without logits and label map, which are the caller's; exact, and the same in every run.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.loss import VARIANTS, variant
from benchmarks.ratios import machine


def kept_bytes(name: str, num_organs: int, patch: int) -> float:
    """Bytes kept for backward over the bytes of the logits."""
    loss, logits, labels = variant(name, num_organs, patch)
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = loss(logits)  # held until the count is done, so that no storage is given out twice
    callers = {tensor.untyped_storage().data_ptr() for tensor in (logits, labels)}
    total = sum(size for pointer, size in kept.items() if pointer not in callers)
    del value
    return total / logits.nbytes


def peak_bytes(name: str, num_organs: int, patch: int) -> float:
    """Rise of this process's resident memory during forward and backward, over the bytes of the logits."""
    small, small_logits, _ = variant(name, num_organs, 16)
    small(small_logits).backward()  # libraries load their threads and code
    loss, logits, _ = variant(name, num_organs, patch)
    return rise_of(lambda: loss(logits).backward()) / logits.nbytes


def rise_of(run: Callable[[], Any]) -> int:
    """How many bytes this process rises above what it holds before, at the most, while something runs."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run()
    return 1024 * (_status("VmHWM") - before)


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith(field))
    return int(line.split()[1])  # KiB


def measure(name: str, num_organs: int, patch: int) -> dict:
    """A row of the table; the peak from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loss_memory", "--one", name, "--classes", str(num_organs), "--patch", str(patch)]
    peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    return {"name": f"{name} K={num_organs}", "memory_ratio": peak, "kept_ratio": kept_bytes(name, num_organs, patch)}


def main() -> None:
    """Print one table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[5, 14], help="organs K (default: 5 14)")
    parser.add_argument("--patch", type=int, default=96, help="edge of the patch in voxels (default: 96)")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--one", choices=VARIANTS, help="print the peak of one variant, from this process")
    args = parser.parse_args()
    if args.one:
        print(peak_bytes(args.one, args.classes[0], args.patch))
        return
    rows = [measure(name, num_organs, args.patch) for num_organs in args.classes for name in VARIANTS]
    print(f"{'loss':<32}{'peak x logits':>14}{'kept x logits':>15}")
    for row in rows:
        print(f"{row['name']:<32}{row['memory_ratio']:>14.2f}{row['kept_ratio']:>15.3f}")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine() | {"patch": args.patch}, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
