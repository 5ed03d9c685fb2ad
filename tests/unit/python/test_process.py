"""What is read of running processes: mappings, modules and files, also of those whose files are gone."""

import dataclasses
import os
import shutil
import subprocess

import pytest

from tests.victim import Victim
from uprobes import mapped_file, process
from uprobes.errors import NotPermitted, TargetGone
from uprobes.mapped_file import open_mapped_file, read_memory
from uprobes.procfs import ProcDirectory


@pytest.fixture
def hot(victim):
    return victim("hot")


@pytest.fixture
def start(tmp_path_factory):
    """Starts a copy of a program, that the test may remove or replace."""
    started = []

    def run(program, user=None):
        directory = tmp_path_factory.mktemp("copies")
        directory.chmod(0o755)
        for parent in directory.parents[:3]:
            parent.chmod(0o755)
        copy = directory / "copy"
        shutil.copy(program, copy)
        started.append(Victim(copy, user=user))
        return started[-1], copy

    yield run
    for one in started:
        one.kill()


@pytest.fixture
def without_map_files(monkeypatch):
    """As for an ordinary user, whom the kernel does not let open what a mapping shows."""
    opens = ProcDirectory.open

    def refuse(self, name, flags=os.O_RDONLY):
        if name.startswith("map_files"):
            raise PermissionError(1, "not permitted", name)
        return opens(self, name, flags)

    monkeypatch.setattr(ProcDirectory, "open", refuse)


def program_of(pid):
    return next(module for module in process.read_modules(pid) if ".so" not in module.name and module.path[0] == "/")


def opened(path):
    """Our descriptors of a file."""
    descriptors = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return [each for each in descriptors if os.path.lexists(each) and os.readlink(each) == path]


class TestModules:
    def test_program_loader_libraries_and_the_kernels_own(self, hot):
        modules = process.read_modules(hot.pid)
        names = [module.name for module in modules]
        assert names[0] == "hot"
        assert {"libc.so.6", "ld-linux-x86-64.so.2", "[vdso]"} <= set(names)
        starts = [module.mappings[0].start for module in modules]
        assert starts == sorted(starts)

    @pytest.mark.parametrize("options", [(), ("-no-pie",), ("-static",), ("-static-pie",)])
    def test_addresses(self, victim, options):
        one = victim("hot", *options)
        module = program_of(one.pid)
        (symbol,) = module.binary.functions.named("hot")
        address = module.address_of(symbol.vaddr)
        assert address in module
        assert module.vaddr_of(address) == symbol.vaddr
        with ProcDirectory(one.pid) as directory:
            assert read_memory(directory, address, 16) == module.binary.elf.read(symbol.vaddr, 16)
        assert (module.bias == 0) == (options in (("-no-pie",), ("-static",)))

    def test_the_vdso_is_read_from_memory(self, hot):
        (vdso,) = [module for module in process.read_modules(hot.pid) if module.name == "[vdso]"]
        assert vdso.soname == "linux-vdso.so.1"
        assert vdso.binary.functions.named("__vdso_clock_gettime")

    def test_symbols_are_kept_between_questions_but_no_descriptor(self, hot):
        module = program_of(hot.pid)
        module.binary.functions.named("hot")
        assert opened(module.path)
        module.close()
        assert program_of(hot.pid).binary is module.binary
        assert not opened(module.path)

    def test_symbols_outlive_the_process_that_they_were_read_by(self, builder, hot):
        other = Victim(builder.build("hot"))
        kept = program_of(other.pid).binary
        kept.close()
        other.kill()
        module = program_of(hot.pid)
        assert module.binary is kept
        assert module.binary.elf.build_id

    def test_the_entry_point(self, hot):
        module = program_of(hot.pid)
        assert process.entry_vaddr(hot.pid) == module.address_of(module.binary.elf.entry_vaddr)

    def test_a_process_whose_first_thread_ended(self, victim):
        one = victim("leaderless")
        assert process.read_mappings(one.pid)
        assert program_of(one.pid).name == "leaderless"


