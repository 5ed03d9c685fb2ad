from array import array

def landing_pads(
    tables: bytes | bytearray | memoryview, vaddr: int, starts: array[int], places: array[int]
) -> array[int] | None: ...
