"""Where stock onnxruntime's tensors lie: one region of memory for all functions of a process.

Two things of it are memory that no tensor asks for. Its lists have a place for every 256 bytes of a
region, used or not, and are written when the region is taken. And what lies in one region can't be
moved to another, so that a second region leaves holes at the end of the first: three blocks in a
batch of 32 held 75 MB of tensors and 6 MB of lists for 62 MB alive, in one region 66 and 4.
So a region is as large as the plan needs with the holes, and no larger.
"""

from __future__ import annotations

from types import ModuleType

# For a caller that has no plan, such as a prediction. It is address space: a page counts as memory
# once a tensor has been in it.
UNPLANNED_BYTES = 64 << 20
# A tensor goes into the smallest piece that is large enough for it. What is left at the end of a
# region has to be larger than the holes between tensors, or else it is taken in place of one of
# them: `repnet-bias` with 118 MB alive filled a region of 1.5 times that, and 138 MB of one twice
# as large. Holes are up to 15 % of what is alive where blocks are trained, 25 % in other methods,
# and of little a megabyte more; where tensors lie is planned (export/memory/region.py).
TIMES_ALIVE, LEAST_HOLES = 2, 2 << 20
# The size is an int in the runtime.
LARGEST_BYTES = (1 << 31) - (2 << 20)
# In every release, a tensor begins at a multiple of the first, and the second is one entry.
STEP_BYTES, ENTRY_BYTES = 256, 8
# What is left of a hole is a hole again. As built, a tensor keeps up to as much more than it needs
# as it needs: all 17 blocks took 246 MB so, and 229 with this.
LEAST_LEFT_BYTES = STEP_BYTES
UNLIMITED, DOUBLE_EACH_TIME = 0, 0

# The runtimes of this process that have their region's size. The first caller says it.
_SHARING: set[ModuleType] = set()


def region_bytes(activations: int) -> int:
    """Return the size of a region for tensors of which `activations` bytes are alive at once."""
    if activations <= 0:
        return UNPLANNED_BYTES
    return min(TIMES_ALIVE * activations + LEAST_HOLES, LARGEST_BYTES)


def lists_bytes(region: int) -> int:
    """Return what the lists of a region of `region` bytes take."""
    return -(-region // STEP_BYTES) * ENTRY_BYTES


def share_arena(onnxruntime: ModuleType, activations: int) -> None:
    """Let all functions of this process take their tensors from one arena.

    They run in turn, so the arena grows to the largest need, `activations` bytes where it is
    planned, not to the sum. Without one every tensor comes from malloc, which either leaves holes
    (30 MB of them in one training run) or returns pages to the system and faults them in again
    (twice the time per picture).
    """
    if onnxruntime in _SHARING:
        return
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    growth = onnxruntime.OrtArenaCfg(
        UNLIMITED, DOUBLE_EACH_TIME, region_bytes(activations), LEAST_LEFT_BYTES
    )
    onnxruntime.create_and_register_allocator(place, growth)
    _SHARING.add(onnxruntime)
