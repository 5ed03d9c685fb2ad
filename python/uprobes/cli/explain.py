"""`uprobes explain`: from what the user says to the bytes that would be written, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from uprobe_core.x86.relocate import Plan, plan
from uprobes.cli.files import find_file
from uprobes.cli.options import MODES, json_option, pid_option
from uprobes.cli.output import print_note, print_object
from uprobes.cli.places import Found, Room, find_places
from uprobes.cli.survey import explain_all
from uprobes.errors import EXIT_FAILED, DecodeError
from uprobes.insn import Insn, decode
from uprobes.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

RIPS: Final = ("auto", "scratch", "segment", "displacement")
LIMIT: Final = 20  # places of one glob that are shown to people
PATCH: Final = b"\xcc"


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of one place, and what would be done there. `spec` is None for bare bytes."""

    spec: str | None
    found: Found | None
    address: int
    insn: Insn | None
    """None where no instruction is."""
    plan: Plan | None
    refusal: Refusal | None

    def lines(self) -> Iterator[tuple[str, str]]:
        """A label and what it says, in the order in which the stages decide."""
        insn = self.insn
        if self.found is not None:
            yield "place", self.found.describe()
        if insn is None:
            yield from self._describe_refusal()
            return
        facts = f"{len(insn.bytes)} {'byte' if len(insn.bytes) == 1 else 'bytes'}"
        target = f", refers to {insn.target:#x}" if insn.target is not None else ""
        yield "instruction", f"{insn.bytes.hex(' ')}  {insn.mnemonic}  ({facts}{target})"
        yield "effects", _effects(insn)
        if self.refusal is not None or self.plan is None:
            yield from self._describe_refusal()
            return
        yield "plan", self._describe_plan(self.plan)
        yield "slot", self._describe_slot(self.plan)
        yield "patch", f"{insn.bytes[:1].hex()} → {PATCH.hex()} at {insn.address:#x}"
        if self.found is not None and self.found.jump is not None:
            yield "jump", self.found.jump.describe(self.found.bias)

    def _describe_refusal(self) -> Iterator[tuple[str, str]]:
        if self.refusal is not None:
            yield "refused", self.refusal.sentence
            hint = self.found.hint if self.found and self.found.hint else self.refusal.hint
            if hint:
                yield "hint", hint

    def _describe_plan(self, made: Plan) -> str:
        stops = "two stops a hit" if made.kind_name.startswith("step") else "one stop a hit"
        rip = f"; rip-relative operand by {made.strategy}" if made.strategy != "none" else ""
        return f"{made.kind_name} ({stops}{rip})"

    def _describe_slot(self, made: Plan) -> str:
        if made.slot_ip is None:
            return "none: the tracer does it all" if made.place == "none" else "none: there is no room within reach"
        example = "" if self.found and self.found.pid else ", for example"
        return f"{made.slot.hex(' ')}  at {made.slot_ip:#x}{example}"

    def fields(self) -> dict[str, Any]:
        """The same for JSON."""
        insn, made = self.insn, self.plan
        return {
            "spec": self.spec,
            **(self.found.fields() if self.found else {}),
            "address": hex(self.address),
            "bytes": insn and insn.bytes.hex(),
            "mnemonic": insn and insn.mnemonic,
            "target": None if insn is None or insn.target is None else hex(insn.target),
            "reads": insn and sorted(insn.reads),
            "writes": insn and sorted(insn.writes),
            "refusal": self.refusal and self.refusal.name.lower(),
            "plan": made and made.kind_name,
            "strategy": made and made.strategy,
            "slot": made and made.slot.hex(),
            "slot_address": None if made is None or made.slot_ip is None else hex(made.slot_ip),
            "patch": None if made is None else PATCH.hex(),
            "jump": _jump_fields(self.found),
        }


def _jump_fields(found: Found | None) -> dict[str, Any] | None:
    """For JSON; null where no file is known."""
    if found is None or found.jump is None:
        return None
    jump = found.jump
    if jump.refusal:
        return {"refusal": jump.refusal.name.lower()}
    return {
        "refusal": None,
        "start": hex(jump.start + found.bias),
        "length": jump.length,
        "free_registers": list(jump.free_registers),
        "saves_flags": jump.saves_flags,
        "red_zone": jump.red_zone,
    }


def _effects(insn: Insn) -> str:
    reads = " ".join(sorted(insn.reads | {f"flag {name}" for name in insn.flags_read}))
    writes = " ".join(sorted(insn.writes | {f"flag {name}" for name in insn.flags_written}))
    memory = {(True, True): "; reads and writes memory", (True, False): "; reads memory"}.get(
        (insn.memory_read, insn.memory_written), "; writes memory" if insn.memory_written else ""
    )
    return f"reads {reads or 'no register'}; writes {writes or 'no register'}{memory}"


