"""Runs on the device: one file, standard library only, Python 3.7 grammar.

A JSON request on stdin; JSON lines on stdout, the first with the schema. It loads the model, times
`invoke` and nothing else, reads what the board says about itself, and judges nothing: statistics
and validity are the host's. The runtimes are imported inside functions; numpy comes with them.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from typing import Any, Callable

SCHEMA = "edgeopt.agent/1"
GRACE_S = 5  # after the deadline the kernel ends us, inside C code too, when nobody listens too
CUSTOM_OP = b"edgetpu-custom-op"  # how edgetpu_compiler names what it has mapped
MODULES = {
    "ai_edge_litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow",
    "pycoral": "pycoral.utils.edgetpu",
}
SYS_CPU = "/sys/devices/system/cpu"


class AgentError(Exception):
    """What the host must explain: a code it knows, a text, and facts."""

    def __init__(self, code: str, text: str, **facts: Any) -> None:
        Exception.__init__(self, text)
        self.code = code
        self.facts = facts


class Lines:
    """JSON lines to the host, on a copy of stdout; stdout itself now leads to stderr.

    Libraries print to file descriptor 1 from C: that must not land between our lines.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        self.stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.told = 0.0

    def say(self, event: str, **fields: Any) -> None:
        fields["event"] = event
        self.stream.write(json.dumps(fields, sort_keys=True) + "\n")
        self.stream.flush()

    def beat(self, phase: str, done: int, total: int) -> None:
        """At most once a second, and never inside a timed section."""
        if time.monotonic() - self.told > 1.0:
            self.told = time.monotonic()
            self.say("progress", phase=phase, done=done, total=total)


