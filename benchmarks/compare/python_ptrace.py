"""A breakpoint of python-ptrace: usage: python -m benchmarks.compare.python_ptrace PID ADDRESS HITS.

The textbook way that its API gives: stop, put the byte back, step, insert again. Serves HITS hits and
detaches. Prints a line when the breakpoint is in.
"""

import sys

from ptrace.debugger import PtraceDebugger


def serve(pid: int, address: int, hits: int) -> None:
    """Count `hits` hits at `address`."""
    debugger = PtraceDebugger()
    process = debugger.addProcess(pid, False)
    process.createBreakpoint(address)
    print("in", flush=True)
    for _ in range(hits):
        process.cont()
        process.waitSignals(5)
        breakpoint_ = process.findBreakpoint(process.getInstrPointer() - 1)
        breakpoint_.desinstall(set_ip=True)
        process.singleStep()
        process.waitSignals(5)
        process.createBreakpoint(address)
    process.findBreakpoint(address).desinstall()
    debugger.quit()


if __name__ == "__main__":
    serve(*(int(word, 0) for word in sys.argv[1:4]))
