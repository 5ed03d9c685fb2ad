"""From a specification to addresses in a running process."""

import errno
import os
import subprocess
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest

import uprobes
from tests.victim import SOURCES, Victim
from uprobes.errors import AmbiguousSymbol, ModuleNotFound, ProbeRefused, SymbolNotFound
from uprobes.process import mapping_at, read_mappings, read_modules
from uprobes.refusal import Refusal
from uprobes.resolve import find_modules, resolve
from uprobes.spec import parse


def places(pid, text):
    return resolve(parse(text), read_modules(pid), pid)


def one(pid, text):
    (place,) = places(pid, text)
    return place


def line_of(words):
    """The number of the first line of the victim's source with `words`."""
    lines = (SOURCES / "hot.c").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if words in line)


@pytest.fixture
def hot(victim):
    return victim("hot")


class TestModuleNames:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("libc", ["libc.so.6"]),
            ("libc.so.6", ["libc.so.6"]),
            ("hot", ["hot"]),
            ("lib*", ["libc.so.6"]),
            ("ho?", ["hot"]),
            ("vdso", ["[vdso]"]),
            ("[[]vdso]", ["[vdso]"]),
            ("linux-vdso.so.1", ["[vdso]"]),
            ("ld-linux-x86-64", ["ld-linux-x86-64.so.2"]),
        ],
    )
    def test_by_name(self, hot, name, expected):
        found = find_modules(name, read_modules(hot.pid), hot.pid)
        assert [module.name for module in found] == expected

    def test_by_path(self, hot):
        modules = read_modules(hot.pid)
        (libc,) = find_modules("libc", modules, hot.pid)
        assert find_modules(libc.path, modules, hot.pid) == [libc]
        assert find_modules(f"{os.path.dirname(libc.path)}/libc*", modules, hot.pid) == [libc]

    def test_by_a_link_to_it(self, hot, tmp_path):
        modules = read_modules(hot.pid)
        (libc,) = find_modules("libc", modules, hot.pid)
        link = tmp_path / "link"
        link.symlink_to(libc.path)
        assert find_modules(str(link), modules, hot.pid) == [libc]

    def test_without_a_name_all_but_the_vdso(self, hot):
        modules = read_modules(hot.pid)
        found = find_modules(None, modules, hot.pid)
        assert [module.name for module in modules if module not in found] == ["[vdso]"]

    @pytest.mark.parametrize(
        ("name", "near"), [("libcc", "libc"), ("hott", "hot"), ("/usr/lib/libc.so", "libc"), ("zzz", None)]
    )
    def test_not_loaded(self, hot, name, near):
        with pytest.raises(ModuleNotFound, match=f"not loaded in process {hot.pid}") as caught:
            find_modules(name, read_modules(hot.pid), hot.pid)
        assert caught.value.near[:1] == ((near,) if near else ())
        assert "hot" in caught.value.hint or near


class TestPlaces:
    def test_a_function(self, hot):
        place = one(hot.pid, "hot:hot")
        mapping = mapping_at(read_mappings(hot.pid), place.vaddr)
        assert mapping.executable
        assert mapping.name == place.module
        assert (place.symbol, place.offset, place.start_vaddr) == ("hot", 0, place.vaddr)
        assert place.name == "hot:hot"
        assert place.location.symbol == "hot"

    def test_an_instruction(self, hot):
        entry = one(hot.pid, "hot:hot")
        place = one(hot.pid, "hot:hot+4")
        assert (place.vaddr, place.start_vaddr, place.offset) == (entry.vaddr + 4, entry.vaddr, 4)

    def test_the_files_own_address(self, hot):
        place = one(hot.pid, "hot:hot")
        assert one(hot.pid, f"hot:{place.location.vaddr:#x}") == place

    def test_an_address_of_the_process(self, hot):
        place = one(hot.pid, "hot:hot")
        assert one(hot.pid, hex(place.vaddr)) == place
        inside = one(hot.pid, hex(place.vaddr + 3))
        assert (inside.symbol, inside.offset, inside.start_vaddr) == ("hot", 3, place.vaddr)

    @pytest.mark.parametrize("address", ["0x10", "0xffffffffff600000", "0xffffffffffffffff"])
    def test_an_address_of_nothing_is_left_to_the_target_to_refuse(self, hot, address):
        place = one(hot.pid, address)
        assert (place.vaddr, place.module, place.start_vaddr) == (int(address, 16), None, None)

    def test_an_address_in_data_is_left_to_the_target_to_refuse(self, hot):
        stack = next(mapping for mapping in read_mappings(hot.pid) if mapping.name == "[stack]")
        assert one(hot.pid, hex(stack.start)).module is None

    def test_a_glob_over_modules(self, hot):
        found = places(hot.pid, "*:*main*")
        assert {"main", "__libc_start_main"} <= {place.symbol for place in found}
        vaddrs = [place.vaddr for place in found]
        assert vaddrs == sorted(set(vaddrs))

    def test_a_line(self, hot):
        found = places(hot.pid, f"hot.c:{line_of('return value')}")
        assert {place.symbol for place in found} == {"hot"}

    def test_the_kernels_own_when_named(self, hot):
        assert places(hot.pid, "vdso:__vdso_clock_gettime")
        with pytest.raises(SymbolNotFound):
            one(hot.pid, "__vdso_clock_gettime")


