from uprobe_core.abi import refusal
from uprobes.refusal import Refusal


def test_numbers_are_those_of_the_core():
    core = {name.removeprefix("REFUSAL_"): int(value) for name, value in refusal.__members__.items()}
    assert core.pop("COUNT") == len(Refusal)
    assert {member.name: int(member) for member in Refusal} == core


def test_every_refusal_has_a_sentence_of_its_own():
    assert len({member.sentence for member in Refusal}) == len(Refusal)
    for member in Refusal:
        assert member.sentence.strip().rstrip(".") == member.sentence
        assert member.hint is None or member.hint.strip().rstrip(".") == member.hint