class TestFiles:
    def test_an_image_is_that_of_the_file(self, hot):
        for mapping in process.read_mappings(hot.pid):
            if mapping.executable and mapping.is_file:
                with open(mapping.name, "rb") as file:
                    file.seek(mapping.offset)
                    expected = file.read(mapping.size)
                image = process.read_image(hot.pid, mapping)
                assert bytes(image) == expected.ljust(mapping.size, b"\0")

    def test_an_image_without_a_file_is_memory(self, hot):
        (stack,) = [mapping for mapping in process.read_mappings(hot.pid) if mapping.name == "[stack]"]
        assert any(process.read_image(hot.pid, stack))

    def test_the_file_is_found_by_its_path(self, hot, without_map_files):
        module = program_of(hot.pid)
        assert module.identity is not None
        assert module.identity.inode == module.mappings[0].inode

    @pytest.mark.parametrize("way", ["map_files", "path"])
    def test_a_removed_program(self, builder, start, request, way):
        one, copy = start(builder.build("hot"))
        copy.unlink()
        if way == "path":
            request.getfixturevalue("without_map_files")
        module = program_of(one.pid)
        assert (module.path, module.deleted) == (str(copy), True)
        assert module.identity is not None  # /proc/PID/exe still leads to it
        assert module.binary.functions.named("hot")

    def test_a_replaced_program(self, builder, start, without_map_files):
        one, copy = start(builder.build("hot"))
        copy.unlink()
        shutil.copy(builder.build("spin"), copy)
        module = program_of(one.pid)
        assert module.binary.functions.named("hot")
        assert not module.binary.functions.named("spin")

    def test_a_removed_library_is_put_together_from_memory(self, build_library, without_map_files):
        one, path = build_library()
        path.unlink()
        module = next(module for module in process.read_modules(one.pid) if module.path == str(path))
        assert (module.deleted, module.identity) == (True, None)
        (symbol,) = module.binary.functions.named("in_library")
        extent = module.binary.functions.extent_at(symbol.vaddr + 1)
        assert extent.start == symbol.vaddr
        assert module.binary.elf.build_id
        with ProcDirectory(one.pid) as directory:
            address = module.address_of(symbol.vaddr)
            assert read_memory(directory, address, 8) == module.binary.elf.read(symbol.vaddr, 8)

    def test_a_replaced_library_is_not_mixed_with_the_new_one(self, build_library, without_map_files):
        one, path = build_library()
        path.unlink()
        make_library(path, "in_new_library")
        module = next(module for module in process.read_modules(one.pid) if module.path == str(path))
        assert module.binary.functions.named("in_library")
        assert not module.binary.functions.named("in_new_library")

    def test_device_numbers_may_differ_where_the_first_page_is_the_same(self, hot, without_map_files, monkeypatch):
        mapping = program_of(hot.pid).mappings[0]
        real = os.fstat

        def other_device(descriptor):
            found = real(descriptor)
            return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]))

        monkeypatch.setattr(mapped_file.os, "fstat", other_device)
        with ProcDirectory(hot.pid) as directory:
            descriptor = open_mapped_file(directory, mapping)
        assert descriptor is not None
        os.close(descriptor)

    @pytest.mark.parametrize("mapped", ["/dev/zero", "/dev/null"])
    def test_devices_are_never_opened(self, hot, mapped, monkeypatch):
        mapping = dataclasses.replace(program_of(hot.pid).mappings[0], name=mapped)
        opened = []
        real = ProcDirectory.open

        def note(self, name, flags=os.O_RDONLY):
            opened.append(name)
            return real(self, name, flags)

        monkeypatch.setattr(ProcDirectory, "open", note)
        monkeypatch.setattr(ProcDirectory, "stat", lambda self, name: os.stat(mapped))
        with ProcDirectory(hot.pid) as directory:
            opened.clear()
            assert open_mapped_file(directory, mapping) is None
        assert opened == []

    @pytest.mark.root
    def test_a_program_that_only_its_mount_namespace_has(self, builder, tmp_path, without_map_files):
        if os.geteuid():
            pytest.skip("needs root to mount a file system")
        copy = f"cp {builder.build('hot')} {tmp_path}/inside && exec {tmp_path}/inside"
        script = f"mount -t tmpfs none {tmp_path} && {copy}"
        with Victim(["unshare", "--mount", "sh", "-c", script]) as one:
            assert not (tmp_path / "inside").exists()
            module = program_of(one.pid)
            assert module.identity is not None
            assert module.binary.functions.named("hot")

    def test_an_ordinary_user(self, builder, as_user, start):
        one, copy = start(builder.build("hot"), user="nobody" if os.geteuid() == 0 else None)

        def ask():
            module = program_of(one.pid)
            return module.identity is not None, bool(module.binary.functions.named("hot"))

        assert as_user(ask) == (True, True)
        copy.unlink()
        assert as_user(ask) == (True, True)


def make_library(path, function):
    source = f"int {function}(int x) {{ return x + 1; }}"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", path]
    subprocess.run(command, input=source, text=True, check=True)


@pytest.fixture
def build_library(tmp_path):
    """Starts a process that has loaded a library of its own: (victim, path)."""
    started = []

    def run():
        path = tmp_path / "libown.so"
        make_library(path, "in_library")
        code = f"import ctypes; ctypes.CDLL({str(path)!r}); print('ready', flush=True); input()"
        started.append(Victim(["python3", "-c", code]))
        return started[-1], path

    yield run
    for one in started:
        one.kill()


class TestWhatIsNotThere:
    def free_pid(self):
        done = subprocess.Popen(["true"])
        done.wait()
        return done.pid

    @pytest.mark.parametrize(
        "ask", [process.read_mappings, process.read_modules, process.entry_vaddr, process.start_time]
    )
    def test_no_such_process(self, ask):
        pid = self.free_pid()
        with pytest.raises(TargetGone, match="no such process") as caught:
            ask(pid)
        assert caught.value.pid == pid

    def test_a_process_that_ended_and_is_not_reaped(self):
        done = subprocess.Popen(["true"])
        os.waitid(os.P_PID, done.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(TargetGone, match="no memory"):
            process.read_mappings(done.pid)
        done.wait()

    def test_a_directory_that_outlived_its_process_shows_no_other(self, hot):
        with ProcDirectory(hot.pid) as directory:
            assert directory.start_time == process.start_time(hot.pid)
            hot.kill()
            with pytest.raises(TargetGone, match="it ended"):
                directory.read("maps")
            with pytest.raises(TargetGone, match="it ended"):
                directory.tasks()

    def test_a_process_of_another_user(self, hot, as_user):
        foreign = hot.pid if os.geteuid() == 0 else 1
        if os.geteuid() and os.stat("/proc/1").st_uid == os.geteuid():
            pytest.skip("no process of another user")

        def ask():
            try:
                process.read_modules(foreign)
            except NotPermitted as error:
                return str(error)
            return None

        assert f"hint: uprobes doctor -p {foreign}" in as_user(ask)