class TestWithoutAModule:
    def test_a_symbol_that_one_module_has(self, hot):
        assert one(hot.pid, "hot") == one(hot.pid, "hot:hot")

    def test_what_the_loader_has_too_is_the_others(self, hot):
        assert one(hot.pid, "_start").module.endswith("/hot")
        assert one(hot.pid, "ld-linux-x86-64:_start").symbol == "_start"

    def test_a_symbol_that_several_have(self, tmp_path):
        for name in ("libone", "libtwo"):
            command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(tmp_path / f"{name}.so")]
            subprocess.run(command, input="int in_both(void) { return 1; }", text=True, check=True)
        load = "; ".join(f"ctypes.CDLL({str(tmp_path / name)!r})" for name in ("libone.so", "libtwo.so"))
        with Victim(["python3", "-c", f"import ctypes; {load}; print('ready', flush=True); input()"]) as loaded:
            with pytest.raises(AmbiguousSymbol) as caught:
                one(loaded.pid, "in_both")
            assert set(caught.value.candidates) == {"libone.so:in_both", "libtwo.so:in_both"}
            assert [one(loaded.pid, text).symbol for text in caught.value.candidates] == ["in_both"] * 2
            assert len(places(loaded.pid, "in_bot[h]")) == 2

    def test_nowhere(self, hot):
        with pytest.raises(SymbolNotFound, match="no such function in any loaded module") as caught:
            one(hot.pid, "mallok")
        assert "malloc" in caught.value.near

    def test_a_line_that_only_one_file_could_have(self, hot):
        with pytest.raises(SymbolNotFound, match="no statement begins on that line"):
            one(hot.pid, f"hot.c:{line_of('#include') + 1}")

    def test_a_marker(self, hot):
        with pytest.raises(SymbolNotFound, match="no such marker in any loaded module"):
            one(hot.pid, "usdt:none:none")


class TestChosenFunctions:
    @pytest.mark.parametrize("options", [(), ("-static",), ("-Wl,-z,now",), ("-no-pie",)])
    def test_the_place_is_that_of_the_chosen_one(self, victim, options):
        chosen = victim("chosen", *options)
        with uprobes.attach(chosen.pid) as target:
            plain, named = target.probe("chosen:plain_chosen"), target.probe("chosen:chosen")
            other, copies = target.probe("chosen:other_chosen"), target.probe("memcpy")
            assert [site.address for site in named.sites] == [site.address for site in plain.sites]
            chosen.order(40)
            assert chosen.finish() == {"chosen": 40, "other": 2}
            assert (plain.hits, named.hits, other.hits) == (40, 40, 1)
            assert copies.hits >= 40

    def test_before_the_choice_it_is_refused(self):
        with uprobes.spawn(["true"]) as target, pytest.raises(SymbolNotFound, match="nobody has asked") as caught:
            target.probe(unasked(target))
        assert "hint: the function that chooses is libc.so.6:0x" in str(caught.value)

    def test_its_address_means_the_resolver(self, hot):
        (libc,) = find_modules("libc", read_modules(hot.pid), hot.pid)
        (resolver,) = libc.binary.functions.named("memcpy")
        assert one(hot.pid, f"libc:{resolver.vaddr:#x}").location.vaddr == resolver.vaddr


