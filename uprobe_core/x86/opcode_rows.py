"""Reads opcodes.txt: every line becomes a Row. The notation is explained at the head of that file."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

OPCODES = Path(__file__).with_name("opcodes.txt")

LEGACY_MAPS = {"": "MAP_ONE", "0F": "MAP_0F", "0F38": "MAP_0F38", "0F3A": "MAP_0F3A"}
VECTOR_MAPS = {
    "0F": "MAP_0F", "0F38": "MAP_0F38", "0F3A": "MAP_0F3A", "MAP4": "MAP_4", "MAP5": "MAP_5", "MAP6": "MAP_6",
    "MAP7": "MAP_7", "X8": "MAP_XOP8", "X9": "MAP_XOP9", "XA": "MAP_XOPA",
}  # fmt: skip
IMMEDIATES = {"ib", "iw", "iz", "iv", "id", "cb", "cz", "cp", "mo", "is4"}
GPR_NAMES = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
FLAG_LETTERS = "OSZAPCDITNX"

# The dimensions that select among the rows of one opcode, and the set of all values of each, as a bit mask.
UNIVERSE = {
    "mode": 3, "vendor": 3, "mod": 3, "reg": 0xFF, "rm": 0xFF, "pp": 0xF, "w": 3, "l": 0xF, "rexr": 3, "rexb": 3,
    "p66": 3, "nd": 3, "nf": 3, "rex2": 3, "apx": 3,
}  # fmt: skip
# Attributes that say where a row exists: a dimension, and its values there.
RESTRICTIONS = {
    "only64": ("mode", 1), "no64": ("mode", 2), "amd": ("vendor", 1), "intel": ("vendor", 2), "norex2": ("rex2", 1),
}  # fmt: skip
PREFIX_SETS = {"NP": 0b0001, "66": 0b0010, "F3": 0b0100, "F2": 0b1000, "NFx": 0b0011}
LENGTHS = {"LIG": 0xF, "LZ": 1, "L0": 1, "L1": 2, "128": 1, "256": 2, "512": 4}


class RowError(ValueError):
    """A line of opcodes.txt that does not follow its notation."""


@dataclass
class Operand:
    """One explicit operand that ModRM, vvvv, the opcode or an is4 byte names."""

    place: str  # R M V O S
    access: str
    text: str

    @property
    def plain(self) -> str:
        """The text without masks, rounding and broadcast."""
        return re.sub(r"\{.*?\}|/m\d+bcst", "", self.text)

    @property
    def registers(self) -> str:
        """The register part of the text: 'r', 'xmm', 'k' …, or '' for memory alone."""
        word = self.plain.split("+")[0].split("/")[0]
        if re.fullmatch(r"vm\d+\w|m\d*|m[vhqeyz]|m16:z|sibmem|mem", word):
            return ""
        return word

    @property
    def memory(self) -> str:
        """The memory part: 'm', 'm64', 'mv', 'vm32v', 'sibmem' …, or '' for a register alone."""
        if self.plain.startswith("r/m"):
            return self.plain[2:]
        parts = self.plain.split("/")
        if len(parts) > 1:
            return parts[1]
        return "" if self.registers else parts[0]

    @property
    def is_gpr(self) -> bool:
        """Whether the register form names a general register."""
        return bool(re.fullmatch(r"r(8|16|32|64|y|z|a)?", self.registers))

    @property
    def width(self) -> str:
        """Of a general register or memory operand: '8' '16' '32' '64' 'y' 'z' 'a', '' for the operand size."""
        if self.plain.startswith("r/m"):
            return self.plain[3:]
        return self.registers[1:] if self.is_gpr else self.memory.removeprefix("m")


@dataclass
class Row:
    """One encoding."""

    line: int
    encoding: str
    mnemonics: list[str]
    operands: list[Operand]
    implicit: dict[str, str]
    flags: dict[str, str]
    attributes: set[str]
    values: dict[str, str]
    reason: str
    signed: set[str] = field(default_factory=set)
    prefix: str = ""
    form: str = "ENC_LEGACY"
    map: str = "MAP_ONE"
    opcodes: list[int] = field(default_factory=list)
    immediates: list[str] = field(default_factory=list)
    has_modrm: bool = False
    opcode_register: bool = False
    apx: str = ""  # enum form_apx, without its prefix
    keys: dict[str, int] = field(default_factory=lambda: dict(UNIVERSE))

    def at(self, place: str) -> Operand | None:
        """The operand at a place, if any."""
        return next((operand for operand in self.operands if operand.place == place), None)


def parse_encoding(row: Row, text: str) -> None:
    """Fills map, opcodes, keys and immediates from the first column."""
    words = text.split()
    while words and (words[0] in {*PREFIX_SETS, "N66", "REX2"} or words[0].startswith("REX.")) and len(words) > 1:
        word = words.pop(0)
        if word in PREFIX_SETS:
            row.prefix = word
            row.keys["pp"] = PREFIX_SETS[word]
        elif word == "N66":
            row.keys["p66"] = 1
        elif word == "REX2":
            row.keys["rex2"] = 2
        elif word == "REX.W":
            row.keys["w"] = 2
        else:
            row.keys["rex" + word[4].lower()] = {"0": 1, "1": 2}[word[5]]
    if words[0].startswith(("VEX.", "EVEX.", "XOP.")):
        parse_vector_head(row, words.pop(0))
        row.opcodes = [int(words.pop(0), 16)]
    else:
        parse_legacy_opcode(row, words)
    for word in words:
        parse_tail(row, word)


def parse_vector_head(row: Row, head: str) -> None:
    """VEX.128/256.66.0F38.W0 and the like."""
    kind, length, *rest = head.split(".")
    row.form = f"ENC_{kind}"
    row.keys["l"] = 0
    for word in length.split("/"):
        row.keys["l"] |= LENGTHS[word]
    if kind == "EVEX":
        row.keys["l"] &= 7  # L'L = 11 is reserved, whether or not the length matters
    prefix = rest.pop(0) if rest[0] in PREFIX_SETS else "NP"
    row.keys["pp"] = PREFIX_SETS[prefix]
    row.map = VECTOR_MAPS[rest[0]]
    row.keys["w"] = {"W0": 1, "W1": 2, "WIG": 3}[rest[1]]
    if rest[2:]:
        parse_apx_head(row, rest[2:])


def parse_apx_head(row: Row, words: list[str]) -> None:
    """ND0 ND1 ND, NF0 NF1 NF: what an EVEX prefix of APX has at the places of b and aaa."""
    row.apx = "COND" if "scc" in row.attributes else "LEGACY" if row.map == "MAP_4" else "VEX"
    for word in words:
        row.keys[word[:2].lower()] = {"0": 1, "1": 2, "": 3}[word[2:]]
    if row.map != "MAP_4":
        row.keys["apx"] = 2  # map 4 is APX's alone


def parse_legacy_opcode(row: Row, words: list[str]) -> None:
    """Escape bytes, the opcode byte, and what its +r says."""
    if words[:3] == ["0F", "0F", "/r"]:
        row.form, row.map, row.has_modrm = "ENC_3DNOW", "MAP_3DNOW", True
        row.opcodes = [int(words[3], 16)]
        words.clear()
        return
    escape = ""
    if words[0] == "0F":
        escape = words.pop(0)
        if words[0] in {"38", "3A"} and len(words) > 1:
            escape += words.pop(0)
    row.map = LEGACY_MAPS[escape]
    opcode, _, register = words.pop(0).partition("+")
    first = int(opcode, 16)
    row.opcode_register = register == "r"
    row.opcodes = list(range(first, first + 8)) if row.opcode_register else [first]


def parse_tail(row: Row, word: str) -> None:
    """ModRM and immediates."""
    if word in IMMEDIATES:
        row.immediates.append(word)
        return
    row.has_modrm = True
    if word == "/r":
        return
    if re.fullmatch(r"/[0-7](-[0-7])?(,[0-7](-[0-7])?)*", word):
        row.keys["reg"] = 0
        for part in word[1:].split(","):
            low, _, high = part.partition("-")
            for value in range(int(low), int(high or low) + 1):
                row.keys["reg"] |= 1 << value
    elif fields := re.fullmatch(r"(!\(11\)|11):(rrr|[01]{3}):(bbb|[01]{3})", word):
        row.keys["mod"] = 2 if fields[1] == "11" else 1
        if fields[2] != "rrr":
            row.keys["reg"] = 1 << int(fields[2], 2)
        if fields[3] != "bbb":
            row.keys["rm"] = 1 << int(fields[3], 2)
    elif literal := re.fullmatch(r"([0-9A-F]{2})(\+i)?", word):
        modrm = int(literal[1], 16)
        row.keys["mod"] = 2
        row.keys["reg"] = 1 << (modrm >> 3 & 7)
        if not literal[2]:
            row.keys["rm"] = 1 << (modrm & 7)
    else:
        raise RowError(f"{word}: not a part of an encoding")


def parse_operands(row: Row, names: list[str], text: str) -> None:
    """Pairs the operands of the instruction with their places; the rest is implicit."""
    places = [word for word in text.split() if re.match(r"[RMVOS]:", word)]
    for word in text.split():
        if not re.match(r"[RMVOS]:", word):
            name, _, access = word.partition(":")
            row.implicit[name] = access
    fixed = re.compile(r"simm\w+|imm\w+|rel\w+|moffs\w*|ptr16:z|1|st(\(i\))?|al|ax|cl|dx|rAX|eAX|[c-g]s|ss|es")
    named = [name for name in names if not fixed.fullmatch(name)]
    if len(named) != len(places):
        raise RowError(f"{len(named)} operands need a place, {len(places)} are given")
    for name, word in zip(named, places, strict=True):
        place, _, access = word.partition(":")
        row.operands.append(Operand(place, access, name))


def narrow_modrm(row: Row) -> None:
    """An operand that is only memory, or only a register, excludes the other form of ModRM."""
    operand = row.at("M")
    if operand is None or "anymod" in row.attributes:
        return
    if not operand.memory:
        row.keys["mod"] &= 2
    elif not operand.registers:
        row.keys["mod"] &= 1


def parse_row(line: int, text: str) -> Row:
    """One line of the table."""
    columns = [column.strip() for column in text.split("|")]
    columns += [""] * (6 - len(columns))
    mnemonic, _, names = columns[1].partition(" ")
    words = columns[4].split()
    row = Row(
        line=line,
        encoding=columns[0],
        mnemonics=mnemonic.lower().split("/"),
        operands=[],
        implicit={},
        flags={},
        attributes={word for word in words if "=" not in word},
        values=dict(word.split("=") for word in words if "=" in word),
        reason=columns[5],
    )
    parse_encoding(row, columns[0])
    operands = [name.strip() for name in names.split(",")] if names else []
    row.signed = {name for name in operands if name.startswith("simm")}
    parse_operands(row, operands, columns[2])
    for word in columns[3].split():
        letters, _, access = word.partition(":")
        for letter in letters:
            if letter not in FLAG_LETTERS:
                raise RowError(f"{letter}: not a flag")
            row.flags[letter] = row.flags.get(letter, "") + access
    for word in row.attributes & RESTRICTIONS.keys():
        key, mask = RESTRICTIONS[word]
        row.keys[key] = mask
    narrow_modrm(row)
    return row


def read_rows(path: Path = OPCODES) -> Iterator[Row]:
    """Every row of the table, in order. RowError names the line that is wrong."""
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if not text.strip() or text.startswith("#"):
            continue
        try:
            yield parse_row(number, text)
        except (KeyError, ValueError, IndexError) as error:
            raise RowError(f"{path.name}:{number}: {error}: {text.strip()}") from error
