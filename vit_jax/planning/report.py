"""Formats plans as text: all facts of one plan, or a table that compares several."""

from collections.abc import Iterable, Sequence

from vit_jax.chips import GIB
from vit_jax.planning.plans import Plan
from vit_jax.planning.search import Tried, flags


def table(plan: Plan) -> str:
    """Returns all facts of a plan as text, one per line."""
    memory, times = plan.hbm_per_device, plan.step_seconds
    where = f"{plan.slices} x {plan.topology}" if plan.slices > 1 else plan.topology
    mesh = ", ".join(f"{axis}={size}" for axis, size in plan.mesh.items() if size > 1) or "one device"
    rows = [
        ("slice", f"{where}: {plan.chips:,} chips, {plan.devices:,} devices, mesh {mesh}"),
        ("model", f"{plan.parameters:,} parameters"),
        ("batch", f"{plan.global_batch_size:,} images, {plan.global_batch_size / plan.devices:g} a device"),
        ("fits", verdict(plan)),
    ]
    if memory.temporaries is not None:
        parts = ("arguments", memory.arguments), ("outputs", memory.outputs), ("temporaries", memory.temporaries)
        rows.append(("memory a device", ", ".join(f"{name} {_gib(size)}" for name, size in parts)))
    elif memory.arguments is not None:
        rows.append(("memory a device", f"state {_gib(memory.arguments)}; the rest is not known without a program"))
    rows.append(("operations", f"{plan.flops_per_step:.4g} a step, {plan.total_exaflops:.4g} exaFLOPs in all"))
    if times:
        rows += [
            ("step: estimate", f"{_ms(times.estimate)}; {_how(plan)}"),
            ("  compute bound", f"{_ms(times.compute)} at the chip's peak"),
        ]
        if plan.compiled:
            rows.append(("  memory bound", f"{_ms(times.memory)} for the program's traffic at the memory's bandwidth"))
        rows.append(("  interconnect bound", f"{_ms(times.interconnect)} for all collectives at the links' bandwidth"))
        if times.host:
            rows.append(("  host bound", f"{_ms(times.host)} for what is kept in the host's memory, there and back"))
        if times.compiler is not None:
            rows.append(("  compiler", f"{_ms(times.compiler)} by its own count of cycles, without collectives"))
        if plan.kernels:
            rows.append(("", f"without {len(plan.kernels)} custom kernels, of whose time nothing is known"))
        assert plan.images_per_second and plan.mfu and plan.total_hours and plan.total_chip_hours
        rows += [
            ("images/s", f"{plan.images_per_second:,.0f}, {plan.images_per_second / plan.chips:,.0f} a chip"),
            ("MFU", f"{100 * plan.mfu:.0f} % of the peak"),
            (
                "whole run",
                f"{plan.total_steps:,} steps, {plan.total_hours:,.2f} h, {plan.total_chip_hours:,.1f} chip-hours",
            ),
            ("", "an estimate as the step is; evaluations, checkpoints and start come on top"),
        ]
    for op, moved in plan.collectives.items():
        share = f", {100 * moved.overlapped_bytes / moved.bytes:.0f} % while computing" if moved.bytes else ""
        rows.append((op, f"{moved.count:,} times, {moved.bytes / 2**20:,.1f} MiB, over {moved.link}{share}"))
    if plan.compile_seconds is not None:
        rows.append(("compiled in", f"{plan.compile_seconds:.0f} s"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def verdict(plan: Plan) -> str:
    """Returns, in a few words, whether the plan fits, with the memory that it needs and the limit, both per device.

    If the total is not known, the memory is that of the arguments alone. For GPUs the answer is "not known" without a
    memory, unless the training state alone does not fit.
    """
    memory = plan.hbm_per_device
    if plan.fits is None:
        return "not known: nothing was compiled for GPUs; what is said of time and traffic is analytic"
    wants = f"{_gib(memory.total if memory.total is not None else memory.arguments)} of {_gib(memory.limit)} a device"
    return f"yes, {wants}" if plan.fits else f"no, it wants {wants}"


def _how(plan: Plan) -> str:
    if plan.compiled:
        return "the largest of these, the collectives that nothing hides on top of the compiler's count"
    return "the largest bound, at an assumed share of the peak"


def comparison(tried: Iterable[Tried]) -> str:
    """Returns a table with a row for each plan: its settings, memory and speed, or why the settings were refused."""
    rows: list[Sequence[str]] = [("settings", "fits", "memory a device", "step", "images/s", "MFU", "chip-hours")]
    for one in tried:
        plan = one.plan
        if plan is None:
            rows.append((flags(one.overrides), "-", one.refused, "", "", "", ""))
            continue
        row = [flags(one.overrides), {True: "yes", False: "no", None: "?"}[plan.fits]]
        row.append(_gib(plan.hbm_per_device.total))
        if plan.step_seconds and plan.images_per_second and plan.mfu and plan.total_chip_hours:
            row += [_ms(plan.step_seconds.estimate), f"{plan.images_per_second:,.0f}", f"{100 * plan.mfu:.0f} %"]
            row.append(f"{plan.total_chip_hours:,.0f}")
        rows.append(row + [""] * (7 - len(row)))
    widths = [max(len(row[i]) for row in rows if not (i == 2 and row[1] == "-")) for i in range(7)]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _gib(size: int | None) -> str:
    return "?" if size is None else f"{size / GIB:.2f} GiB"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.4g} ms"