class TestReturns:
    """Every return is counted once, whichever way the function is left."""

    @pytest.fixture(params=["-O2", "-O0"])
    def returns(self, victim, request):
        return victim("returns", request.param)

    @pytest.mark.parametrize("mode", ["trap", "step"])
    def test_counts(self, returns, mode):
        with uprobes.attach(returns.pid) as target:
            names = ["one_return", "many_returns", "tail_call", "tail_call_by_pointer", "by_table"]
            names += ["with_cold_part", "with_cold_part_in_frame"]
            entries = {name: target.probe(f"returns:{name}", mode=mode) for name in names}
            leavings = {name: target.probe(f"uretprobe:returns:{name}", mode=mode) for name in names}
            returns.order(120)
            assert returns.finish()["calls"] == 120
            for name in names:
                assert leavings[name].hits == entries[name].hits >= 120, name

    def test_a_function_that_the_loader_chose(self, victim):
        chosen = victim("chosen")
        with uprobes.attach(chosen.pid) as target:
            probe = target.probe("uretprobe:chosen:chosen")
            assert {site.symbol for site in probe.sites} == {"plain_chosen"}
            chosen.order(30)
            chosen.finish()
            assert probe.hits == 30

    def test_by_address(self, hot):
        entry = one(hot.pid, "hot:hot")
        (leaving,) = places(hot.pid, f"uretprobe:{entry.vaddr:#x}")
        assert leaving == one(hot.pid, "uretprobe:hot:hot")
        assert leaving.location.exit == "return"


def unasked(target):
    """A chosen function of libc that the program does not use, if there is one."""
    (libc,) = find_modules("libc", target.modules, target.pid)
    for symbol in libc.binary.functions.matching("*"):
        if symbol.is_ifunc:
            try:
                resolve(parse(f"libc:{symbol.name}"), target.modules, target.pid)
            except SymbolNotFound:
                return f"libc:{symbol.name}"
    pytest.skip("the loader has chosen all functions of libc")
    return None


def test_no_descriptor_stays_open(hot):
    for text in ("hot", "libc:malloc", "*:*alloc*", f"hot.c:{line_of('return value')}", "memcpy"):
        places(hot.pid, text)
    with pytest.raises(SymbolNotFound):
        places(hot.pid, "mallok")
    opened = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    paths = {os.readlink(each) for each in opened if os.path.lexists(each)}
    assert not paths & {module.path for module in read_modules(hot.pid)}


class TestForbiddenPlaces:
    def test_a_restartable_sequence(self, victim):
        restartable = victim("restartable")
        with uprobes.attach(restartable.pid) as target:
            with pytest.raises(ProbeRefused) as caught:
                target.probe("restartable:sequence_start")
            assert caught.value.refusal is Refusal.RSEQ
            entry, after = target.probe("restartable:pass_sequence"), target.probe("restartable:sequence_end")
            restartable.order(20)
            assert restartable.finish() == {"passes": 20}
            assert (entry.hits, after.hits) == (20, 20)

    def test_the_signal_restorer(self, hot):
        with uprobes.attach(hot.pid) as target:
            (libc,) = find_modules("libc", target.modules, hot.pid)
            restorer = next(each for each in libc.binary.forbidden if each.refusal is Refusal.RESTORER)
            with pytest.raises(ProbeRefused, match="unwinders") as caught:
                target.probe(libc.address_of(restorer.start))
            assert caught.value.refusal is Refusal.RESTORER
            probe = target.probe([libc.address_of(restorer.start), "libc:malloc"])
            assert [site.refusal for site in probe.sites if site.symbol != "malloc"] == [Refusal.RESTORER]
            hot.order(10)
            assert hot.finish()["hot"] == 10


def test_many_threads_may_ask(hot):
    texts = ["hot", "libc:malloc", "*:*alloc*", "memcpy", "mallok", f"hot.c:{line_of('return value')}"]

    def ask(text):
        try:
            return places(hot.pid, text)
        except SymbolNotFound as error:
            return str(error)

    expected = {text: ask(text) for text in texts}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: (text, ask(text)), texts * 20))
    assert all(answer == expected[text] for text, answer in answers)


def test_a_file_that_changes_while_it_is_read_is_not_believed(victim, tmp_path, monkeypatch):
    one_victim = victim("hot")
    modules = read_modules(one_victim.pid)
    monkeypatch.setattr("uprobes.module._open_in", raise_stale)
    monkeypatch.setattr("uprobes.module._kept", OrderedDict())
    with pytest.raises(ModuleNotFound, match="its file cannot be read: Stale file handle"):
        resolve(parse("hot:hot"), modules, one_victim.pid)


def raise_stale(process, mapping):
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), mapping.name)
