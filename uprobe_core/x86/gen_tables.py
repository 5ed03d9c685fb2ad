"""Makes opcode_tables.h from opcodes.txt: python gen_tables.py [--check].

With --check nothing is written; the exit code is 1 where the header is not what the table says.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from opcode_rows import FLAG_LETTERS, GPR_NAMES, OPCODES, UNIVERSE, Operand, Row, RowError, read_rows

HEADER = Path(__file__).with_name("opcode_tables.h")

EFLAGS = dict(zip(FLAG_LETTERS, (0x800, 0x80, 0x40, 0x10, 0x4, 0x1, 0x400, 0x200, 0x100, 0x4000, 0x40000), strict=True))
# Selector fields: name of the dimension, its shift macro, its number of values, whether ModRM must be fetched.
FIELDS = {
    "mod": ("SELECT_MOD", 2, True),
    "reg": ("SELECT_REG", 8, True),
    "rm": ("SELECT_RM", 8, True),
    "pp": ("SELECT_PP", 4, False),
    "w": ("SELECT_W", 2, False),
    "l": ("SELECT_L", 4, False),
    "rexb": ("SELECT_REXB", 2, False),
    "rexr": ("SELECT_REXR", 2, False),
    "vendor": ("SELECT_INTEL", 2, False),
    "p66": ("SELECT_66", 2, False),
    "mode": ("SELECT_32", 2, False),
    "nd": ("SELECT_ND", 2, False),
    "nf": ("SELECT_NF", 2, False),
    "rex2": ("SELECT_REX2", 2, False),
    "apx": ("SELECT_APX", 2, False),
}
FLAT = {("ENC_LEGACY", "MAP_ONE"), ("ENC_LEGACY", "MAP_0F")}  # the maps that are full, and looked up most
ALLOWABLE = ("mod", "pp", "w", "l")  # a leaf may restrict these by itself
SIZES = {
    "": "SIZE_V", "8": "SIZE_B", "16": "SIZE_W", "32": "SIZE_D", "64": "SIZE_Q", "80": "SIZE_T", "128": "SIZE_X",
    "256": "SIZE_YMM", "512": "SIZE_ZMM", "y": "SIZE_Y", "z": "SIZE_Z", "a": "SIZE_F64", "16:z": "SIZE_V",
    "v": "SIZE_L", "h": "SIZE_L", "q": "SIZE_L", "e": "SIZE_L",
}  # fmt: skip
SIZE_WORDS = {
    "b": "SIZE_B", "y": "SIZE_Y", "z": "SIZE_Z", "d64": "SIZE_D64", "f64": "SIZE_F64", "near": "SIZE_NEAR",
}
ATTRIBUTES = {
    "privileged": "INSN_PRIVILEGED", "io": "INSN_PRIVILEGED", "serialising": "INSN_SERIALISING",
    "address": "INSN_ADDRESS_ONLY", "segment": "INSN_SEGMENT_BASE", "x87": "INSN_X87", "vector": "INSN_VECTOR",
    "state": "INSN_EXTENDED_STATE", "vendor": "INSN_VENDOR", "undefined-length": "INSN_UNDEFINED_LENGTH",
    "stack": "INSN_STACK", "fault": "INSN_MAY_FAULT",
}  # fmt: skip
RULES = {
    "lock": "RULE_LOCK", "lock-amd": "RULE_LOCK_AMD", "rep": "RULE_REP", "anymod": "RULE_ANYMOD",
    "unique": "RULE_UNIQUE", "unique-dest": "RULE_UNIQUE_DEST", "vendor-w": "RULE_VENDOR_W",
    "fetches-two": "RULE_FETCHES_TWO",
}  # fmt: skip
IDIOMS = {"zero": "IDIOM_ZERO", "carry-only": "IDIOM_CARRY", "shift": "IDIOM_SHIFT"}
WORDS = {
    *SIZE_WORDS, *ATTRIBUTES, *RULES, *IDIOMS,
    "no64", "only64", "amd", "intel", "locked", "hint", "bitstring", "norex2", "scc",
}  # fmt: skip
IMMEDIATES = {
    "ib": "IMM_UB", "iw": "IMM_UW", "iz": "IMM_Z", "iv": "IMM_V", "id": "IMM_D", "iw ib": "IMM_ENTER", "cp": "IMM_FAR",
    "mo": "IMM_OFFSET", "cb": "IMM_REL8", "cz": "IMM_RELZ", "ib ib": "IMM_TWO", "is4": "IMM_UB", "": "IMM_NONE",
}  # fmt: skip
VECTOR_REGISTERS = re.compile(r"([xyzvhqe]mm|mm|tmm|k)(\+\d)?$")


def join(words: Iterable[str]) -> str:
    """Names of bits, as a C expression."""
    return " | ".join(sorted(set(words))) or "0"


def size_class(row: Row) -> str:
    """The operand size of a row: what an attribute says, else of its general register, else of its memory."""
    for word, name in SIZE_WORDS.items():
        if word in row.attributes:
            return name
    for operand in (*(o for o in row.operands if o.is_gpr), *(o for o in row.operands if o.memory)):
        width = operand.width
        return "SIZE_L" if width.startswith(("vm", "sib")) else SIZES[width]
    if any(re.fullmatch("r[A-D]X", name) for name in row.implicit):
        return "SIZE_V"
    for name in row.implicit:
        if name in {"al", "ah"}:
            return "SIZE_B"
        if name.startswith("eA"):
            return "SIZE_Z"
    return "SIZE_V" if row.form == "ENC_LEGACY" else "SIZE_L"


def slot_bits(operand: Operand | None, name: str) -> list[str]:
    """enum slot_bit of one place, shifted to it."""
    if operand is not None and operand.registers == "k":
        return [f"(uint32_t)SLOT_MASK << {name}"]
    if operand is None or not operand.is_gpr:
        return []
    bits = ["SLOT_GPR"]
    width = operand.width
    if width == "8":
        bits.append("SLOT_BYTE")
    if operand.access == "cmov":
        bits += ["SLOT_READ_32", "SLOT_WRITE"]
    else:
        bits += ["SLOT_READ"] if "r" in operand.access else []
        bits += ["SLOT_WRITE"] if "w" in operand.access else []
    if operand.access == "w" and name == "SLOT_VVVV":
        bits.append("SLOT_KILL")  # zero-extended whatever its size, as VEX and APX's new data destinations are
    elif operand.access == "w" and width not in {"8", "16"}:
        bits.append("SLOT_KILL_V" if width in {"", "z"} else "SLOT_KILL")
    named = [f"SLOT_NAMES_{name[5:]}{'_BYTE' if width == '8' else ''}"] if name != "SLOT_VVVV" else []
    return [*(f"(uint32_t){bit} << {name}" for bit in bits), *named]


def implicit_masks(row: Row) -> tuple[int, int, int, int]:
    """Reads, writes, kills, kills at 32 bits and more."""
    reads = writes = kills = kills_v = 0
    implicit = {name: access for name, access in row.implicit.items() if name != "mem"}
    if "stack" in row.attributes and "rsp" not in implicit:
        implicit["rsp"] = "rw"
    for name, access in implicit.items():
        number, width = register_number(name)
        reads |= ("r" in access) << number
        writes |= ("w" in access) << number
        if access == "w":
            kills |= (width == "fixed") << number
            kills_v |= (width == "operand") << number
    return reads, writes, kills, kills_v


def register_number(name: str) -> tuple[int, str]:
    """Number of an implicit register and how wide it is: 'fixed' (32 or 64 bits), 'operand' (by size) or 'part'."""
    if extended := re.fullmatch(r"r(\d+)", name):
        return int(extended[1]), "fixed"
    if name in {"al", "ah", "cl"}:
        return "ac".index(name[0]), "part"
    if name[0] in "er" and name[1:] in GPR_NAMES:
        return GPR_NAMES.index(name[1:]), "fixed"
    if name[0] in "era" and name[1:].lower() in GPR_NAMES and name[1:].isupper():
        return GPR_NAMES.index(name[1:].lower()), "part" if name[0] == "a" else "operand"
    return GPR_NAMES.index(name), "part"


def flag_masks(row: Row) -> tuple[int, int, int]:
    """Read, written, undefined. What is left undefined counts as written."""
    masks = [0, 0, 0]
    for letter, access in row.flags.items():
        for index, kinds in enumerate(("r", "wu", "u")):
            if any(kind in access for kind in kinds):
                masks[index] |= EFLAGS[letter]
    return masks[0], masks[1], masks[2]


def form_attributes(row: Row) -> str:
    """enum insn_attr that hold for every instance of the row."""
    bits = [ATTRIBUTES[word] for word in row.attributes if word in ATTRIBUTES]
    general = bool(row.operands) and all(operand.is_gpr for operand in row.operands)
    vector = any(VECTOR_REGISTERS.match(operand.registers) for operand in row.operands)
    if vector or (row.form != "ENC_LEGACY" and not general):
        bits.append("INSN_VECTOR")
    memory = row.implicit.get("mem", "")
    bits += ["INSN_MEM_READ"] if "r" in memory else []
    bits += ["INSN_MEM_WRITE"] if "w" in memory else []
    if memory or row.attributes & {"privileged", "io", "stack"}:
        bits.append("INSN_MAY_FAULT")
    return join(bits)


def form_rules(row: Row) -> str:
    """enum form_rule."""
    bits = [RULES[word] for word in row.attributes if word in RULES]
    names = "".join(operand.text for operand in row.operands)
    rm = row.at("M")
    tests = {
        "RULE_MANDATORY": row.prefix in {"66", "F2", "F3"},
        "RULE_VVVV": row.at("V") is not None,
        "RULE_VSIB": rm is not None and rm.memory.startswith("vm"),
        "RULE_SIB": rm is not None and rm.memory == "sibmem",
        "RULE_MASK": "{k" in names,
        "RULE_MASK_REQUIRED": "{k!}" in names,
        "RULE_ZEROING": "{z}" in names,
        "RULE_TILE": "tmm" in names,
    }
    return join([*bits, *(name for name, holds in tests.items() if holds)])


def form_memory(row: Row) -> str:
    """enum form_memory and enum form_apx: what happens to the operand in memory."""
    operand = row.at("M")
    bits = [f"APX_{row.apx}"] if row.apx else []
    bits += ["APX_NF"] if row.apx in {"LEGACY", "VEX"} and row.keys["nf"] == UNIVERSE["nf"] else []
    if operand is not None and operand.memory:
        bits += ["MEMORY_READ"] if "r" in operand.access else []
        bits += ["MEMORY_WRITE"] if "w" in operand.access else []
        bits += ["MEMORY_LOCKED"] if "locked" in row.attributes else []
    return join(bits)


def form_evex(row: Row) -> str:
    """EVEX_FORM: scale of disp8, broadcast, rounding."""
    operand = row.at("M")
    if row.form != "ENC_EVEX" or operand is None or row.apx:
        return "0"
    names = "".join(o.text for o in row.operands)
    memory = operand.memory.removeprefix("m")
    if "N" in row.values:
        scale, by_length = int(row.values["N"]).bit_length() - 1, 0
    elif memory in {"v", "h", "q", "e"}:
        scale, by_length = 4 - "vhqe".index(memory), 1
    elif memory == "y":
        scale, by_length = 7, 0
    else:
        scale, by_length = (int(memory) // 8).bit_length() - 1 if memory else 0, 0
    element = re.search(r"/m(\d+)bcst", names)
    broadcast = int(element[1]).bit_length() - 4 if element else 0
    rounding = "ROUNDING_ER" if "{er}" in names else "ROUNDING_SAE" if "{sae}" in names else "ROUNDING_NONE"
    return f"EVEX_FORM({scale}, {by_length}, {broadcast}, {rounding})"


def immediate_kind(row: Row) -> str:
    """enum imm_kind."""
    kind = IMMEDIATES[" ".join(row.immediates)]
    if kind == "IMM_RELZ" and "near" in row.attributes:
        return "IMM_NEAR"
    return "IMM_SB" if kind == "IMM_UB" and "simm8" in row.signed else kind


class Pool:
    """Distinct values, numbered in the order in which they came."""

    def __init__(self) -> None:
        """No values yet."""
        self.values: list = []
        self.numbers: dict = {}

    def add(self, value: object) -> int:
        """The number of a value."""
        if value not in self.numbers:
            self.numbers[value] = len(self.values)
            self.values.append(value)
        return self.numbers[value]


class Tables:
    """Everything that goes into the header."""

    def __init__(self, rows: list[Row]) -> None:
        """Nothing is built yet."""
        self.rows = rows
        self.tree: list[str] = ["ENTRY_NONE"]  # offset 0 is no node: NO_ROOT
        self.nodes: dict[tuple[str, ...], int] = {}
        self.places: dict[str, list[int]] = {"ENTRY_NONE": [0]}
        self.forms, self.allows, self.implicits, self.flags = Pool(), Pool(), Pool(), Pool()
        self.roots: dict[tuple[str, str, int], int] = {}
        self.sixteens: list[int] = [0]  # of the sparse maps: where the entries of each 16 opcodes begin
        self.allows.add(0)
        self.allow_all = self.allows.add((1 << 64) - 1)
        self.implicits.add((0, 0, 0, 0))
        self.flags.add((0, 0, 0))

    def build(self) -> None:
        """Fills the tree, map by map."""
        maps = sorted({(row.form, row.map) for row in self.rows})
        for form, name in maps:
            by_opcode: dict[int, list[int]] = {}
            for index, row in enumerate(self.rows):
                if (row.form, row.map) == (form, name):
                    for opcode in row.opcodes:
                        by_opcode.setdefault(opcode, []).append(index)
            for mode in (1, 2) if name == "MAP_ONE" else (3,):
                box = tuple({**UNIVERSE, "mode": mode}.items())
                entries = [self.entry(tuple(by_opcode.get(opcode, ())), box) for opcode in range(256)]
                if (form, name) in FLAT:
                    self.roots[form, name, mode] = self.place(tuple(entries))
                else:
                    self.roots[form, name, mode] = len(self.sixteens)
                    self.sixteens += [self.place(tuple(entries[high : high + 16])) for high in range(0, 256, 16)]

    def roots_text(self) -> str:
        """Where the 256 entries of each map begin. The one-byte map differs much between the modes: it has two."""
        one = " : ".join(str(self.roots["ENC_LEGACY", "MAP_ONE", mode]) for mode in (2, 1))
        maps = [
            f"    [{'ENC_REX2' if name == 'MAP_4' else form}][{name}] = {at},"  # map 4 is there for APX alone
            for (form, name, _), at in self.roots.items()
            if (form, name) not in FLAT
        ]
        return "\n".join(
            [
                f"#define ROOT_ONE(mode_32) ((mode_32) ? {one})",
                f"#define ROOT_0F {self.roots.get(('ENC_LEGACY', 'MAP_0F', UNIVERSE['mode']), 0)}",
                "#define NO_ROOT 0",
                "static const uint16_t opcode_roots[6][16] = {",
                *maps,
                "};",
                "#define OPCODE_ROOT(encoding, map) opcode_roots[encoding][map] /* in opcode_sixteens */\n",
            ]
        )

    def place(self, entries: tuple[str, ...]) -> int:
        """Offset of these entries in the tree. Where they occur already they are not repeated."""
        if entries not in self.nodes:
            offset = self.overlap(entries)
            for index in range(len(self.tree), offset + len(entries)):
                entry = entries[index - offset]
                self.places.setdefault(entry, []).append(index)
                self.tree.append(entry)
            self.nodes[entries] = offset
        return self.nodes[entries]

    def overlap(self, entries: tuple[str, ...]) -> int:
        """The first offset at which the tree agrees with these entries as far as it goes, past its start."""
        for offset in self.places.get(entries[0], ()):
            if offset and tuple(self.tree[offset : offset + len(entries)]) == entries[: len(self.tree) - offset]:
                return offset
        return len(self.tree)

    def plan(self, indices: tuple[int, ...], box: tuple[tuple[str, int], ...]) -> tuple[int, str | int | None]:
        """Cost in entries of resolving these rows in this box; the dimension to split on, or the row that remains."""
        return self._plan(indices, box)

    @cache  # noqa: B019 (one Tables lives as long as the program)
    def _plan(self, indices: tuple[int, ...], box: tuple[tuple[str, int], ...]) -> tuple[int, str | int | None]:
        space = dict(box)
        live = [i for i in indices if all(self.rows[i].keys[d] & space[d] for d in space)]
        if not live:
            return 0, None
        whole = [i for i in live if all(self.rows[i].keys[d] & space[d] == space[d] for d in space)]
        for index in whole:
            if all(narrower(self.rows[index], self.rows[other]) for other in live if other != index):
                return 0, index
        if len(live) == 1 and all(
            self.rows[live[0]].keys[d] & space[d] == space[d] for d in space if d not in ALLOWABLE
        ):
            return 0, live[0]
        best: tuple[int, str | int | None] = (1 << 30, None)
        for dimension, (_, count, _) in FIELDS.items():
            if not any(self.rows[i].keys[dimension] & space[dimension] != space[dimension] for i in live):
                continue
            cost = count
            for value in range(count):
                if space[dimension] >> value & 1:
                    cost += self._plan(tuple(live), tuple({**space, dimension: 1 << value}.items()))[0]
            if cost < best[0]:
                best = cost, dimension
        if best[1] is None:
            lines = ", ".join(str(self.rows[i].line) for i in live)
            raise RowError(f"lines {lines} of {OPCODES.name} match the same bytes, and none is the narrower")
        return best

    def entry(self, indices: tuple[int, ...], box: tuple[tuple[str, int], ...]) -> str:
        """The C text of one entry."""
        _, choice = self.plan(indices, box)
        if choice is None:
            return "ENTRY_NONE"
        if isinstance(choice, int):
            return self.leaf(choice, dict(box))
        shift, count, modrm = FIELDS[choice]
        space = dict(box)
        boxes = (tuple({**space, choice: space[choice] & 1 << value}.items()) for value in range(count))
        entries = tuple(self.entry(indices, part) for part in boxes)
        offset = self.place(entries)
        return f"NODE({offset}, {shift}, {count - 1})" + (" | ENTRY_MODRM" if modrm else "")

    def leaf(self, index: int, space: dict[str, int]) -> str:
        """A leaf: the row, its form, whether there is a ModRM byte, and the immediate."""
        row = self.rows[index]
        allow = self.allow(row, space)
        form = self.forms.add(self.form(row, allow))
        checked = allow != self.allow_all or row.attributes & {"anymod", "vendor-w"}
        bits = (" | ENTRY_MODRM" if row.has_modrm else "") + (" | ENTRY_CHECKED" if checked else "")
        return f"LEAF({index + 1}, {form + 1}, {immediate_kind(row)}){bits}"

    def allow(self, row: Row, space: dict[str, int]) -> int:
        """Number of the set of (mod, pp, W, L) that the row accepts and the path to it has not settled."""
        mask = 0
        for key in range(64):
            values = {"mod": key & 1, "pp": key >> 1 & 3, "l": key >> 3 & 3, "w": key >> 5 & 1}
            if all(row.keys[d] >> v & 1 or row.keys[d] & space[d] == space[d] for d, v in values.items()):
                mask |= 1 << key
        return self.allows.add(mask)

    def form(self, row: Row, allow: int) -> tuple[str, str]:
        """The C initializers of the row's form and of its effects."""
        unknown = row.attributes - WORDS
        if unknown:
            raise RowError(f"{OPCODES.name}:{row.line}: unknown attribute {', '.join(sorted(unknown))}")
        flow = f"FLOW_{row.values.get('flow', 'next').upper()}"
        faults = row.attributes & {"privileged", "io"}
        step = f"STEP_{row.values.get('step', 'fault' if faults else 'plain').upper()}"
        slots = [
            *slot_bits(row.at("R"), "SLOT_REG"),
            *slot_bits(row.at("M") or row.at("O"), "SLOT_RM"),
            *slot_bits(row.at("V"), "SLOT_VVVV"),
        ]
        idioms = [IDIOMS[word] for word in row.attributes if word in IDIOMS]
        idioms += ["IDIOM_IGNORED"] if any(operand.access == "-" for operand in row.operands) else []
        idiom = "IDIOM_NAME" if row.values.get("name") == "address" else next(iter(idioms), "IDIOM_NONE")
        implicit = self.implicits.add(implicit_masks(row))
        flags = self.flags.add(flag_masks(row))
        fixed = form_attributes(row), join(slots), form_rules(row), flow, step, size_class(row), form_memory(row)
        return "{" + ", ".join([*fixed, str(allow), form_evex(row)]) + "}", f"{{{implicit}, {flags}, {idiom}}}"