def read(path: str) -> Any:
    """The text of a small system file, None when it is absent or unreadable."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(65536).strip("\0 \n")
    except (OSError, ValueError):
        return None


def number(path: str) -> Any:
    text = read(path)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def readings() -> dict[str, Any]:
    """What a fair measurement depends on, now. Every value may be None or missing."""
    cpus = sorted(glob.glob(SYS_CPU + "/cpu[0-9]*"), key=lambda p: int(p[len(SYS_CPU) + 4 :]))
    return {
        "time": time.time(),
        "governor": [read(c + "/cpufreq/scaling_governor") for c in cpus],
        "frequency_khz": [number(c + "/cpufreq/scaling_cur_freq") for c in cpus],
        "max_frequency_khz": [number(c + "/cpufreq/cpuinfo_max_freq") for c in cpus],
        "limit_frequency_khz": [number(c + "/cpufreq/scaling_max_freq") for c in cpus],
        "throttle_count": [number(c + "/thermal_throttle/core_throttle_count") for c in cpus],
        "temperature_c": {k: v / 1000.0 for k, v in kinds("thermal_zone*", "temp").items()},
        "cooling": kinds("cooling_device*", "cur_state"),
        "throttled_bits": throttled_bits(),
        "apex_temperature_millic": max(apex("temp"), default=None),
        "apex_trip_millic": min(apex("trip_point0_temp"), default=None),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def apex(name: str) -> list[int]:
    """An attribute of every PCIe Edge TPU; one that sleeps answers with less than -40 degC."""
    found = [number(path) for path in glob.glob("/sys/class/apex/apex_*/" + name)]
    return [value for value in found if value is not None and value > -40000]


def kinds(pattern: str, value: str) -> dict[str, Any]:
    """`{folder and its type: value}` of thermal zones or cooling devices that answer."""
    found = {}
    for folder in sorted(glob.glob("/sys/class/thermal/" + pattern)):
        state = number(folder + "/" + value)
        if state is not None:
            found[os.path.basename(folder) + " " + (read(folder + "/type") or "")] = state
    return found


def throttled_bits() -> Any:
    """Raspberry Pi: bits 0 to 3 are now, 16 to 19 since boot."""
    try:
        argv = ["vcgencmd", "get_throttled"]
        answer = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5)
        return int(answer.stdout.decode("ascii", "replace").partition("=")[2].strip(), 16)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def facts() -> dict[str, Any]:
    """What only the running Python knows; the rest of the board's facts is read without it."""
    numpy = sys.modules.get("numpy")
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "numpy": getattr(numpy, "__version__", None),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def peak_rss_bytes() -> int:
    for row in (read("/proc/self/status") or "").splitlines():
        if row.startswith("VmHWM:"):
            return int(row.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes


def load_runtime(names: list[str]) -> Any:
    """The first of the accepted runtimes that imports: (name, version, module)."""
    import importlib

    tried = {}
    for name in names:
        try:
            module = importlib.import_module(MODULES[name])
            return name, version_of(name), module
        except Exception as error:  # a wheel for another numpy or CPU fails in many ways
            tried[name] = type(error).__name__ + ": " + str(error)
    raise AgentError("no_runtime", "none imports", tried=tried, python=platform.python_version())


def version_of(name: str) -> Any:
    try:
        from importlib.metadata import version  # Python 3.8

        return version(name.replace("_", "-"))
    except Exception:  # Python 3.7, or a runtime that was unpacked by hand
        return getattr(sys.modules.get(name), "__version__", None)


def check_accelerator(wants: str, compiled: bool) -> None:
    """What was asked for and nothing else may run: never a silent fall back to the CPU."""
    if wants not in ("cpu", "edgetpu"):
        raise AgentError("accelerator", "the agent has no way to run on " + repr(wants))
    if wants == "edgetpu" and not compiled:
        raise AgentError("not_compiled", "the model has no Edge TPU part: it would run on the CPU")
    if wants == "cpu" and compiled:
        raise AgentError("compiled", "the model is compiled for the Edge TPU and has no CPU form")


def make_interpreter(request: dict[str, Any], model: bytes, runtime: Any) -> Any:
    name, _, module = runtime
    if name == "pycoral":
        delegate = module.load_edgetpu_delegate(request.get("edgetpu_options") or {})
        return module.make_interpreter(model, delegate=delegate)
    maker = module.lite if name == "tensorflow" else module
    options: dict[str, Any] = {"model_content": model, "num_threads": request["threads"]}
    if request["accelerator"] == "edgetpu":
        load = maker.experimental.load_delegate if name == "tensorflow" else module.load_delegate
        library = "libedgetpu.1.dylib" if sys.platform == "darwin" else "libedgetpu.so.1"
        options["experimental_delegates"] = [load(library, request.get("edgetpu_options") or {})]
    return maker.Interpreter(**options)


def guarded(make: Callable[[], Any]) -> Any:
    """Name what a runtime raises: ValueError, RuntimeError, OSError and kinds of its own."""
    try:
        return make()
    except AgentError:
        raise
    except Exception as error:
        text = type(error).__name__ + ": " + str(error)
        if "load delegate" in text:  # the library gives no reason: the host looks for it
            raise AgentError("edgetpu_open", text) from None
        absent = isinstance(error, (OSError, AttributeError))  # absent, or not a delegate
        raise AgentError("edgetpu_library" if absent else "load", text) from None


def random_inputs(details: list[Any], seed: int) -> list[Any]:
    """One sample in the model's own types: full range for 8 bit, 0..1 for indices, else -1..1."""
    import numpy

    source, arrays = numpy.random.RandomState(seed), []
    for detail in details:
        kind = numpy.dtype(detail["dtype"])
        shape = [max(1, int(d)) for d in detail["shape"]]
        if kind.kind == "f":
            arrays.append(source.uniform(-1, 1, shape).astype(kind))
        elif kind.kind in "iub":
            full = kind.itemsize <= 2 and kind.kind != "b"
            low, high = (numpy.iinfo(kind).min, numpy.iinfo(kind).max) if full else (0, 1)
            arrays.append(source.randint(low, high + 1, shape).astype(kind))
        else:
            raise AgentError("inputs", "no random input can be made for type " + str(kind))
    return arrays


def given_inputs(spec: dict[str, Any]) -> list[list[Any]]:
    """The samples of the pushed file: raw little-endian arrays, one after the other."""
    import numpy

    with open(spec["path"], "rb") as stream:
        content = stream.read()
    if hashlib.sha256(content).hexdigest() != spec["sha256"]:
        raise AgentError("inputs", "the inputs on the device are not those that were sent")
    samples, offset = [], 0
    for layout in spec["layout"]:
        sample = []
        for item in layout:
            kind = numpy.dtype(item["dtype"])
            count = int(numpy.prod(item["shape"], dtype=numpy.int64))
            sample.append(numpy.frombuffer(content, kind, count, offset).reshape(item["shape"]))
            offset += count * kind.itemsize
        samples.append(sample)
    return samples


def set_inputs(interpreter: Any, details: list[Any], sample: list[Any]) -> None:
    if len(sample) != len(details):
        raise AgentError("inputs", "the model has {} inputs".format(len(details)))
    try:
        for detail, array in zip(details, sample):
            interpreter.set_tensor(detail["index"], array)
    except ValueError as error:
        raise AgentError("inputs", str(error)) from None


def fit_shapes(interpreter: Any, sample: list[Any]) -> None:
    """Give open dimensions the sample's size, before tensors are allocated."""
    for detail, array in zip(interpreter.get_input_details(), sample):
        if list(detail["shape"]) != list(array.shape):
            signature = list(detail.get("shape_signature", ()))
            if len(signature) != array.ndim or -1 not in signature:
                text = "the input takes {}, not {}".format(list(detail["shape"]), list(array.shape))
                raise AgentError("inputs", text)
            interpreter.resize_tensor_input(detail["index"], list(array.shape))


def measure(request: dict[str, Any], model: bytes, lines: Lines) -> dict[str, Any]:
    """Load, first inference, warm-up, timed runs, then the outputs for parity (untimed)."""
    check_accelerator(request["accelerator"], CUSTOM_OP in model)
    runtime = load_runtime(request["runtimes"])  # numpy comes with it; its import is not timed
    lines.say("stage", stage="load", runtime=runtime[0])
    samples = given_inputs(request["inputs"]) if request.get("inputs") else []
    before, start = readings(), time.perf_counter_ns()
    interpreter = guarded(lambda: make_interpreter(request, model, runtime))
    if samples:
        fit_shapes(interpreter, samples[0])
    guarded(interpreter.allocate_tensors)
    init_ns = time.perf_counter_ns() - start
    details = interpreter.get_input_details()
    cycle = samples or [random_inputs(details, request["seed"])]
    times: dict[str, list[int]] = {"first": [], "warmup": [], "samples": []}
    plan = (("first", 1 if request["runs"] else 0), ("warmup", request["warmup"]))
    for phase, count in plan + (("samples", request["runs"]),):
        lines.say("stage", stage=phase)
        for index in range(count):
            set_inputs(interpreter, details, cycle[index % len(cycle)])
            began = time.perf_counter_ns()
            interpreter.invoke()
            times[phase].append(time.perf_counter_ns() - began)
            lines.beat(phase, index + 1, count)
    after = readings()
    return {
        "runtime": runtime[0],
        "runtime_version": runtime[1],
        "accelerator": request["accelerator"],
        "init_ns": init_ns,
        "first_ns": times["first"][0] if times["first"] else None,
        "warmup_ns": times["warmup"],
        "samples_ns": times["samples"],
        "peak_rss_bytes": peak_rss_bytes(),
        "conditions": {"before": before, "after": after},
        "outputs": collect(request, interpreter, details, samples, lines),
    }


def collect(
    request: dict[str, Any], interpreter: Any, details: list[Any], samples: list[Any], lines: Lines
) -> Any:
    """Every sample's outputs, raw and one after the other in one file; its layout and hash."""
    if not request.get("outputs") or not samples:
        return None
    import numpy

    lines.say("stage", stage="outputs")
    digest, layout, size = hashlib.sha256(), [], 0
    with open(request["outputs"], "wb") as stream:
        for index, sample in enumerate(samples):
            interpreter.reset_all_variables()  # what an LSTM remembers of other samples
            set_inputs(interpreter, details, sample)
            interpreter.invoke()
            row = []
            for detail in interpreter.get_output_details():
                array = numpy.ascontiguousarray(interpreter.get_tensor(detail["index"]))
                content = array.tobytes()
                digest.update(content)
                stream.write(content)
                size += len(content)
                row.append({"dtype": array.dtype.name, "shape": [int(d) for d in array.shape]})
            layout.append(row)
            lines.beat("outputs", index + 1, len(samples))
    return {"layout": layout, "sha256": digest.hexdigest(), "size_bytes": size}


def take_lock(path: Any, request: dict[str, Any], lines: Lines) -> Any:
    """One measurement at a time; the kernel lets go of the lock however we end."""
    if not path:
        return None
    import fcntl

    stream = open(path, "a")
    end = time.monotonic() + request["lock_wait_s"]
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return stream
        except OSError:
            if time.monotonic() > end:
                raise AgentError("busy", "another run of edgeopt has this device") from None
            lines.beat("waiting for another run", 0, 0)
            time.sleep(0.2)


def run(request: dict[str, Any], lines: Lines) -> None:
    _lock = take_lock(request.get("lock"), request, lines)  # held until we end
    with open(request["model"], "rb") as stream:
        model = stream.read()
    digest = hashlib.sha256(model).hexdigest()
    if digest != request["model_sha256"]:
        raise AgentError("model_hash", digest)
    result = measure(request, model, lines)
    lines.say("result", model_sha256=digest, facts=facts(), **result)


def probe(request: dict[str, Any], lines: Lines) -> None:
    """Which runtimes import here, for `doctor`. TensorFlow takes 10 s: only when it must serve."""
    found: dict[str, Any] = {}
    for name in request["runtimes"]:
        if not (found and name == "tensorflow"):
            try:
                found[name] = load_runtime([name])[1] or "unknown"
            except AgentError:
                pass
    lines.say("probe", runtimes=found, facts=facts(), readings=readings())


def main() -> int:
    sys.path[:1] = []  # the work folder holds nothing to import, and must not shadow anything
    os.environ.setdefault("KERAS_HOME", os.devnull)  # else tensorflow leaves a ~/.keras
    lines = Lines()
    lines.say("hello", schema=SCHEMA, python=platform.python_version(), pid=os.getpid())
    try:
        request = json.loads(sys.stdin.read())
        if hasattr(signal, "alarm"):
            signal.alarm(int(request["deadline_s"]) + GRACE_S)
        {"run": run, "probe": probe}[request["mode"]](request, lines)
        return 0
    except AgentError as error:
        lines.say("error", code=error.code, text=str(error), facts=error.facts)
    except Exception as error:  # told to the host, which names the stage it happened in
        lines.say("error", code="failed", text=type(error).__name__ + ": " + str(error), facts={})
    return 3


if __name__ == "__main__":
    sys.exit(main())
