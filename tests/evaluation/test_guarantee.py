from dataclasses import replace

import numpy as np
import pytest

from spikeport import RangeError, SpikeportError
from spikeport.evaluation.evaluate import evaluate_network
from spikeport.evaluation.guarantee import Guarantee, parse_guarantee


@pytest.mark.parametrize(
    "text", ["", "coverage", "coverage:1", "coverage:0", "loss:0.1", "loss:0.1@1", "loss:-1@0.5", "x"]
)
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(RangeError, match="was wanted"):
        parse_guarantee(text)


def test_both_kinds_are_read():
    assert parse_guarantee("coverage:.9") == Guarantee("coverage", 0.9)
    assert parse_guarantee("loss:5e-3@0.99") == Guarantee("loss", 0.005, 0.99)


@pytest.mark.parametrize("guarantee", [Guarantee("coverage", 0.8), Guarantee("loss", 0.2, 0.8)])
def test_an_evaluation_says_what_it_promises(digits, guarantee):
    converted = digits.converted
    found = evaluate_network(
        converted.spiking, converted.analog, converted.exit, digits.evaluation, policy=guarantee, timing=False
    )["early_exit"]
    assert found["guarantee"]["kind"] == guarantee.kind
    assert found["engine_mismatches"] == 0
    if guarantee.kind == "coverage":
        assert found["policy"] == "prediction sets"
        assert found["guarantee"]["measured_coverage"] >= found["accuracy"]
        assert found["guarantee"]["mean_set_size"] >= 1
    else:
        assert found["policy"] == "confidence"
        assert found["guarantee"]["p_value"] <= 0.2


def test_labels_are_needed(digits):
    exit_data = replace(digits.converted.exit, labels=np.full_like(digits.converted.exit.labels, -1))
    with pytest.raises(SpikeportError, match="needs true labels"):
        Guarantee("coverage", 0.8).rule(exit_data)


def test_too_few_samples_say_how_many_are_needed(digits):
    with pytest.raises(RangeError, match="at least 798 are needed"):
        Guarantee("loss", 0.005).rule(digits.converted.exit)
