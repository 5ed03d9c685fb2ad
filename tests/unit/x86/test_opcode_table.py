"""opcodes.txt, its notation, and the tables made from it."""

import re
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[3] / "uprobe_core" / "x86"
sys.path.insert(0, str(CORE))  # the generator is a program, not a part of the package
import gen_tables  # noqa: E402
import opcode_rows  # noqa: E402

HEADER = (CORE / "opcode_tables.h").read_text()
ELEMENT_BYTES = {
    "opcode_tree": 4, "opcode_forms": 16, "opcode_effects": 3, "opcode_allow": 8, "opcode_implicit": 8,
    "opcode_flags": 12, "opcode_row_mnemonic": 2, "opcode_sixteens": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return list(opcode_rows.read_rows())


def test_the_header_is_what_the_table_says(rows):
    assert gen_tables.render(rows) == HEADER


def test_a_stale_header_is_noticed(monkeypatch, tmp_path, capsys):
    stale = tmp_path / "opcode_tables.h"
    stale.write_text(HEADER + "\n")
    monkeypatch.setattr(gen_tables, "HEADER", stale)
    monkeypatch.setattr(sys, "argv", ["gen_tables.py", "--check"])
    assert gen_tables.main() == 1
    assert "stale" in capsys.readouterr().err


def test_the_tables_are_smaller_than_64_kib():
    text = re.search(r"opcode_mnemonics\[\] =\n(.*?);", HEADER, re.DOTALL)[1]
    size = len(re.sub(r'\s|"', "", text).replace("\\0", "\0"))
    for name, width in ELEMENT_BYTES.items():
        body = re.search(rf"{name}\[\] = \{{\n(.*?)\n\}};", HEADER, re.DOTALL)[1]
        depth = elements = 0
        for character in re.sub(r"/\*.*?\*/", "", body):
            depth += character in "({"
            depth -= character in ")}"
            elements += character == "," and depth == 0
        size += elements * width
    assert 30_000 < size < 64 * 1024


def test_every_line_has_a_mnemonic_and_lies_in_a_map(rows):
    assert len(rows) > 2000
    for row in rows:
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in row.mnemonics), row.line
        assert row.opcodes, row.line


def test_a_refusal_has_its_reason_beside_it(rows):
    """Where single-stepping is not plain, or vendors differ, the line says why."""
    told = {"swallow", "shadow", "transaction", "trap", "tf_in", "tf_out", "syscall"}
    for row in rows:
        if row.values.get("step") in told or row.attributes & {"vendor", "vendor-w"}:
            assert row.reason or row.values.get("flow") == "iret", f"line {row.line}: {row.encoding}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("01 /r | ADD r/m, r | M:rw", "operands need a place"),
        ("01 /r | ADD r/m, r | M:rw R:r | QUX:w", "not a flag"),
        ("01 /q | ADD r/m, r | M:rw R:r", "not a part of an encoding"),
        ("VEX.129.0F.W0 01 /r | VADD vmm, vmm | R:w M:r", "129"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    table = tmp_path / "opcodes.txt"
    table.write_text(f"# nothing\n90 | NOP\n{line}\n")
    with pytest.raises(opcode_rows.RowError, match=said) as caught:
        list(opcode_rows.read_rows(table))
    assert "opcodes.txt:3" in str(caught.value)


def generate(tmp_path, text):
    table = tmp_path / "opcodes.txt"
    table.write_text(text)
    return gen_tables.render(list(opcode_rows.read_rows(table)))


def test_two_lines_for_the_same_bytes_are_an_error_unless_one_is_narrower(tmp_path):
    with pytest.raises(opcode_rows.RowError, match="lines 1, 2"):
        generate(tmp_path, "01 /r | ADD r/m, r | M:rw R:r\n01 /r | SUB r/m, r | M:rw R:r\n")
    text = generate(tmp_path, "01 /r | ADD r/m, r | M:rw R:r\n01 /3 | SUB r/m | M:rw\n")
    assert '"add\\0"' in text
    assert '"sub\\0"' in text


def test_an_unknown_attribute_is_an_error(tmp_path):
    with pytest.raises(opcode_rows.RowError, match="unknown attribute sparkling"):
        generate(tmp_path, "90 | NOP | | | sparkling\n")


def test_a_new_instruction_is_one_line(tmp_path):
    text = generate(tmp_path, "90 | NOP\nVEX.128/256.66.0F38.W0 F0 /r | VNEW vmm, vmm, vmm/mv | R:w V:r M:r\n")
    assert '"vnew\\0"' in text
    assert "[ENC_VEX][MAP_0F38]" in text
