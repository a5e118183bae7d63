"""Repair a .tflite for a target: apply, prove, verify again, cut where asked; then publish."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeopt.errors import EdgeoptError, InputError, ModelError
from edgeopt.facts import ModelFacts
from edgeopt.pipeline.explaining import explanations, mapped_with
from edgeopt.pipeline.fixed import CPU_ROLES, Cut, Fixed, Look, Request
from edgeopt.pipeline.fixing_files import publish_fixed, stem
from edgeopt.profile import HardwareProfile
from edgeopt.progress import Progress
from edgeopt.repair import (
    CONSEQUENCES,
    Need,
    Part,
    Prover,
    Standing,
    Step,
    apply,
    around,
    at_tensors,
    cut,
    keep_attached,
    repairable,
    scaled_by_channel,
)
from edgeopt.store import scratch
from edgeopt.target import Target, load_target

__all__ = ["Fixed", "Request", "fix"]

_GIVEN_SAMPLES = 8  # of --calibration, when no number is given


def fix(request: Request, progress: Progress) -> Fixed:
    """Explain, repair, prove, and publish. The original is never written to.

    Raises InputError for a file that is no .tflite or for tensors that are not there; ModelError,
    with what was reached, when it is damaged, compiled already, cannot be run, or when rules stay
    broken (unless `partial` was asked for, and then too, after writing).
    """
    target = load_target(request.target)
    facts = _readable(request.model, target)
    original = request.model.read_bytes()
    progress.stage(f"Looking at {request.model.name}")
    before = _look(original, request.model, target.profile)
    fixed = Fixed(model=facts, target=target, before=before, after=before, dry_run=request.dry_run)
    with _keeping(fixed), scratch() as folder, ExitStack() as open_until_done:
        prover = _prover(request, facts, original, folder, fixed)
        data = original
        if prover is not None:
            open_until_done.enter_context(prover)
            progress.stage("Repairing, and proving each repair")
            data = _apply(original, request, target.profile, prover, fixed)
        if data is not original:
            data = keep_attached(original, data)
            fixed.changed = True
            fixed.after = _look(data, request.model, target.profile)
        _hold_io(request, fixed)
        if request.splits:
            progress.stage("Cutting, and proving the chain")
            _split(data, request, prover, fixed)
        fixed.complete = _complete(fixed)
        if waiting := _waiting(fixed):
            fixed.notes.append(waiting)
        if not request.dry_run:
            publish_fixed(data, request, folder, fixed)
    _refuse_incomplete(request, fixed)
    return fixed


@contextmanager
def _keeping(fixed: Fixed) -> Iterator[None]:
    """What was reached is never lost with an error."""
    try:
        yield
    except EdgeoptError as error:
        error.reached = error.reached or fixed
        raise


def _readable(path: Path, target: Target) -> ModelFacts:
    from edgeopt.model import read

    facts = read(path)
    if facts.format != "tflite":
        raise InputError(
            f"edgeopt fix repairs .tflite files; {path.name} is {facts.format}.",
            f"Convert it first: edgeopt convert {path.name} --target {target.name}.",
        )
    if target.profile.compiled(facts):
        raise ModelError(
            f"{path.name} is already compiled for {target.profile.name}.",
            "Give the model from before compiling.",
        )
    return facts


def _facts_of(data: bytes, path: Path) -> ModelFacts:
    from edgeopt.model.tflite import parse

    contents = parse(data)
    return ModelFacts(
        path=path,
        format="tflite",
        sha256="",
        size_bytes=len(data),
        gzip_bytes=0,
        parameters=contents.parameters,
        subgraphs=contents.subgraphs,
        out_of_line_buffers=contents.out_of_line_buffers,
        signatures=contents.signatures,
    )


def _look(data: bytes, path: Path, profile: HardwareProfile) -> Look:
    from edgeopt.verify import check, predict

    facts = _facts_of(data, path)
    placement = predict(facts, profile)
    return Look(
        facts=facts,
        constraints=check(facts, profile),
        placement=placement,
        explanations=explanations(facts, placement, profile),
    )


def _prover(
    request: Request,
    facts: ModelFacts,
    original: bytes,
    folder: Path,
    fixed: Fixed,
) -> Prover | None:
    """None, with a note, where the original itself does not run: then nothing can be proven."""
    given = _samples(request, facts)
    prover = None
    try:
        prover = Prover(original, folder, given=given, own_only=request.own_kernels)
        prover.run_original()
    except ModelError as error:
        if prover is not None:
            prover.close()
        fixed.notes.append(f"No repair can be proven, so none was made: {error.message}")
        return None
    if prover.beyond:
        fixed.notes.append(
            f"LiteRT does not have {', '.join(prover.beyond)}: proofs go up to there, and what "
            "follows is carried over unchanged."
        )
    return prover


def _samples(request: Request, facts: ModelFacts) -> list[Any]:
    if request.calibration is None:
        return []
    from edgeopt.dataset import load_dataset
    from edgeopt.feed import feed, real_inputs

    data = load_dataset(request.calibration, preprocess=request.preprocess)
    data = data.in_order_of(t.name for t in facts.inputs).match(real_inputs(facts.inputs))
    count = request.calibration_samples or _GIVEN_SAMPLES
    return [array for sample in data.samples(count) for array in feed(sample, facts.inputs)]


def _apply(
    original: bytes, request: Request, profile: HardwareProfile, prover: Prover, fixed: Fixed
) -> bytes:
    seen: dict[str, tuple[Need, Standing]] = {}

    def judge(data: bytes) -> tuple[Need, Standing]:
        key = hashlib.sha256(data).hexdigest()
        if key not in seen:
            seen[key] = _judge(_facts_of(data, request.model), request, profile)
        return seen[key]

    data, steps = apply(original, judge, prover)
    fixed.steps = tuple(steps)
    return data


def _hold_io(request: Request, fixed: Fixed) -> None:
    """Raise ModelError where the type that was asked for could not be given."""
    if request.io not in ("int8", "uint8"):
        return
    facts = fixed.after.facts
    other = [
        t
        for t in (*facts.inputs, *facts.outputs)
        if t.dtype != request.io
        and (t.dtype == "float32" or (t.dtype in ("int8", "uint8") and t.quantization))
    ]
    if not other:
        return
    step = next((s for s in fixed.steps if s.name == "integer_io" and not s.applied), None)
    raise ModelError(
        f"{other[0].name} stays {other[0].dtype}: it cannot become {request.io}. "
        f"{step.reason if step else 'Nothing could be proven.'}",
        "Leave --io out, or cut off the operations that compute in float (--cut-head, --cut-tail).",
    )


def _judge(facts: ModelFacts, request: Request, profile: HardwareProfile) -> tuple[Need, Standing]:
    """What the file needs: only operations are rewritten that would then be mapped."""
    from edgeopt.verify import check, predict

    placement, found = predict(facts, profile), check(facts, profile)
    refused = {
        op.index: op.cause
        for op in (placement.ops if placement else ())
        if op.placement == "cpu" and op.cause not in CONSEQUENCES
    }
    rewritten = repairable(facts, refused, profile)
    worth = mapped_with(facts, profile, rewritten) if rewritten else frozenset()
    wanted = {index: cause for index, cause in refused.items() if index in worth}
    for op in facts.subgraphs[0].operators:
        if scaled_by_channel(op, profile):  # mapped or not, it breaks a rule
            wanted[op.index] = "per_tensor"
    need = Need(
        profile=profile,
        refused=wanted,
        io=request.io,
        float_io_forbidden=any(v.constraint.startswith("io.") for v in found.violations),
    )
    cpu = placement.ops_cpu if placement else 0
    standing = Standing(violations=len(found.violations), refused=len(refused), cpu=cpu)
    return need, standing


def _split(data: bytes, request: Request, prover: Prover | None, fixed: Fixed) -> None:
    """Cut `data` as asked, and hold the chain against the original."""
    profile = fixed.target.profile
    graph = fixed.after.facts.subgraphs[0]
    placement = fixed.after.placement
    if request.split_at:
        groups = at_tensors(graph, request.split_at)
    else:
        place = profile.partition.place
        ops = placement.ops if placement else ()
        main = ops[: len(graph.operators)]
        body = frozenset(op.index for op in main if op.placement == place)
        if not body:
            raise ModelError(
                f"No operation of {request.model.name} is predicted to map: nothing to cut around.",
                "Name tensors with --split-at, or see what edgeopt inspect says.",
            )
        groups = around(graph, body, head=request.cut_head, tail=request.cut_tail)
    if len(groups) < 2:
        fixed.notes.append("There is nothing to cut off: every part would be empty but one.")
        return
    if prover is None:
        raise ModelError("The chain cannot be proven, so nothing is cut.", fixed.notes[-1])
    parts = cut(data, groups)
    proof = prover.chain(parts, data)
    if not proof.identical:
        raise ModelError(
            f"The cut files do not compute the same: {proof.reason}.",
            "Nothing was written. Please report this model.",
        )
    fixed.chain_proof = proof
    fixed.cuts = _named_cuts(parts, request, profile)


def _named_cuts(
    parts: Sequence[Part], request: Request, profile: HardwareProfile
) -> tuple[Cut, ...]:
    """Named by what they are for; cut at named tensors, the accelerator's is what maps the most."""
    looks = [_look(part.data, request.model, profile) for part in parts]
    counts = [look.placement.ops_mapped if look.placement else 0 for look in looks]
    body = [part.role for part in parts].index("tpu")
    if request.split_at:
        body = counts.index(max(counts))
    name = stem(request)
    found = []
    for number, (part, look) in enumerate(zip(parts, looks, strict=True)):
        role = "head" if number < body else "tail" if number > body else _role(profile)
        found.append(Cut(part=replace(part, role=role), look=look, name=f"{name}_{role}.tflite"))
    return tuple(found)


