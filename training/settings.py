"""The sections of a training's settings, each field with its default, unit, range and meaning."""

from dataclasses import dataclass

from .fields import check, setting

__all__ = [
    "DataSettings",
    "EncoderSettings",
    "LossSettings",
    "NetworkSettings",
    "OptimizerSettings",
    "TrainingSettings",
]


@dataclass(frozen=True)
class _Section:
    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class DataSettings(_Section):
    """What the network learns from."""

    train: str = setting(
        "digits", "digits, file.npz[:xname,yname], or package.module:function with --allow-code; N-MNIST as events"
    )
    test: str = setting("", "data measured once, after training, with the best epoch's weights; empty: none")
    form: str = setting(
        "arrays", "samples as arrays, or events x, y, p, t with offsets and labels", choices=("arrays", "events")
    )
    validation_share: float = setting(0.1, "held out of train to choose the best epoch", "share", low=0.001, high=0.5)
    scale: str = setting("", "the network sees (x · scale − mean) / std; 1/255 is accepted; empty: 1")
    mean: tuple[float, ...] = setting((), "subtracted, one number or one a channel", "x · scale")
    std: tuple[float, ...] = setting((), "divided by, one number or one a channel", "x · scale")
    limit: int = setting(0, "take the first so many samples of train and of test; 0: all", "samples", low=0)
    augment: tuple[str, ...] = setting(
        (),
        'random changes of training images: "flip" (left and right), "shift 2", "turn 10", "stretch 0.1", "shear 0.1"',
    )


@dataclass(frozen=True)
class EncoderSettings(_Section):
    """How a sample becomes a sequence in time."""

    kind: str = setting(
        "direct",
        "the same values each step; random spikes; one spike, early for large values; spikes where a sequence changes; "
        "a sequence as it is, or events in frames",
        choices=("direct", "rate", "latency", "delta", "sequence"),
    )
    steps: int = setting(8, "length of the sequence", "time steps", low=1, high=100_000)
    gain: float = setting(1.0, "rate: chance of a spike = gain · x + offset", "1 / x", low=0.0, high=1e6)
    offset: float = setting(0.0, "rate: see gain", "chance a step", low=-1.0, high=1.0)
    threshold: float = setting(0.1, "delta: least change; latency: values below it fire last", "x", low=0.0, high=1e6)
    tau: float = setting(1.0, "latency: time constant of the charging neuron", "time steps", low=1e-6, high=1e6)
    linear: bool = setting(True, "latency: spike times fall linearly with x, not logarithmically")
    off_spikes: bool = setting(False, "delta: −1 where the value falls")
    frame_ms: float = setting(0.0, "events: length of a frame; 0: the recordings' length / steps", "ms", low=0.0)
    pool: int = setting(1, "events: add up squares of so many pixels a side", "pixels", low=1, high=64)


@dataclass(frozen=True)
class NetworkSettings(_Section):
    """The network: a list of layers, or a function of the user's."""

    layers: tuple[str, ...] = setting(
        ("flatten", "linear 128", "leaky", "linear 10", "integrator"),
        'such as "conv 32 3x3", "norm", "leaky", "pool 2", "flatten", "dropout 0.2", "linear 10", "integrator"',
    )
    factory: str = setting("", "package.module:function that returns the network, with --allow-code; empty: layers")
    beta: float = setting(0.9, "decay of membranes", "1 / time step", low=1e-6, high=1.0)
    threshold: float = setting(1.0, "membrane at which a neuron fires", "membrane", low=1e-9, high=1e9)
    learn_beta: bool = setting(False, "train the decay of each layer, too")
    reset: str = setting("subtract", "what a spike does to the membrane", choices=("subtract", "zero", "none"))
    detach_reset: bool = setting(True, "no gradient through the reset, as in snnTorch")
    surrogate: str = setting(
        "atan",
        "shape of the gradient of a spike",
        choices=(
            "atan",
            "fast_sigmoid",
            "gaussian",
            "sigmoid",
            "straight_through",
            "super_spike",
            "triangular",
        ),
    )
    surrogate_scale: float = setting(
        0.0, "its own scale parameter; 0: the surrogate's default", "see neurons/surrogates.py", low=0.0, high=1e6
    )


