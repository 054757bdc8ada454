"""Is everything in place to train? Facts about the machine, gathered at the edge, and checks that judge them."""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from nnunet_partial.paths import FOLDER_VARIABLES, TRAINER_FOLDER, TRAINER_VARIABLE, offer_trainers

OK, WARN, FAULT = "ok", "warn", "fault"
OLDEST_PYTHON = (3, 10)
OLDEST_NNUNET = (2, 8, 0)
TRAINER = "nnUNetTrainerMarginalExclusion"
PROBED_MODULES = ("torch", "torchvision", "timm", "nnunetv2")
WORKERS_VARIABLE = "nnUNet_n_proc_DA"
NNUNET_WORKERS = 12  # nnU-Net's default, further limited by the number of cores
GIB = 2**30
WORKER_BYTES = 2 * GIB  # what one augmentation worker of a 3d_fullres training may take
BASE_BYTES = 4 * GIB  # the training process itself
SHM_BYTES = 2 * GIB
LITTLE_DISK_BYTES, NO_DISK_BYTES = 50 * GIB, 1 * GIB
PROBE_SECONDS = 300

_IMPORT_PROBE = "import {module}; print({module}.__version__ if hasattr({module}, '__version__') else '')"
_TRAINER_PROBE = (
    "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find\n"
    f"trainer = find('{TRAINER}'); print(trainer.__module__)"
)
_DEVICE_PROBE = (
    "import json, torch\n"
    "cuda = torch.cuda.is_available()\n"
    "names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []\n"
    "names += ['Apple MPS'] if torch.backends.mps.is_available() else []\n"
    "print(json.dumps(names))"
)


@dataclass(frozen=True)
class Finding:
    """One line of the report: how it stands with a subject, and how to mend it."""

    level: str
    subject: str
    message: str
    mend: str = ""


@dataclass(frozen=True)
class Probe:
    """What a piece of Python said in a process of its own: the last line it printed, or the last line of its error."""

    answer: str = ""
    error: str = ""


@dataclass(frozen=True)
class FolderFacts:
    """One of nnU-Net's folders as it is on disk; `path` is None where its variable is not set."""

    path: Path | None
    is_folder: bool = False
    is_writable: bool = False
    free_bytes: int = 0


@dataclass(frozen=True)
class Facts:
    """Everything the checks look at."""

    python: tuple[int, ...]
    imports: dict[str, Probe]
    versions: dict[str, str]
    torchvision_wants: str
    folders: dict[str, FolderFacts]
    trainer: Probe
    is_trainer_offered: bool
    devices: Probe
    has_nvidia_driver: bool
    num_cores: int
    memory_bytes: int
    shm_bytes: int | None
    workers_setting: str | None


def check_environment(facts: Facts) -> list[Finding]:
    """Every check, in the order in which faults should be mended."""
    return [
        check_python(facts.python),
        *check_imports(facts.imports, facts.versions, facts.torchvision_wants),
        check_nnunet(facts.versions.get("nnunetv2", "")),
        *(check_folder(variable, facts.folders[variable]) for variable in FOLDER_VARIABLES),
        check_trainer(facts.trainer),
        check_trainer_variable(facts.is_trainer_offered),
        check_workers(facts.num_cores, facts.memory_bytes, facts.workers_setting),
        check_shared_memory(facts.shm_bytes),
        check_devices(facts.devices, facts.versions.get("torch", ""), has_nvidia_driver=facts.has_nvidia_driver),
    ]


