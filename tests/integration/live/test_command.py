"""What the command says of children, of libraries that come later, and of probes that are hit too often."""

import json
import shutil

import pytest


@pytest.fixture
def objects(uprobes_cli):
    """Runs the command with --json and returns its objects and what it said beside them."""

    def run(*arguments):
        done = uprobes_cli(arguments[0], "--json", *arguments[1:])
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return run


def test_followed_children_have_rows_of_their_own(objects):
    counted, _ = objects("count", "--follow", "libc:getppid", "--", "sh", "-c", "(:); (:); sh -c :")
    rows = [one for one in counted if one["type"] == "count"]
    assert len({row["pid"] for row in rows}) == 3
    assert counted[-1]["children"] == 3


def test_children_are_left_alone_otherwise(objects):
    counted, _ = objects("count", "libc:getppid", "--", "sh", "-c", "(:); (:)")
    assert len([one for one in counted if one["type"] == "count"]) == 1
    assert counted[-1]["children"] == 0


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
def test_a_program_that_is_executed_later(objects):
    counted, _ = objects(
        "count", "--pending", "--follow", "libcrypto:EVP_DigestFinal_ex", "--",
        "sh", "-c", "openssl dgst -sha256 /dev/null; openssl dgst -sha256 /dev/null",
    )  # fmt: skip
    hits = [one["hits"] for one in counted if one["type"] == "count"]
    assert hits == [1, 1]


def test_running_programs_have_a_budget(objects, victim):
    spin = victim("spin")
    counted, said = objects("count", "-p", spin.pid, "--for", 1.5, "spin:work")
    assert counted[-1]["lost"] > 0
    assert counted[-1]["throttled"] > 0
    assert "is switched off from time to time" in said
    counted, said = objects("count", "-p", spin.pid, "--for", 0.5, "--budget", 0, "spin:work")
    assert counted[-1]["lost"] == 0
    assert "switched off" not in said
    assert spin.finish()["work"] > 0
