"""Attaching to a program with threads, stopping them all, and leaving."""

import pytest

import uprobes

ROUNDS = 15


@pytest.mark.parametrize("threads", [1, 1000])
def bench_stop(benchmark, victim, threads):
    """Stop every thread, put one probe in and take it out, let all go on. The threads sleep, but for one in ten."""
    crowd = victim("crowd")
    crowd.order(threads)
    crowd.wait_line("born")
    with uprobes.attach(crowd.pid) as target:
        owner = target._owner

        def stop() -> None:
            owner.tracer.stop_world(5000)
            owner.tracer.resume_world()

        def patch() -> None:
            owner.call(stop)
            target.probe("crowd:work").remove()

        benchmark.pedantic(patch, rounds=ROUNDS)
    benchmark.extra_info.update(unit=f"{threads:,} threads")


@pytest.mark.parametrize("what", ["attach", "detach"])
def bench_idle(benchmark, victim, what):
    """Of a program that waits for input: to be traced, and not to be any more, with a probe that has a slot."""
    idle = victim("spin")
    targets = []

    def attach() -> None:
        targets.append(uprobes.attach(idle.pid))

    def detach() -> None:
        targets.pop().detach()

    if what == "attach":
        benchmark.pedantic(attach, teardown=detach, rounds=ROUNDS)
    else:

        def attach_and_probe() -> None:
            attach()
            targets[0].probe("libc:malloc")

        benchmark.pedantic(detach, setup=attach_and_probe, rounds=ROUNDS)
    benchmark.extra_info.update(unit="idle program")
