from alps.data.example import Example
from alps.data.readers.mathinstruct import read
from alps.data.sources.table import Row


def test_a_problem_and_its_solution():
    row = {
        "source": "data/PoT/example.json",
        "output": "x = 2 + 3\nprint(x)",
        "instruction": "What is 2 + 3? Let's write a program.",
    }
    wanted = Example(instruction=row["instruction"], answer="x = 2 + 3\nprint(x)")
    assert read(Row(row)) == wanted
