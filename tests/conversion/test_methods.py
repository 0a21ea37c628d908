"""The choice of a method: by data that no method saw, for a stated reason, the same each time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from spikeport import RangeError, SpikeportError
from spikeport.conversion.methods import METHODS, Auto, Choice, Recipe, chosen, parse_method
from spikeport.conversion.source import analog_output
from spikeport.conversion.thresholds import LocalThresholdBalancing, MeanSquare, Percentile, Thresholds
from spikeport.networks.graph import Graph
from spikeport.networks.outputs import outputs_over_time

Samples = Callable[..., np.ndarray]
STEPS = 6


@dataclass(frozen=True)
class Spy:
    """Thresholds that are good or hopeless, and what data it was given."""

    name: str
    factor: float = 1.0
    seen: list[np.ndarray] = field(default_factory=list, hash=False, compare=False)

    def thresholds(self, graph: Graph, x: np.ndarray, timesteps: int) -> Thresholds:
        self.seen.append(x)
        found = Percentile(99.9).thresholds(graph, x, timesteps)
        return {name: self.factor * theta for name, theta in found.items()}


STUCK = LocalThresholdBalancing(iterations=2)


@pytest.fixture
def choose(network: Graph, make_samples: Samples) -> Callable[..., Choice]:
    """choose(method, **options): the choice on 48 fit samples and 60 others, labelled by the network itself."""
    fit, held = make_samples(48), make_samples(60, seed=1)
    labels = analog_output(network, held).argmax(1)

    def run(method: Recipe | Auto, **options: object) -> Choice:
        return chosen(method, network, fit, held, labels, **{"code": "binary", "timesteps": STEPS, **options})

    return run


def test_the_best_on_held_out_samples_is_kept(choose: Callable[..., Choice]) -> None:
    recipes = tuple(Recipe(Spy(f"times {factor:g}", factor), False) for factor in (30.0, 1.0, 0.02))
    choice = choose(Auto(recipes))
    assert choice.method == "times 1"
    assert [candidate.method for candidate in choice.candidates] == [recipe.name for recipe in recipes]


def test_no_recipe_sees_the_samples_of_the_choice(
    choose: Callable[..., Choice], make_samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    convert = Recipe.convert

    def spied(self: Recipe, analog: Graph, x: np.ndarray, **options: object) -> Graph:
        seen.append(x)
        return convert(self, analog, x, **options)

    monkeypatch.setattr(Recipe, "convert", spied)
    spies = [Spy("a"), Spy("b", 2.0)]
    choose(Auto(tuple(Recipe(spy, correction) for spy in spies for correction in (False, True))))
    fit = make_samples(48)
    assert len(seen) == 4
    assert all(len(spy.seen) == 1 for spy in spies), "thresholds are computed once for a method"
    assert all(np.array_equal(x, fit) for x in [*seen, *spies[0].seen, *spies[1].seen])


def test_numbers_of_the_candidates_are_those_of_a_recount(
    choose: Callable[..., Choice], network: Graph, make_samples: Samples
) -> None:
    choice = choose(Auto((Recipe(MeanSquare(), False),)))
    held = make_samples(60, seed=1)
    output = outputs_over_time(choice.graph, held, STEPS)[-1].numpy() / STEPS
    wanted = analog_output(network, held)
    (row,) = [candidate.to_json() for candidate in choice.candidates]
    assert row["method"] == choice.method == "mean square"
    assert row["accuracy_at_timesteps"] == pytest.approx((output.argmax(1) == wanted.argmax(1)).mean())
    assert row["output_error"] == pytest.approx(np.square(output - wanted).mean() / wanted.var(), rel=1e-4)
    assert row["note"] == ""


def test_the_reason_tells_numbers(choose: Callable[..., Choice]) -> None:
    choice = choose(Auto((Recipe(MeanSquare()), Recipe(Percentile(99.9), False))))
    winner = next(c for c in choice.candidates if c.method == choice.method)
    for part in (
        "of 2 methods",
        "one standard error",
        f"after {STEPS} steps",
        "60 samples",
        f"{winner.output_error:.3g}",
    ):
        assert part in choice.reason
    near = [c for c in choice.candidates if c.accuracy_at_timesteps >= max_accuracy(choice) - margin(choice, 60)]
    assert winner.output_error == min(c.output_error for c in near)


def max_accuracy(choice: Choice) -> float:
    return max(c.accuracy_at_timesteps for c in choice.candidates if c.accuracy_at_timesteps is not None)


def margin(choice: Choice, n: int) -> float:
    top = max_accuracy(choice)
    return float(np.sqrt(top * (1 - top) / n))


def test_what_does_not_converge_is_noted_and_dropped(choose: Callable[..., Choice]) -> None:
    choice = choose(Auto((Recipe(STUCK), Recipe(MeanSquare(), False), Recipe(STUCK, False))))
    assert choice.method == "mean square"
    for row in (choice.candidates[0], choice.candidates[2]):
        assert row.accuracy_at_timesteps is row.output_error is None
        assert "did not converge" in row.note
    assert "of 1 methods" in choice.reason


def test_nothing_that_converges_is_an_error_with_every_reason(choose: Callable[..., Choice]) -> None:
    with pytest.raises(RangeError, match=r"no method converged: local threshold balancing.*did not converge"):
        choose(Auto((Recipe(STUCK),)))
    with pytest.raises(RangeError, match="did not converge"):
        choose(Recipe(STUCK))


def test_a_recipe_that_was_asked_for_is_used(choose: Callable[..., Choice]) -> None:
    choice = choose(Recipe(Percentile(95.0)))
    assert choice.method == "percentile 95 + bias correction"
    assert choice.reason == "it was asked for"
    assert choice.candidates == ()


@pytest.mark.parametrize("method", [Recipe(MeanSquare()), Auto((Recipe(MeanSquare()), Recipe(Percentile())))])
def test_choosing_twice_gives_the_same(choose: Callable[..., Choice], method: Recipe | Auto) -> None:
    first, second = choose(method), choose(method)
    assert (first.method, first.reason, first.candidates) == (second.method, second.reason, second.candidates)
    for node in first.graph.nodes:
        for key, array in node.arrays.items():
            np.testing.assert_array_equal(array, second.graph.by_name[node.name].arrays[key])


@pytest.mark.parametrize("code", ["binary", "signed"])
def test_the_code_of_the_spikes_is_the_one_asked_for(choose: Callable[..., Choice], code: str) -> None:
    graph = choose(Recipe(MeanSquare(), False), code=code).graph
    assert {node.attributes["code"] for node in graph.of_operator("neuron")} == {code}


def test_progress_rises_to_all(choose: Callable[..., Choice]) -> None:
    seen: list[float] = []
    choose(Auto((Recipe(MeanSquare(), False), Recipe(Percentile(), False))), progress=seen.append)
    assert seen == [0.5, 1.0]


def test_methods_are_parsed_by_name() -> None:
    assert {name: parse_method(name) for name in METHODS} == METHODS
    assert isinstance(parse_method("auto"), Auto)
    names = [recipe.name for recipe in Auto().recipes]
    assert len(set(names)) == len(names)
    with pytest.raises(SpikeportError, match=r"'best'.*auto, percentile, mse, ltb"):
        parse_method("best")
