"""Every exception is also the fitting builtin, carries data, and says place, fact, value and way out."""

import enum
import errno
import pickle

import pytest

from uprobes import errors


class Refusal(enum.IntEnum):
    INSIDE = 13


SAMPLES = [
    (errors.UprobeError("the fact", hint="the way out"), Exception),
    (errors.DecodeError("cannot decode 0f: the instruction goes on", code=b"\x0f", offset=1), ValueError),
    (errors.SpecError("libc:", 5, "no symbol"), ValueError),
    (errors.InvalidElf("/bin/x", "not an ELF file"), ValueError),
    (errors.SymbolNotFound("mallc", "libc.so.6", near=["malloc"]), LookupError),
    (errors.AmbiguousSymbol("init", ["a:0x10", "a:0x20"]), LookupError),
    (errors.ModuleNotFound("libz", pid=7, near=["libz.so.1"]), LookupError),
    (errors.TargetGone(7), ProcessLookupError),
    (errors.NotPermitted(7, "it belongs to uid 0", hint="run as root"), PermissionError),
    (errors.AlreadyTraced(7, 8, "gdb"), PermissionError),
    (errors.UnsupportedTarget(7, "32-bit code"), errors.UprobeError),
    (errors.ProbeRefused(Refusal.INSIDE, address=0x7F31, module="libc.so.6", symbol="f"), errors.UprobeError),
    (errors.NoRoom(4096, near=(0x1000, 0x2000)), MemoryError),
    (errors.JournalError("/run/uprobes/7-1.journal", "no space", hint="make room"), OSError),
    (errors.TracerLost(7, True), ProcessLookupError),
    (errors.MemoryFault(0x1000, 8, "read"), OSError),
    (errors.RemoteCallFailed(7, "mmap"), errors.UprobeError),
    (errors.SandboxError("the sandbox ended"), RuntimeError),
    (errors.PredicateError("arg0 >", 6, "a value is missing"), ValueError),
    (errors.FieldError("foo", "no such field"), ValueError),
    (errors.JournalError("/run/journal", "no space is left"), OSError),
]


@pytest.mark.parametrize(("error", "builtin"), SAMPLES, ids=lambda value: type(value).__name__)
class TestEveryError:
    def test_is_in_the_tree_and_a_builtin(self, error, builtin):
        assert isinstance(error, errors.UprobeError)
        assert isinstance(error, builtin)

    def test_survives_pickling_with_its_data(self, error, builtin):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)

    def test_hint_closes_the_message(self, error, builtin):
        if error.hint is None:
            assert "hint" not in str(error)
        else:
            assert str(error).endswith(f"; hint: {error.hint}")

    def test_message_starts_in_lower_case(self, error, builtin):
        assert str(error)[0].islower()
        assert not str(error).endswith(".")


def test_all_classes_are_sampled():
    def tree(kind):
        yield kind
        for child in kind.__subclasses__():
            yield from tree(child)

    ours = {kind for kind in tree(errors.UprobeError) if kind.__module__ == "uprobes.errors"}
    assert {type(error) for error, _ in SAMPLES} == ours


def test_refused_names_place_fact_and_hint():
    error = errors.ProbeRefused(
        Refusal.INSIDE,
        address=0x7F31000000C3,
        module="libc.so.6",
        symbol="memcpy",
        offset=3,
        fact="the address is inside the instruction at memcpy+0x0 (f3 0f 1e fa, 4 bytes)",
        hint="probe memcpy+0x0 or memcpy+0x4",
    )
    assert str(error) == (
        "cannot probe libc.so.6:memcpy+0x3 (0x7f31000000c3): the address is inside the instruction at "
        "memcpy+0x0 (f3 0f 1e fa, 4 bytes); hint: probe memcpy+0x0 or memcpy+0x4"
    )
    assert error.refusal is Refusal.INSIDE


def test_os_errors_have_their_errno():
    assert errors.TargetGone(1).errno == errno.ESRCH
    assert errors.NotPermitted(1, "no").errno == errno.EPERM
    assert errors.AlreadyTraced(1, 2).errno == errno.EPERM


def test_long_lists_are_cut_and_counted():
    error = errors.AmbiguousSymbol("f", [f"m:{n:#x}" for n in range(20)])
    assert len(error.candidates) == 20
    assert str(error).startswith("cannot probe f: 20 places")
    assert str(error).endswith("m:0x7 and 12 more")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (errors.SpecError("", 0, "empty"), 2),
        (errors.NotPermitted(1, "no"), 77),
        (errors.AlreadyTraced(1, 2), 77),
        (PermissionError("/x"), 77),
        (errors.TargetGone(1), 1),
        (errors.SymbolNotFound("f", None), 1),
        (RuntimeError("of a callback"), 1),
    ],
)
def test_exit_codes(error, code):
    assert errors.exit_code(error) == code
