import json
import zipfile

from alps.config.build import build, compose_config
from alps.data.example import Example
from alps.data.readers.camel_math import read
from alps.data.sources.table import Row

ROW = {
    "role_1": "Mathematician_RoleType.ASSISTANT",
    "topic;": "Algebra",  # the semicolon is the dataset's own
    "sub_topic": "Linear equations",
    "message_1": "Solve 2x = 6.",
    "message_2": "Divide by 2: x = 3.",
}


def test_the_first_message_is_the_problem_and_the_second_the_solution():
    wanted = Example(instruction="Solve 2x = 6.", answer="Divide by 2: x = 3.")
    assert read(Row(ROW)) == wanted


def test_the_zip_is_read_as_it_is(tmp_path):
    with zipfile.ZipFile(tmp_path / "math.zip", "w") as archive:
        for i in range(3):
            row = {**ROW, "message_1": f"Solve {i}x = 6."}
            archive.writestr(f"math/001_00{i}_001.json", json.dumps(row, indent=4))
    path = f"data.path={tmp_path}/math.zip"
    data = build(compose_config(["data=camel_math", path, "data.test_fraction=0"])).data
    asked = [e.instruction for e in data.examples("train")]
    assert asked == ["Solve 0x = 6.", "Solve 1x = 6.", "Solve 2x = 6."]