@dataclass(frozen=True)
class LossSettings(_Section):
    """What the training makes small."""

    kind: str = setting(
        "rate_cross_entropy",
        "rate_cross_entropy, anytime_cross_entropy, temporal_efficient, spike_count_error, membrane_cross_entropy, or "
        "snntorch.NAME of snntorch.functional, such as snntorch.ce_rate_loss",
    )
    gain: float = setting(1.0, "cross-entropies: sharpens outputs before the softmax", "1 / output", low=1e-6, high=1e6)
    label_smoothing: float = setting(0.0, "cross-entropies: target given to all classes", "share", low=0.0, high=1.0)
    weight: float = setting(0.0, "temporal_efficient: weight of the square error", "share", low=0.0, high=1.0)
    level: float = setting(1.0, "temporal_efficient: what the square error pulls to", "output", low=-1e6, high=1e6)
    correct_rate: float = setting(1.0, "spike_count_error: the right class", "spikes a step", low=0.0, high=1.0)
    incorrect_rate: float = setting(0.0, "spike_count_error: the others", "spikes a step", low=0.0, high=1.0)
    sparsity: float = setting(0.0, "price of a spike in hidden layers", "loss a spike a sample", low=0.0, high=1e6)
    rate_weight: float = setting(0.0, "weight of the bounds on each unit's rate", "loss", low=0.0, high=1e6)
    rate_low: float = setting(0.01, "lower bound", "spikes a step", low=0.0, high=1.0)
    rate_high: float = setting(0.5, "upper bound", "spikes a step", low=0.0, high=1.0)


@dataclass(frozen=True)
class OptimizerSettings(_Section):
    """How weights follow the gradient."""

    kind: str = setting("adamw", "the rule", choices=("adamw", "adam", "sgd"))
    learning_rate: float = setting(2e-3, "at its highest", "1 / gradient", low=0.0, high=1e3)
    weight_decay: float = setting(1e-4, "of weights; biases, norms and decays are left alone", low=0.0, high=1e3)
    momentum: float = setting(0.9, "sgd only", low=0.0, high=0.9999)
    delay_factor: float = setting(100.0, "rate of learned delays, in rates of weights", low=0.0, high=1e6)
    schedule: str = setting("cosine", "how the rate falls", choices=("cosine", "constant"))
    warmup_share: float = setting(0.05, "of all steps, in which the rate rises from 0", "share", low=0.0, high=0.9)


@dataclass(frozen=True)
class TrainingSettings(_Section):
    """How long, in what portions, on what."""

    epochs: int = setting(10, "passes over the training data", "epochs", low=1, high=10**6)
    batch_size: int = setting(64, "samples of a step of the optimiser, all processes together", "samples", low=1)
    accumulate: int = setting(1, "parts that a process takes its share of a batch in", "parts", low=1, high=10**6)
    clip_norm: float = setting(1.0, "longest gradient; 0: any", "norm", low=0.0)
    precision: str = setting(
        "32-true",
        "types as Lightning Fabric names them; bf16-mixed is fast on recent processors",
        choices=("32-true", "bf16-mixed", "16-mixed", "64-true"),
    )
    accelerator: str = setting("auto", "what to run on", choices=("auto", "cpu", "cuda", "mps"))
    devices: int = setting(1, "processes on each machine", "processes", low=1, high=1024)
    nodes: int = setting(1, "machines; torchrun starts the processes on each", "machines", low=1)
    seed: int = setting(0, "every random choice follows from it", low=0, high=2**32 - 1)
    first_best: int = setting(1, "first epoch that may be the best", "epochs", low=1, high=10**6)
    anneal_share: float = setting(0.4, "of the epochs, over which learned delays narrow", "share", low=1e-6, high=1.0)
    settle_share: float = setting(
        0.5, "of the epochs, the last: learned delays are whole then, and one is the best", "share", low=0.0, high=1.0
    )
    deterministic: bool = setting(True, "only algorithms that give the same result each time")
    channels_last: bool = setting(True, "keep images in the order that convolutions like best")
    weight_noise: float = setting(
        0.0, "noise on weights while gradients are taken, for analog hardware", "largest weight", low=0.0, high=1.0
    )
    checkpoint_steps: int = setting(0, "save so often within an epoch; 0: at its end only", "steps", low=0)
    tensorboard: bool = setting(True, "write curves for TensorBoard into the folder")
