from array import array

from uprobe_core.x86.targets import Text

def follow_jumps(text: Text, starts: array[int], ends: array[int], framed: bytes) -> array[int]: ...
