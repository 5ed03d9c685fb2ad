"""Dynamic probes for running Linux processes: no root, no kernel feature, no agent, no recompile.

::

    with uprobes.attach(pid) as target:
        probe = target.probe("libc:malloc")
        target.run(timeout=1)
        print(probe.hits)

Everything below is imported when it is first used, so that ``import uprobes`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uprobes.batch import Batch as Batch
    from uprobes.batch import Record as Record
    from uprobes.errors import UprobeError as UprobeError
    from uprobes.histogram import Histogram as Histogram
    from uprobes.hit import Hit as Hit
    from uprobes.insn import Insn as Insn
    from uprobes.insn import decode as decode
    from uprobes.insn import decode_all as decode_all
    from uprobes.latency import Latency as Latency
    from uprobes.probe import Probe as Probe
    from uprobes.probe import Site as Site
    from uprobes.recording import Recording as Recording
    from uprobes.recovery import Recovery as Recovery
    from uprobes.recovery import recover as recover
    from uprobes.refusal import Refusal as Refusal
    from uprobes.spec import ProbeSpec as ProbeSpec
    from uprobes.target import Target as Target
    from uprobes.target import attach as attach
    from uprobes.target import spawn as spawn

__version__ = "0.1.0"

_HOMES = {
    "Batch": "batch",
    "Histogram": "histogram",
    "Hit": "hit",
    "Insn": "insn",
    "Latency": "latency",
    "Probe": "probe",
    "ProbeSpec": "spec",
    "Record": "batch",
    "Recording": "recording",
    "Refusal": "refusal",
    "Site": "probe",
    "Target": "target",
    "attach": "target",
    "decode": "insn",
    "decode_all": "insn",
    "recover": "recovery",
    "Recovery": "recovery",
    "spawn": "target",
}
_ERRORS = (
    "AlreadyTraced", "AmbiguousSymbol", "DecodeError", "FieldError", "InvalidElf", "JournalError", "MemoryFault",
    "ModuleNotFound", "NoRoom", "NotPermitted", "PredicateError", "ProbeRefused", "RemoteCallFailed", "SpecError",
    "SymbolNotFound", "TargetGone", "TracerLost", "UnsupportedTarget", "UprobeError",
)  # fmt: skip

__all__ = ["__version__", *_ERRORS, *_HOMES]


def __getattr__(name: str) -> object:
    """Import what is asked for."""
    home = "errors" if name in _ERRORS else _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'uprobes' has no attribute {name!r}")
    return getattr(import_module(f"uprobes.{home}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
