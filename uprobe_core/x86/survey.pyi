from typing import Literal

def survey(
    code: bytes | bytearray | memoryview,
    ip: int,
    *,
    mode: str = "auto",
    rip: str = "auto",
    reach: str = "near",
    vendor: Literal["amd", "intel"] | None = None,
) -> tuple[dict[int, int], dict[int, int]]: ...
