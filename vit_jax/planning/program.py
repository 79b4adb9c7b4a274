"""Reads a compiled TPU program's text: its cycles, its memory traffic and its collectives in one step.

The text (HLO) is a list of computations, each a list of instructions. One computation is the entry. It is executed, and
so are the bodies of its loops and the computations that it calls. An instruction in the body of a loop counts as often
as the loop runs. A fusion is one instruction that has a computation of its own; it counts as one instruction.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_COLLECTIVE = re.compile(r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?")
_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "f16": 16}  # names of other types end in their number of bits
# Instructions without memory traffic of their own: they rename values, or their traffic is counted at another one.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all",
    "partition-id", "replica-id", "iota", "copy-done", "slice-done", "recv", "recv-done", "send", "send-done",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation's text, split into its parts."""

    name: str
    shape: str  # of the result; for a tuple the shapes of all its parts
    opcode: str
    rest: str  # operands and attributes
    root: bool  # whether its result is that of the computation

    @property
    def operands(self) -> list[str]:
        """The names of the instructions whose results this one reads."""
        return re.findall(r"%([\w.-]+)", self.rest[: self.rest.find(")")])

    def called(self, *attributes: str) -> list[str]:
        """Returns the names of the computations that these attributes refer to."""
        found = [re.search(rf"\b{attribute}=\{{?((?:%[\w.-]+(?:, )?)+)", self.rest) for attribute in attributes]
        return [name for match in found if match for name in re.findall(r"%([\w.-]+)", match[1])]


