"""Compilers: each takes a model file, and gives a file for the device and the evidence for it.

`registry.load("compilers", NAME)` gives the `compile_model` of one; their signature is
`(source, out_dir, options, progress) -> CompileResult`.
"""

from __future__ import annotations

from edgeopt.compile.contract import CompiledSegment, CompileOptions, CompileResult, OpStatus

__all__ = ["CompileOptions", "CompileResult", "CompiledSegment", "OpStatus"]
