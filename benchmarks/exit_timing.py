"""Time early exit beside the fixed window of equal accuracy, for networks that ``conversion_table.py --keep`` left.

python benchmarks/exit_timing.py --data DATA --keep DIR [--rows NAME ...] [--seconds 15] [--trial 3]

Wall time wants an idle machine, accuracy does not: so they can be measured apart.  Writes what ``spikeport evaluate``
would have written about time into benchmarks/results/NAME.json, and README's table.
"""

import argparse
import json
from pathlib import Path

from conversion_table import RESULTS, ROWS, Row, line, write_tables

from spikeport import load_data
from spikeport.evaluation.folder import read_folder
from spikeport.evaluation.policies import Policy
from spikeport.evaluation.timing import SECONDS, Seconds, timed


def measure(row: Row, folder: Path, data: Path, fixed_steps: int, seconds: Seconds) -> dict[str, float]:
    """The numbers of the timing, with the rule that the evaluation used."""
    held = read_folder(folder)
    source = row.data if row.data == "digits" else str(data / f"{row.data}.npz")
    samples = load_data(source, held.preprocessing, part="evaluation")
    rule = Policy(row.policy).rule(held.exit, max_loss=row.max_loss)
    window = row.timesteps, fixed_steps
    return timed(held.spiking, samples.x, rule, *window, lambda stage, done: None, 0, seconds)


def main() -> None:
    """Time the rows that are asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that prepare_data.py wrote")
    parser.add_argument("--keep", type=Path, required=True, help="the folder of the converted networks")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seconds", type=float, default=SECONDS.run, help="of one fixed run; default: %(default)s")
    parser.add_argument("--trial", type=float, default=SECONDS.trial, help="seconds of a trial; default: %(default)s")
    options = parser.parse_args()
    seconds = Seconds(options.seconds, options.trial)
    for name in options.rows:
        path = RESULTS / f"{name}.json"
        if not (options.keep / name).is_dir():
            continue
        result = json.loads(path.read_text())
        early = result["evaluate"]["early_exit"]
        fixed_steps = early["smallest_fixed_steps_of_equal_accuracy"]
        early |= measure(ROWS[name], options.keep / name, options.data, fixed_steps, seconds)
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(line(name, ROWS[name], result), flush=True)
    write_tables()


if __name__ == "__main__":
    main()