@dataclasses.dataclass(frozen=True)
class Collective:
    """A communication between devices, which all devices of a group do together."""

    op: str  # such as `all-gather`
    count: int  # executions in a step
    bytes: int  # the whole array in one execution: the gathered, the reduced, or the one before it is scattered
    groups: tuple[tuple[int, ...], ...]  # numbers of the devices that communicate; for a permutation (source, target)
    overlapped: bool  # whether the devices compute at the same time
    between_slices: bool = False


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program does in one step on one device."""

    cycles: int  # the compiler's own estimate, without the collectives
    hbm_bytes: int  # read and written in the device's memory
    silent_bytes: int  # the part of `hbm_bytes` by instructions without an estimate of cycles, such as plain reshapes
    host_bytes: int  # moved to and from the host's memory
    collectives: tuple[Collective, ...]
    kernels: tuple[str, ...]  # names of custom kernels, whose work is not known


def parse(text: str) -> Program:
    """Returns what a TPU program does in a step.

    Args:
        text: the program's text, as `compiled.as_text()` of JAX returns it.
    """
    computations, entry = _computations(text)
    cycles = traffic = silent = host = 0
    collectives: dict[tuple[str, str], Collective] = {}
    kernels: set[str] = set()
    for name, times in _executed(computations, entry):
        body = computations[name]
        shapes = {i.name: i.shape for i in body}
        for instruction in body:
            estimated = re.search(r'"estimated_cycles":"(\d+)"', instruction.rest)
            cycles += times * int(estimated[1]) if estimated else 0
            moved = times * _traffic(instruction, shapes, computations)
            traffic += moved
            host += times * _host_bytes(instruction, shapes)
            silent += 0 if estimated or instruction.opcode.endswith("-start") else moved
            if 'custom_call_target="tpu_custom_call"' in instruction.rest:
                kernels.add(instruction.name)
            for part, inside in _with_fused(instruction, computations):
                found = _collective(part, inside, times)
                if found is None:
                    continue
                # The text lists an overlapping collective once for each of its stages, which share a channel.
                channel = re.search(r"channel_id=(\d+)", part.rest)
                key = name, f"{found.op} {channel[1] if channel else part.name}"
                known = collectives.get(key)
                overlapped = found.overlapped or bool(known and known.overlapped)
                collectives[key] = dataclasses.replace(known or found, overlapped=overlapped)
    return Program(cycles, traffic, silent, host, tuple(collectives.values()), tuple(sorted(kernels)))


def _computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    computations: dict[str, list[Instruction]] = {}
    entry, body = "", []
    for line in text.splitlines():
        if line[:1] in "%E" and (start := _COMPUTATION.match(line)):
            body = computations.setdefault(start[2], [])
            entry = start[2] if start[1] else entry
        elif found := _INSTRUCTION.match(re.sub(r"/\*index=\d+\*/", "", line)):
            body.append(Instruction(found[2], found[3], found[4], found[5], bool(found[1])))
    return computations, entry


def _executed(computations: dict[str, list[Instruction]], name: str, times: int = 1) -> Iterator[tuple[str, int]]:
    """Yields each executed computation and how often it runs in a step; the insides of fusions are left out."""
    yield name, times
    for instruction in computations[name]:
        if instruction.opcode == "while":
            (condition,), (body,) = instruction.called("condition"), instruction.called("body")
            yield from _executed(computations, body, times * _trips(computations[condition]))
        elif instruction.opcode in ("call", "conditional"):
            for called in instruction.called(
                "to_apply", "branch_computations", "true_computation", "false_computation"
            ):
                yield from _executed(computations, called, times)


def _trips(condition: Sequence[Instruction]) -> int:
    """Returns how often a loop runs, if it counts from 0 to a constant as `jax.lax.scan` does, and otherwise 1.

    The loops of the training step that depend on data draw from a gamma distribution, for mixup. They are short, so
    that counting them once changes little.
    """
    root = next(i for i in condition if i.root)
    limits = [re.match(r"(\d+)\)", i.rest) for i in condition if i.opcode == "constant" and i.name in root.operands]
    if "direction=LT" not in root.rest or len(limits) != 1 or limits[0] is None:
        return 1
    return int(limits[0][1])


def _with_fused(
    instruction: Instruction, computations: dict[str, list[Instruction]], inside: str = ""
) -> Iterator[tuple[Instruction, str]]:
    """Yields an instruction and, for a fusion or an asynchronous start, all instructions inside it.

    Each comes with the names of the computations around it, separated by blanks.
    """
    yield instruction, inside
    for called in instruction.called("calls"):
        for part in computations.get(called, []):
            yield from _with_fused(part, computations, f"{inside} {called}")


def _collective(instruction: Instruction, inside: str, times: int) -> Collective | None:
    if instruction.opcode == "send" and "_xla_megascale_transfer_type" in instruction.rest:
        kind = re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.rest)
        assert kind is not None
        op, size = kind[1].lower().replace("_", "-"), _bytes(_parts(instruction.shape)[:1])
        return Collective(op, times, size, (), overlapped=True, between_slices=True)
    match = _COLLECTIVE.fullmatch(instruction.opcode)
    if not match:
        return None
    op, parts = match[1], _parts(instruction.shape)
    overlapped = bool(match[2]) or "async_collective_fusion" in inside
    if op == "collective-permute":
        size = _bytes(parts[:1])
        pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", instruction.rest)
        groups = tuple(map(tuple, _numbers(pairs[1]))) if pairs else ()
        return Collective(op, times, size, groups, overlapped)
    if match[2] and op == "all-gather":
        parts = parts[len(parts) // 2 :]  # operands first, then results
    groups = _groups(instruction.rest)
    size = _bytes(parts)
    if op == "reduce-scatter":
        size *= len(groups[0])
    if "all-reduce-scatter" in inside:
        op = "reduce-scatter"
    return Collective(op, times, size, groups, overlapped)


def _numbers(text: str) -> list[list[int]]:
    return [list(map(int, re.findall(r"\d+", part))) for part in text.split("},{")]


def _groups(rest: str) -> tuple[tuple[int, ...], ...]:
    """Returns the groups of devices from any of HLO's three notations: a list, an iota, or some axes of a mesh."""
    if listed := re.search(r"replica_groups=\{(\{[\d,{}]*\})\}", rest):
        return tuple(map(tuple, _numbers(listed[1])))
    iota = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"
    if found := re.search(rf"replica_groups=\[([\d,]+)\]<={iota}", rest):
        return tuple(map(tuple, _iota(found[2], found[3]).reshape(_ints(found[1])).tolist()))
    if found := re.search(rf"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\({iota}\))? *\{{([^}}]*)\}}", rest):
        names, sizes = zip(*re.findall(r"'(\w+)'=(\d+)", found[1]), strict=True)
        shape = list(map(int, sizes))
        ids = _iota(found[2], found[3]) if found[2] else np.arange(math.prod(shape))
        used = [names.index(axis) for axis in re.findall(r"'(\w+)'", found[4])]
        others = [i for i in range(len(names)) if i not in used]
        size = math.prod(shape[i] for i in used)
        return tuple(map(tuple, ids.reshape(shape).transpose(*others, *used).reshape(-1, size).tolist()))
    return ()


def _iota(shape: str, order: str | None) -> np.ndarray:
    ids = np.arange(math.prod(_ints(shape))).reshape(_ints(shape))
    return ids.transpose(_ints(order)).reshape(-1) if order else ids.reshape(-1)


