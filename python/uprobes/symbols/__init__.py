"""Where a probe's place is in a file: functions, lines and markers of ELF files on disk or in memory.

:class:`~uprobes.symbols.elf.ElfFile` is one file, :func:`~uprobes.symbols.locate.locate` turns a
:class:`~uprobes.spec.ProbeSpec` into :class:`~uprobes.symbols.location.Location` values.
"""