def check_python(version: tuple[int, ...]) -> Finding:
    """Python is new enough."""
    found = ".".join(map(str, version[:3]))
    if version[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Finding(
            FAULT, "python", f"{found}, at least {oldest} is needed", f"make a virtual environment with Python {oldest}"
        )
    return Finding(OK, "python", found)


def check_imports(imports: dict[str, Probe], versions: dict[str, str], torchvision_wants: str) -> list[Finding]:
    """Everything nnU-Net's trainer search imports can be imported, and torchvision was built for this torch.

    The search imports every trainer of nnU-Net, one of which imports timm, hence torchvision. Where these two do not match
    torch, it fails before it reaches any trainer but the stock one.
    """
    findings = [_check_import(name, probe, versions) for name, probe in imports.items()]
    torch_version = _public(versions.get("torch", ""))
    if torchvision_wants and torch_version and torchvision_wants != torch_version and not imports["torchvision"].error:
        findings.append(
            Finding(
                WARN,
                "torchvision",
                f"was built for torch {torchvision_wants}, found is {torch_version}; imports work, operations may not",
                _mend_torchvision(versions),
            )
        )
    return findings


def check_nnunet(version: str) -> Finding:
    """nnU-Net finds trainers outside its own folder, which it does since 2.8.0."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    oldest = ".".join(map(str, OLDEST_NNUNET))
    if not numbers:
        return Finding(FAULT, "nnU-Net version", "nnunetv2 is not installed", f'pip install "nnunetv2>={oldest}"')
    if numbers < OLDEST_NNUNET:
        message = f"{version}, which does not look for trainers outside its own folder; {oldest} does"
        return Finding(FAULT, "nnU-Net version", message, f'pip install --upgrade "nnunetv2>={oldest}"')
    return Finding(OK, "nnU-Net version", version)


def check_folder(variable: str, facts: FolderFacts) -> Finding:
    """One of nnU-Net's three folders is named, there, writable, and on a disk with room."""
    if facts.path is None:
        return Finding(
            FAULT, variable, "not set: nnU-Net does not know where to keep its files", f"export {variable}=/path/to/{variable}"
        )
    if not facts.is_folder:
        return Finding(FAULT, variable, f"{facts.path} is not a folder", f'mkdir -p "{facts.path}"')
    if not facts.is_writable:
        if variable == "nnUNet_raw":
            return Finding(WARN, variable, f"{facts.path} is read-only: `convert` cannot write", f'chmod u+w "{facts.path}"')
        return Finding(FAULT, variable, f"{facts.path} cannot be written to", f'chmod u+w "{facts.path}", or name another folder')
    room = f"{facts.free_bytes / GIB:.0f} GiB free"
    if facts.free_bytes < NO_DISK_BYTES:
        return Finding(FAULT, variable, f"{facts.path} lies on a full disk ({room})", "free some space, or name another folder")
    if facts.free_bytes < LITTLE_DISK_BYTES:
        return Finding(
            WARN, variable, f"{facts.path}, {room}: little for real CT data", "free some space, or name another folder"
        )
    return Finding(OK, variable, f"{facts.path}, {room}")


def check_trainer(probe: Probe) -> Finding:
    """nnU-Net finds our trainers once the variable is set."""
    subject = "trainer lookup"
    if not probe.error:
        return Finding(OK, subject, f"nnU-Net finds {TRAINER} ({probe.answer})")
    mend = "mend the imports above first; if they are ok, install nnunet_partial again"
    return Finding(FAULT, subject, f"nnU-Net does not find {TRAINER}: {probe.error}", mend)


def check_trainer_variable(is_offered: bool) -> Finding:
    """This shell tells nnU-Net where our trainers are; without it only our own commands find them."""
    if is_offered:
        return Finding(OK, TRAINER_VARIABLE, "names our trainers")
    message = "does not name our trainers in this shell: nnUNetv2_train and nnUNetv2_predict will not find them"
    return Finding(WARN, TRAINER_VARIABLE, message, 'eval "$(nnunet_partial env)"')


def check_workers(num_cores: int, memory_bytes: int, setting: str | None) -> Finding:
    """Memory serves the number of augmentation workers nnU-Net will start."""
    subject = "memory"
    room = f"{memory_bytes / GIB:.0f} GiB, {num_cores} cores"
    advised = advised_workers(num_cores, memory_bytes)
    mend = f"export {WORKERS_VARIABLE}={advised}"
    if setting is not None and not setting.isdigit():
        return Finding(FAULT, subject, f"{WORKERS_VARIABLE}='{setting}' is not a number, nnU-Net cannot be imported", mend)
    workers = min(NNUNET_WORKERS if setting is None else int(setting), num_cores)
    if workers == 0:
        message = f"{room}; {WORKERS_VARIABLE}=0 serves training (slowly), but nnU-Net's planning crashes with it"
        return Finding(WARN, subject, message, mend)
    if workers > advised:
        message = (
            f"{room}; {workers} augmentation workers may need {(BASE_BYTES + workers * WORKER_BYTES) / GIB:.0f} GiB, and a "
            "worker that is killed ends the training ('background workers are no longer alive')"
        )
        return Finding(WARN, subject, message, mend)
    return Finding(OK, subject, f"{room}, serves {workers} augmentation workers")


def advised_workers(num_cores: int, memory_bytes: int) -> int:
    """As many augmentation workers as cores and memory serve, at least 1, at most nnU-Net's default."""
    return max(1, min(NNUNET_WORKERS, num_cores, (memory_bytes - BASE_BYTES) // WORKER_BYTES))


def check_shared_memory(shm_bytes: int | None) -> Finding:
    """Workers hand batches over through /dev/shm, of which a container has 64 MB unless told otherwise."""
    subject = "shared memory"
    if shm_bytes is None:
        return Finding(OK, subject, "this system has no /dev/shm to run out of")
    size = f"/dev/shm has {shm_bytes / GIB:.1f} GiB"
    if shm_bytes < SHM_BYTES:
        message = f"{size}: augmentation workers die without a word when it is full"
        return Finding(
            WARN, subject, message, "docker run --shm-size=8g (or --ipc=host); otherwise mount -o remount,size=8G /dev/shm"
        )
    return Finding(OK, subject, size)


def check_devices(probe: Probe, torch_version: str, *, has_nvidia_driver: bool) -> Finding:
    """There is a device to train on, and torch was built for it."""
    subject = "device"
    if probe.error:
        return Finding(
            WARN, subject, f"torch cannot say which devices there are: {probe.error}", "mend the import of torch first"
        )
    names = json.loads(probe.answer)
    if names:
        return Finding(OK, subject, ", ".join(names))
    if has_nvidia_driver:
        message = f"the machine has an NVIDIA driver, but torch {torch_version} does not see a GPU"
        mend = "install torch for your driver: https://pytorch.org/get-started/locally (torch and torchvision in one command)"
        return Finding(WARN, subject, message, mend)
    message = "no GPU: training real data would take weeks"
    return Finding(WARN, subject, message, "for a trial: nnunet_partial plan --tiny, and -device cpu for nnU-Net's commands")


def resource_warnings() -> list[Finding]:
    """What of memory and shared memory may end a long job; cheap enough to be looked at before each."""
    setting = os.environ.get(WORKERS_VARIABLE)
    findings = [check_workers(os.cpu_count() or 1, _memory_bytes(), setting), check_shared_memory(_shm_bytes())]
    return [finding for finding in findings if finding.level != OK]


def gather_facts() -> Facts:
    """Look at this machine; imports are tried in processes of their own, since a broken one may crash."""
    is_offered = str(TRAINER_FOLDER) in os.environ.get(TRAINER_VARIABLE, "").split(os.pathsep)
    offer_trainers()
    code = {module: _IMPORT_PROBE.format(module=module) for module in PROBED_MODULES}
    code |= {"trainer": _TRAINER_PROBE, "devices": _DEVICE_PROBE}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        probes = dict(zip(code, pool.map(run_probe, code.values()), strict=True))
    return Facts(
        python=tuple(sys.version_info[:3]),
        imports={module: probes[module] for module in PROBED_MODULES},
        versions={module: version for module in PROBED_MODULES if (version := _installed_version(module))},
        torchvision_wants=_torch_that_torchvision_wants(),
        folders={variable: _folder_facts(os.environ.get(variable)) for variable in FOLDER_VARIABLES},
        trainer=probes["trainer"],
        is_trainer_offered=is_offered,
        devices=probes["devices"],
        has_nvidia_driver=shutil.which("nvidia-smi") is not None,
        num_cores=os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        shm_bytes=_shm_bytes(),
        workers_setting=os.environ.get(WORKERS_VARIABLE),
    )


def run_probe(code: str) -> Probe:
    """Run a piece of Python in a process of its own."""
    try:
        process = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, encoding="utf-8", errors="replace", timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Probe(error=f"no answer within {PROBE_SECONDS} s")
    if process.returncode:
        return Probe(error=_last_line(process.stderr) or f"the process ended with status {process.returncode}")
    return Probe(answer=_last_line(process.stdout))


def _check_import(name: str, probe: Probe, versions: dict[str, str]) -> Finding:
    subject = f"import {name}"
    if not probe.error:
        return Finding(OK, subject, versions.get(name, probe.answer))
    if name in ("torchvision", "timm"):
        message = (
            f"{probe.error}. nnU-Net's search for trainers imports timm, which imports torchvision; while that fails, every "
            "trainer but the stock one is 'not found'. Most often torchvision was built for another torch (a CPU torch under a "
            "CUDA torchvision)"
        )
        return Finding(FAULT, subject, message, _mend_torchvision(versions) if "timm" in versions else "pip install timm")
    mend = (
        "install torch: https://pytorch.org/get-started/locally"
        if name == "torch"
        else f"pip install --force-reinstall --no-deps {name}"
    )
    return Finding(FAULT, subject, probe.error, mend)


def _mend_torchvision(versions: dict[str, str]) -> str:
    """The command that brings the torchvision of the installed torch, from the index that torch came from."""
    public, _, build = versions.get("torch", "").partition("+")
    torch = f'"torch=={public}" ' if public else "torch "
    index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
    return f"pip uninstall -y torchvision; pip install {torch}torchvision{index}"


def _torch_that_torchvision_wants() -> str:
    """The torch version torchvision names in its requirements, or nothing."""
    try:
        requirements = metadata.requires("torchvision") or []
    except metadata.PackageNotFoundError:
        return ""
    pinned = [re.match(r"torch\s*\(?==\s*([^\s;)]+)", requirement) for requirement in requirements]
    return next((_public(match.group(1)) for match in pinned if match), "")


def _installed_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _public(version: str) -> str:
    """A version without its build: 2.8.0 for 2.8.0+cu128."""
    return version.partition("+")[0]


def _folder_facts(value: str | None) -> FolderFacts:
    if not value:
        return FolderFacts(path=None)
    path = Path(value).expanduser()
    if not path.is_dir():
        return FolderFacts(path=path)
    return FolderFacts(
        path, is_folder=True, is_writable=os.access(path, os.W_OK | os.X_OK), free_bytes=shutil.disk_usage(path).free
    )


def _shm_bytes() -> int | None:
    return shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None


def _memory_bytes() -> int:
    """What this process may use: the machine's memory, or less where a container limits it."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="utf-8").strip() if limit.is_file() else "max"
    return min(installed, int(text)) if text.isdigit() else installed


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