def _role(profile: HardwareProfile) -> str:
    return profile.partition.short


def _waiting(fixed: Fixed) -> str:
    """What the word --own-kernels would let through; "" where nothing waits for it."""
    own = [step.name for step in fixed.steps if not step.applied and _only_xnnpack(step)]
    if not own:
        return ""
    names = ", ".join(dict.fromkeys(name.replace("_", " ") for name in own))
    return (
        f"edgeopt fix --own-kernels makes these repairs too: {names}. TensorFlow Lite's own "
        "kernels give the same outputs to the bit; XNNPACK, LiteRT's default on a CPU, rounds some "
        "values otherwise before and after."
    )


def _only_xnnpack(step: Step) -> bool:
    return "--own-kernels" in step.reason


def _complete(fixed: Fixed) -> bool:
    """Whether what is for the accelerator breaks no rule."""
    if fixed.cuts:
        return all(
            one.look.constraints.passed for one in fixed.cuts if one.part.role not in CPU_ROLES
        )
    return fixed.after.constraints.passed


def _refuse_incomplete(request: Request, fixed: Fixed) -> None:
    if fixed.complete:
        return
    broken = fixed.after.constraints.violations
    if fixed.cuts:
        broken = tuple(v for one in fixed.cuts for v in one.look.constraints.violations
                       if one.part.role not in CPU_ROLES)  # fmt: skip
    count = len(broken)
    written = [a.path for a in fixed.artifacts[1:]]
    what = f"written as incomplete: {', '.join(map(str, written))}" if written else (
        "nothing was written (--partial writes what could be repaired)"
    )  # fmt: skip
    raise ModelError(
        f"{request.model.name} still breaks {count} rule{'s' * (count > 1)} of "
        f"{fixed.target.profile.name} that edgeopt fix cannot repair; {what}.",
        _waiting(fixed) or (broken[0].hint if broken else ""),
        details={"lines": [str(v) for v in broken]},
        reached=fixed,
    )
