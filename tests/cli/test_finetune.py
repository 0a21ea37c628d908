"""``spikeport finetune``: a network in, a folder out that evaluates; bad input is refused by name."""

from pathlib import Path

QUICK = ("--epochs", "1", "--batch-size", "32", "--accelerator", "cpu", "--limit", "300")


def test_it_makes_a_folder_that_evaluates(command, model: Path) -> None:
    made = command("finetune", model, "-o", "few", "--data", "digits", "--levels", "2", *QUICK, "--json")
    assert made.code == 0, made.err
    assert made.json["timesteps"] == 2
    assert made.json["finetune"]["levels"] == 2
    evaluated = command("evaluate", "few", "--data", "digits", "--limit", "50", "--no-timing", "--json")
    assert evaluated.code == 0, evaluated.err
    assert len(evaluated.json["accuracy_by_step"]) == 2


def test_spikes_are_trained_after_it(command, model: Path) -> None:
    arguments = ("finetune", model, "--data", "digits", "--levels", "2", *QUICK, "--spike-epochs", "1")
    made = command(*arguments, "--spike-rate", "1e-3", "-o", "few", "--json")
    assert made.code == 0, made.err
    assert made.json["finetune"]["spikes"]["epochs"] == 1
    assert "spikes trained" in command(*arguments, "-o", "again").out
    long = command(*arguments, "-o", "long", "--timesteps", "100")
    assert (long.code, "at most 64" in long.error) == (2, True)


def test_a_folder_comes_in_too(command, converted: Path) -> None:
    made = command("finetune", converted, "-o", "few", "--data", "digits", *QUICK, "--timesteps", "3")
    assert made.code == 0, made.err
    for text in ("Trained in 4 levels", "accuracy before", "accuracy in levels"):
        assert text in made.out


def test_bad_input_is_refused(command, model: Path, tmp_path: Path) -> None:
    few = command("finetune", model, "-o", "few", "--data", "digits", "--limit", "40")
    assert few.code == 2
    assert "at least 50" in few.error
    word = command("finetune", model, "-o", "few", "--data", "digits", "--augment", "flop")
    assert word.code == 2
    assert "flop" in word.error
    (tmp_path / "empty").mkdir()
    assert command("finetune", "empty", "-o", "few", "--data", "digits").code == 2
    assert not Path("few").exists()


def test_a_target_chooses_spikes_and_steps_and_prints_the_front(command, model: Path) -> None:
    arguments = ("convert", model, "--calibration", "digits", "--limit", "80", "--timesteps", "2", "--target", "5")
    shown = command(*arguments, "-o", "found")
    assert shown.code == 0, shown.err
    assert "operations a sample" in shown.out
    as_json = command(*arguments, "-o", "again", "--spikes", "signed", "--json")
    assert as_json.json["spikes"] == "signed"
    assert {point["code"] for point in as_json.json["search"]["front"]} == {"signed"}
    assert command(*arguments, "-o", "other", "--method", "mse").code == 2
