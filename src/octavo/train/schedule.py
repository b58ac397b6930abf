"""The learning rate as a pure function of the step: nothing to save, nothing to restore.

Warm-up rises linearly to the peak at step `warmup_steps`; cosine (Loshchilov & Hutter 2017) and linear then fall to
`final_fraction` of the peak at the last step; constant stays.
"""

from __future__ import annotations

import math

from octavo.train.recipe import ScheduleSettings


def learning_rate(step: int, *, peak: float, total: int, schedule: ScheduleSettings) -> float:
    """The rate of step `step`, counted from 1 to `total`.

    Step `warmup_steps` has the peak, step `total` has peak * final_fraction (constant: peak).
    """
    if step < schedule.warmup_steps:
        return peak * step / schedule.warmup_steps
    if schedule.kind == "constant":
        return peak
    start = max(schedule.warmup_steps, 1)  # the first step at the peak
    done = (step - start) / max(total - start, 1)
    fall = 0.5 * (1 + math.cos(math.pi * done)) if schedule.kind == "cosine" else 1 - done
    return peak * (schedule.final_fraction + (1 - schedule.final_fraction) * fall)
