"""`uprobes selftest`: the processor's word, for people and for programs."""

import json

FORMS = 200


def test_says_what_was_proven(uprobes_cli):
    done = uprobes_cli("selftest", "--forms", FORMS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{FORMS} instruction forms, ")
    assert ", 0 differ\n" in done.stdout
    assert " boost\n" in done.stdout


def test_json(uprobes_cli):
    done = uprobes_cli("selftest", "--forms", FORMS, "--seed", 3, "--json")
    (summary,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (summary["type"], summary["forms"], summary["failures"]) == ("selftest", FORMS, 0)
    assert summary["runs"]["boost"] > FORMS
    assert summary["interruptions"] > FORMS


def test_no_forms_is_a_mistake(uprobes_cli):
    assert uprobes_cli("selftest", "--forms", 0).returncode == 2
