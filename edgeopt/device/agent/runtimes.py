"""The runtimes that may be there, and the interpreter that one of them makes."""

from __future__ import annotations

import platform
import sys
from typing import Any, Callable

from .lines import AgentError

CUSTOM_OP = b"edgetpu-custom-op"  # how edgetpu_compiler names what it has mapped
MODULES = {
    "ai_edge_litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow",
    "pycoral": "pycoral.utils.edgetpu",
}


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
