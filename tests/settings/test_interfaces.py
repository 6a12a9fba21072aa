from dataclasses import replace

import pytest

from alps.base.key import canonical
from alps.base.serialization import SettingsError, from_dict, to_dict
from alps.data.sources.mini import Mini
from alps.settings.interfaces import PromptFile

SOURCE = Mini(generator="mini_math")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ngram": 0}, "data.ngram must be at least 1 word, got 0"),
        ({"decontaminate": ("gone.jsonl",)}, "data.decontaminate: gone.jsonl does not exist"),
    ],
)
def test_settings_that_cannot_be_used_are_told(changes, problem):
    assert list(replace(SOURCE, **changes).problems()) == [problem]
    assert not list(SOURCE.problems())


def test_files_of_prompts_survive_as_plain_settings(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"question": "a"}\n')
    source = replace(SOURCE, decontaminate=(str(path),))
    assert source.prompt_files == (path,) and source.decontaminate == (PromptFile(str(path)),)
    assert from_dict(to_dict(source)) == source
    assert from_dict({**to_dict(SOURCE), "decontaminate": [str(path)]}) == source


def test_a_file_of_prompts_must_be_a_text():
    with pytest.raises(SettingsError, match=r"decontaminate\[0\] must be a text, got 3"):
        from_dict({**to_dict(SOURCE), "decontaminate": [3]})


@pytest.mark.parametrize(
    "changes", [{"too_long": "drop"}, {"deduplicate": True}, {"ngram": 12}, {"decontaminate": True}]
)
def test_what_changes_the_rows_is_identity(changes, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"question": "a"}\n')
    if "decontaminate" in changes:
        changes = {"decontaminate": (str(path),)}
    assert canonical(replace(SOURCE, **changes)) != canonical(SOURCE)
    assert str(path) not in str(canonical(replace(SOURCE, **changes)))