def narrower(row: Row, other: Row) -> bool:
    """Whether a row's constraints are within another's and stricter."""
    within = all(row.keys[d] & other.keys[d] == row.keys[d] for d in UNIVERSE)
    return within and row.keys != other.keys


def mnemonics(rows: list[Row]) -> tuple[list[str], list[str]]:
    """C text of each row's names (where the first begins, how many follow it), and all names, in order.

    A name that ends a longer one shares its bytes, unless it is one of several.
    """
    several = sorted({tuple(row.mnemonics) for row in rows if len(row.mnemonics) > 1})
    single = {row.mnemonics[0] for row in rows if len(row.mnemonics) == 1}
    kept: list[str] = []
    places: dict[tuple[str, ...], int] = {}
    size = 0
    for names in [*several, *((name,) for name in sorted(single, key=lambda name: (-len(name), name)))]:
        if names not in places:
            places[names] = size
            for name in names:
                for start in range(len(name)):
                    places.setdefault((name[start:],), size + start)
                kept.append(name)
                size += len(name) + 1
    return [f"MNEMONIC({places[tuple(row.mnemonics)]}, {len(row.mnemonics) - 1})" for row in rows], kept


def braced(numbers: Iterable[int]) -> str:
    """A struct of numbers."""
    return "{" + ", ".join(map(hex, numbers)) + "}"


