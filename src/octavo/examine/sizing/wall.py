"""The memory wall as a chart: what models take against what there is, and how fast memory lets them decode.

Source: Gholami et al. 2024, "AI and Memory Wall" (arXiv 2403.14123).
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo.examine.sizing.fit import Fit, FormatFit, Speeds
from octavo.examine.sizing.machine import LARGEST, Machine
from octavo.figures.axes import horizontal, log_axis, short, vertical
from octavo.figures.drawing import COLOURS, GREY, INK, Box, Dot, Drawing, Label, Line, Shape, legend
from octavo.figures.page import Paragraph, Part, Table

ROW_HEIGHT, LEFT, WIDTH = 20, 230, 900
GROWTH = (
    "Every two years the arithmetic of processors for AI grew 3.0 times, the bandwidth of their memory 1.6 times and "
    "that of the links between them 1.4 times (Gholami et al. 2024): so the bytes that a token reads, not its "
    "operations, decide how fast one sequence is decoded."
)


def wall(fits: Sequence[Fit], machine: Machine, speeds: Speeds) -> list[Part]:
    """The chart of any number of models, with its figures as a table."""
    rows = tuple(
        (
            found.name,
            row.format,
            f"{found.parameters.total:,}",
            f"{found.context:,}",
            short(row.weights) + "B",
            short(row.memory) + "B",
            short(row.read) + "B",
            f"{row.tokens_per_second:.3g}",
        )
        for found in fits
        for row in found.formats
    )
    head = ("model", "format", "parameters", "context", "weights", "with cache", "read a token", "tokens/s at most")
    return [Paragraph(GROWTH), memory_chart(fits, machine), speed_chart(fits, speeds), Table(head, rows)]


def memory_chart(fits: Sequence[Fit], machine: Machine) -> Drawing:
    """A bar a model and format: weights, then the cache of one context; lines where the machine's memory ends."""
    bars = [(found, row) for found in fits for row in found.formats]
    limits = [("free memory", machine.free_memory)] if machine.free_memory else []
    limits += [(gpu.name, gpu.free) for gpu in machine.gpus if gpu.free]
    bottom = 30 + ROW_HEIGHT * len(bars)
    values = [float(row.weights) for _, row in bars] + [float(row.memory) for _, row in bars]
    axis = log_axis(values + [float(size) for _, size in limits], LEFT, WIDTH - 30)
    shapes: list[Shape] = list(horizontal(axis, 24, bottom, "bytes, logarithmic"))
    for index, (found, row) in enumerate(bars):
        shapes += _bar(found, row, 30 + ROW_HEIGHT * index, axis.start, axis.at(row.weights), axis.at(row.memory))
    for name, size in limits:
        x = axis.at(size)
        shapes += [Line(((x, 20), (x, bottom)), COLOURS[5], 2, dashed=True)]
        shapes += [Label((x, 14), f"{name} {short(size)}B", 12, "middle", COLOURS[5])]
    shapes += legend([("weights", COLOURS[0]), ("cache of one context", COLOURS[1])], (8, bottom + 12))
    return Drawing(WIDTH, bottom + 52, "Memory: weights and the cache of one context", tuple(shapes))


def _bar(found: Fit, row: FormatFit, y: float, start: float, weights: float, memory: float) -> list[Shape]:
    note = f"{found.name}, {row.format}: {row.weights:,} bytes of weights, {row.memory:,} with the cache"
    size = ROW_HEIGHT - 5
    return [
        Label((LEFT - 8, y + 12), f"{_cut(found.name)}  {row.format}", 12, "end"),
        Box((start, y), (weights - start, size), COLOURS[0], note),
        Box((weights, y), (memory - weights, size), COLOURS[1], note),
    ]


def speed_chart(fits: Sequence[Fit], speeds: Speeds) -> Drawing:
    """Bytes read for a token against tokens a second: the measured bandwidth is a slope that nothing gets above."""
    dots = [(number, found, row) for number, found in enumerate(fits) for row in found.formats]
    height, bandwidth = 360, speeds.bandwidth(LARGEST)
    across = log_axis([float(row.read) for _, _, row in dots], 70, WIDTH - 200)
    rates = [row.tokens_per_second for _, _, row in dots]
    up = log_axis([*rates, *(bandwidth / row.read for _, _, row in dots)], height - 50, 30)
    shapes: list[Shape] = [*horizontal(across, 30, height - 50, "bytes read for a token, logarithmic")]
    shapes += vertical(up, 70, WIDTH - 200, "tokens a second")
    low, high = max(across.low, bandwidth / up.high), min(across.high, bandwidth / up.low)
    ends = tuple((across.at(size), up.at(bandwidth / size)) for size in (low, high))
    shapes += [Line(ends, INK, 2)]
    shapes += [
        Label((ends[0][0] + 30, ends[0][1] + 6), f"main memory, {short(bandwidth)}B/s measured", 12, "start", GREY)
    ]
    for number, found, row in dots:
        note = f"{found.name}, {row.format}: {row.read:,} bytes a token, {row.tokens_per_second:.3g} tokens/s at most"
        centre = (across.at(row.read), up.at(row.tokens_per_second))
        shapes.append(Dot(centre, 5, COLOURS[number % len(COLOURS)], note))
    names = [(_cut(found.name), COLOURS[number % len(COLOURS)]) for number, found in enumerate(fits)]
    shapes += legend(names, (WIDTH - 185, 34))
    return Drawing(
        WIDTH, max(height, 60 + 18 * len(fits)), "Speed: what memory allows one sequence at a time", tuple(shapes)
    )


def _cut(name: str) -> str:
    return name if len(name) <= 22 else name[:21] + "…"
