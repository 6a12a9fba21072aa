import json
import os
import subprocess
import sys
import time

from alps.execute import execute
from alps.runs.folder import RunFolder
from alps.training.fit import fit


def counting_fit(run):
    with (RunFolder(run.folder).path / "fitted").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.5)
    fit(run)


def test_a_finished_run_is_not_done_again(make_run):
    run = make_run("method=full")
    first = execute(run, counting_fit)
    assert execute(run, counting_fit) == first
    assert len((run.folder / "fitted").read_text().splitlines()) == 1


def test_the_task_model_of_several_methods_is_trained_once(make_run):
    for method in ("alps", "kl", "full"):
        execute(make_run(f"method={method}", "ratio=0.2"), counting_fit)
    task_run = make_run("method=alps").task_run()
    assert task_run.key == make_run("method=full").key
    assert len((task_run.folder / "fitted").read_text().splitlines()) == 1


def test_another_benchmark_never_trains_again_and_the_first_one_stays(make_run):
    run = make_run("method=full")
    execute(run, counting_fit)
    with_loss = make_run("method=full", "evals=mini", "evals.limit=2", "data=mini_general")
    assert with_loss.key != run.key  # other data
    with_loss = make_run("method=full", "evals=mini", "evals.limit=2")
    assert with_loss.key == run.key
    result = execute(with_loss, counting_fit)
    assert set(result.evals) == {"held_out", "mini_math"}
    assert execute(run, counting_fit).evals == result.evals
    assert len((run.folder / "fitted").read_text().splitlines()) == 1


def test_a_benchmark_with_other_settings_is_computed_again(make_run):
    run = make_run("method=full", "evals=mini", "evals.limit=2")
    execute(run, fit)
    path = RunFolder(run.folder).evaluation_path("held_out", "answer_tokens")
    assert json.loads(path.read_text())["num_documents"] == 2
    execute(make_run("method=full", "evals=mini", "evals.limit=3"), fit)
    assert json.loads(path.read_text())["num_documents"] == 3


def test_two_processes_on_one_run_train_it_once(make_run):
    run = make_run("method=full")
    RunFolder(run.folder).write_run(run)
    code = (
        "import sys; from pathlib import Path; from alps.execute import execute;"
        "from alps.runs.folder import RunFolder; from alps.training.fit import fit;"
        "folder = RunFolder(Path(sys.argv[1]));"
        "count = lambda run: ((folder.path / 'fitted').open('a').write('x'), fit(run));"
        "print(execute(folder.read_run(), count).key)"
    )
    command = [sys.executable, "-c", code, str(run.folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.communicate()[0].strip() == run.key
        assert process.returncode == 0
    assert (run.folder / "fitted").read_text() == "x"
    assert RunFolder(run.folder).status()["state"] == "finished"


def test_a_given_task_model_is_used_as_it_is(make_run, tmp_path):
    import torch

    from alps.models.checkpoint import materialize
    from alps.models.export import export_model
    from alps.models.load import load_model, load_tokenizer

    base = materialize(make_run().model)
    model = load_model(base)
    with torch.no_grad():  # only head (1, 3) moves; its KV group stays
        model.model.layers[1].self_attn.q_proj.weight[24:32] *= 1.5
    export_model(model, load_tokenizer(base), tmp_path / "task")
    run = make_run("task_model=readily", f"task_model.path={tmp_path}/task", "ratio=0.05")
    execute(run, fit)
    assert RunFolder(run.folder).read_heads().heads == ((1, 3),)
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 1