def array(kind: str, name: str, values: Iterable[object]) -> str:
    """A static const array of C initializers, several to a line."""
    lines = [f"static const {kind} {name}[] = {{"]
    line = "   "
    for value in values:
        word = f" {value},"
        if len(line) + len(word) > 118:
            lines.append(line)
            line = "   "
        line += word
    return "\n".join([*lines, line, "};\n"])


def render(rows: list[Row]) -> str:
    """The whole header."""
    tables = Tables(rows)
    tables.build()
    by_row, names = mnemonics(rows)
    text = "\n".join(f'    "{name}\\0"' for name in names)
    parts = [
        "/* Generated by gen_tables.py from opcodes.txt. Do not edit. */",
        "#ifndef UPROBES_OPCODE_TABLES_H\n#define UPROBES_OPCODE_TABLES_H\n",
        '#include "opcode_form.h"\n',
        tables.roots_text(),
        array("uint16_t", "opcode_sixteens", tables.sixteens),
        array("uint32_t", "opcode_tree", tables.tree),
        array("opcode_form_t", "opcode_forms", ["{0} /* allow 0: nothing */", *(f for f, _ in tables.forms.values)]),
        array("opcode_effects_t", "opcode_effects", ["{0}", *(effects for _, effects in tables.forms.values)]),
        array("uint64_t", "opcode_allow", [f"{value:#x}ull" for value in tables.allows.values]),
        array("opcode_implicit_t", "opcode_implicit", map(braced, tables.implicits.values)),
        array("opcode_flags_t", "opcode_flags", map(braced, tables.flags.values)),
        array("uint16_t", "opcode_row_mnemonic", ["0", *by_row]),
        f"static const char opcode_mnemonics[] =\n{text};\n",
        "#endif\n",
    ]
    return "\n".join(parts)


def main() -> int:
    """Write the header, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the header is stale")
    arguments = parser.parse_args()
    text = render(list(read_rows()))
    if not arguments.check:
        HEADER.write_text(text)
    elif not HEADER.exists() or HEADER.read_text() != text:
        print(f"{HEADER}: stale; run {Path(__file__).name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
