"""Which processor is this, and what can it do?"""

import functools
from pathlib import Path

VENDORS = {"AuthenticAMD": "amd", "HygonGenuine": "amd", "GenuineIntel": "intel"}


@functools.cache
def cpuinfo() -> dict[str, str]:
    """The first processor's fields in /proc/cpuinfo."""
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    return {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())
    }


def vendor() -> str:
    """`amd` or `intel`, or the vendor string itself."""
    string = cpuinfo().get("vendor_id", "unknown")
    return VENDORS.get(string, string)


def features() -> frozenset[str]:
    """The kernel's names of the features that are on."""
    return frozenset(cpuinfo().get("flags", "").split())


def generations() -> frozenset[str]:
    """Names of golden data's `on`: the vendor, and the generation where the data tells generations apart."""
    family, model = int(cpuinfo().get("cpu family", 0)), int(cpuinfo().get("model", 0))
    zen4 = (
        vendor() == "amd"
        and family == 25
        and (model in range(0x10, 0x20) or model in range(0x60, 0x80) or model >= 0xA0)
    )
    return frozenset({vendor(), "zen4"} if zen4 else {vendor()})
