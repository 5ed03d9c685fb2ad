from array import array

from uprobe_core.x86.targets import Text

def find(
    text: Text, sites: array[int], *, fault_first: bool = False, single: bool = False
) -> tuple[array[int], array[int], array[int]]: ...
