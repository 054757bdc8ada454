"""Every timing benchmark that needs no data, one after the other, on an otherwise idle machine.

    python -m benchmarks.all --out FOLDER            # about two hours on two cores
    python -m benchmarks.all --out FOLDER --quick    # small and with few repetitions: whether everything runs, not how fast

Each prints its table as when it is run alone, and writes FOLDER/NAME.json; what is there already is not run again. What
needs scans (`confidence`, `duplicates`, `evaluate`, `real_ct`, `relabel`, `study`, `uncertainty`) is run by itself.
"""

import argparse
import subprocess
import sys
from pathlib import Path

BENCHMARKS = {  # name -> arguments, and those of --quick
    "loss": (["--classes", "5", "14", "40", "117", "--patch", "96"], ["--classes", "5", "--patch", "32", "--reps", "2"]),
    "loss_memory": (["--classes", "5", "14", "40", "117"], ["--classes", "5", "--patch", "32"]),
    "step": (
        ["--classes", "5", "14", "40", "117"],
        ["--classes", "5", "--patch", "32", "--features", "4", "8", "16", "--reps", "2", "--no-memory"],
    ),
    "round": (["--classes", "5", "14"], ["--classes", "5", "--shape", "48", "64", "64", "--cases", "1", "--reps", "1"]),
    "select": ([], ["--voxels", "100000", "--reps", "2"]),
    "votes": ([], ["--annotators", "3", "--organs", "5", "--reps", "2"]),
    "convert": ([], ["--slices", "20", "--reps", "2"]),
    "startup": ([], ["--cases", "100", "--reps", "2"]),
}


def main() -> None:
    """Run what is missing; name what failed at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    parser.add_argument("--quick", action="store_true", help="small, few repetitions")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="NAME", help="run these alone")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in args.only:
        file = args.out / f"{name}.json"
        if file.exists():
            print(f"{name}: done before ({file})")
            continue
        command = [sys.executable, "-m", f"benchmarks.{name}", *BENCHMARKS[name][args.quick], "--json", str(file)]
        print("$", " ".join(command[1:]), flush=True)
        if subprocess.run(command).returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; what they printed says why. Run the same again to go on")


if __name__ == "__main__":
    main()
