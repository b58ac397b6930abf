"""The C kernels that run a model on a CPU without torch: `available()` says whether, where and at which level.

Importing this costs nothing; the library is loaded by `available()` or by a runner.
"""

from __future__ import annotations

from octavo.nn.kernels.binding import KernelStatus, available

__all__ = ["KernelStatus", "available"]