def explain_code(
    code: bytes, address: int, room: Room, mode: str, rip: str, *, shadow_stack: bool = False
) -> tuple[Insn, Plan]:
    """The instruction at the start of `code` and its plan; DecodeError where there is none."""
    insn = decode(code, address)
    made = plan(insn.bytes, address, mode=mode, rip=rip, shadow_stack=shadow_stack)
    if not made.refusal and made.place != "none":
        made = plan(insn.bytes, address, room.slot_vaddr(made.place, address, insn.target), mode=mode, rip=rip)
    return insn, made


def explain_place(spec: str, found: Found, mode: str, rip: str) -> Explanation:
    """The whole way for one place."""
    try:
        insn, made = explain_code(
            found.code, found.address, found.room, mode, rip, shadow_stack=found.shadow_stack
        )
    except DecodeError as error:
        short = error.offset >= len(found.code)
        reason = found.refusal or (Refusal.TRUNCATED if short else Refusal.UNDECODABLE)
        return Explanation(spec, found, found.address, None, None, reason)
    refusal = found.refusal or (Refusal(made.refusal) if made.refusal else None)
    return Explanation(spec, found, found.address, insn, None if refusal else made, refusal)


@click.command("explain")
@click.argument("specs", nargs=-1, metavar="SPEC…")
@pid_option
@click.option("--bytes", "code", metavar="HEX", help="Explain these bytes instead of a place.")
@click.option("--all", "module", metavar="MODULE", help="Count how every instruction of a file would be probed.")
@click.option("--at", "address", default="0x401000", show_default=True, metavar="ADDRESS", help="Where --bytes lie.")
@click.option("--mode", type=click.Choice(MODES), default="auto", show_default=True)
@click.option("--rip", type=click.Choice(RIPS), default="auto", show_default=True, help="For rip-relative operands.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    specs: tuple[str, ...],
    pid: int | None,
    code: str | None,
    module: str | None,
    address: str,
    mode: str,
    rip: str,
    as_json: bool,
) -> None:
    """Show how a place would be probed, or why it cannot be.

    Nothing is attached to and nothing is changed. Without -p the file is looked at, found as the dynamic linker
    finds it or by its path.

    \b
    uprobes explain libc:malloc+4
    uprobes explain -p 1234 'libsqlite3:sqlite3_step'
    uprobes explain --bytes '48 8b 05 10 20 00 00'
    uprobes explain --all libcrypto
    """
    if [bool(specs), code is not None, module is not None].count(True) != 1:
        raise click.UsageError("say what to explain: SPEC…, --bytes HEX, or --all MODULE", context)
    if module is not None:
        if pid is not None or rip != "auto":
            raise click.UsageError("--all looks at a file, in mode --mode; leave -p and --rip out", context)
        explain_all(find_file(module), mode, as_json)
        return
    if code is not None:
        explanations = [_explain_bytes(code, address, mode, rip)]
    else:
        explanations = [
            explain_place(spec, found, mode, rip) for spec in specs for found in find_places(spec, pid, mode)
        ]
    shown = explanations if as_json else explanations[:LIMIT]
    for explanation in shown:
        if as_json:
            print_object("explanation", **explanation.fields())
        else:
            _print(explanation)
    if len(shown) < len(explanations):
        print_note(f"uprobes: {len(explanations) - len(shown):,} more places; --json shows all")
    if all(explanation.refusal is not None for explanation in explanations):
        context.exit(EXIT_FAILED)


def _explain_bytes(text: str, address: str, mode: str, rip: str) -> Explanation:
    try:
        code = bytes.fromhex(text)
    except ValueError:
        raise click.UsageError(f"--bytes {text!r}: not hexadecimal bytes; hint: --bytes '48 89 e5'") from None
    try:
        vaddr = int(address, 0)
    except ValueError:
        raise click.UsageError(f"--at {address!r}: not an address; hint: --at 0x401000") from None
    insn, made = explain_code(code, vaddr, Room(vaddr + 0x10000), mode, rip)
    refusal = Refusal(made.refusal) if made.refusal else None
    return Explanation(None, None, vaddr, insn, None if refusal else made, refusal)


def _print(explanation: Explanation) -> None:
    if explanation.spec is not None and explanation.found is not None:
        click.echo(explanation.found.name)
    for label, text in explanation.lines():
        click.echo(f"  {label:<12} {text}")