def _ints(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


Part = tuple[str, str, str]  # dtype, dimensions, layout


def _parts(shape: str) -> list[Part]:
    return _SHAPE.findall(shape)


def _bytes(parts: Sequence[Part], *, hbm_only: bool = False) -> int:
    total = 0
    for dtype, dimensions, layout in parts:
        if dtype == "token" or (hbm_only and "S(" in layout):
            continue  # memory spaces: S(1) is vector memory on the chip, S(2) semaphores, S(5) the host's memory
        bits = _BITS.get(dtype) or int(re.sub(r"\D", "", dtype.split("e")[0]) or 32)
        total += math.prod(_ints(dimensions)) * bits // 8
    return total


def _traffic(instruction: Instruction, shapes: dict[str, str], computations: dict[str, list[Instruction]]) -> int:
    """Returns the bytes that an instruction reads and writes in the device's memory.

    An instruction that takes a slice of an operand reads only that slice, so only the slice is counted.
    """
    if instruction.opcode in _FREE or instruction.opcode.endswith("-done") or "AllocateBuffer" in instruction.rest:
        return 0
    if _COLLECTIVE.fullmatch(instruction.opcode):
        return 0  # its time is counted by the links that it uses
    operands = [_parts(shapes.get(name, "")) for name in instruction.operands]
    if way := _copied(instruction, shapes):
        size, *ends = way
        return size * sum("S(" not in layout for layout in ends)
    if instruction.opcode in ("dynamic-slice", "slice"):
        return 2 * _bytes(_parts(instruction.shape), hbm_only=True)
    if instruction.opcode == "dynamic-update-slice":
        return 2 * _bytes(operands[1], hbm_only=True)
    fused = instruction.called("calls")
    if instruction.opcode == "fusion" and fused and fused[0] in computations:
        return _fusion(operands, _parts(instruction.shape), fused[0], computations)
    return sum(_bytes(parts, hbm_only=True) for parts in (*operands, _parts(instruction.shape)))


def _copied(instruction: Instruction, shapes: dict[str, str]) -> tuple[int, str, str] | None:
    """Returns the bytes of an asynchronous copy and the layouts of its source and target; None for other instructions.

    A layout names the memory space, such as S(5) for the host's memory.
    """
    parts = _parts(instruction.shape)
    operands = [_parts(shapes.get(name, "")) for name in instruction.operands]
    match instruction.opcode:
        case "copy-start":
            source, target, moved = operands[0], parts, parts[:1]
        case "slice-start" | "dynamic-slice-start":
            source, target, moved = operands[0], parts[-2:], parts[-2:-1]
        case "dynamic-update-slice-start":
            source, target, moved = operands[1], operands[0], operands[1]
        case _:
            return None
    return _bytes(moved), source[0][2], target[0][2]


def _host_bytes(instruction: Instruction, shapes: dict[str, str]) -> int:
    size, *ends = _copied(instruction, shapes) or (0,)
    return size if any("S(5)" in layout for layout in ends) else 0


def _fusion(
    operands: list[list[Part]], results: list[Part], name: str, computations: dict[str, list[Instruction]]
) -> int:
    """Returns the bytes that a fusion reads and writes in the device's memory.

    An operand that the fusion only slices counts with the slices, and a result that it updates in place counts with
    the update.
    """
    body = computations[name]
    inner = {i.name: i for i in body}
    total = 0
    for number, parts in enumerate(operands):
        if _bytes(parts, hbm_only=True):
            read = _read(name, number, computations)
            total += _bytes(parts) if read is None else min(read, _bytes(parts))
    roots = [i for i in body if i.root]
    written = [inner[n] for n in roots[0].operands] if roots and roots[0].opcode == "tuple" else roots
    for part, instruction in zip(results, written, strict=False):
        while instruction.opcode == "bitcast" and instruction.operands[0] in inner:
            instruction = inner[instruction.operands[0]]
        if not _bytes([part], hbm_only=True):
            continue
        if instruction.opcode == "dynamic-update-slice" and instruction.operands[1] in inner:
            total += _bytes(_parts(inner[instruction.operands[1]].shape))
        else:
            total += _bytes([part])
    return total


def _read(name: str, number: int, computations: dict[str, list[Instruction]]) -> int | None:
    """Returns the bytes that a fusion reads of operand `number`, or None if it may read the whole operand.

    The bytes are those of the slices that it takes. An operand that is only updated in place is not read: 0 bytes.
    """
    body = computations[name]
    names = {i.name for i in body if i.opcode == "parameter" and i.rest.startswith(f"{number})")}
    total = 0
    for user in body:  # instructions come after their operands
        for place, operand in enumerate(user.operands):
            if operand not in names:
                continue
            if user.opcode == "bitcast":
                names.add(user.name)
            elif user.opcode in ("dynamic-slice", "slice"):
                total += _bytes(_parts(user.shape))
            elif user.opcode == "fusion":
                read = _read(user.called("calls")[0], place, computations)
                if read is None:
                    return None
                total += read
            elif user.opcode != "dynamic-update-slice" or place:  # an update in place does not read its first operand
                return None
    return total
