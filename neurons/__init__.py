"""What one unit or synapse does in time.

A layer maps a sequence (time, batch, *features) and a state to a sequence and a state; ``initial_state`` makes a fresh
one.
"""

from .adaptive import AdaptiveLeaky, AdaptiveLeakyState
from .alpha import Alpha, AlphaState
from .delays import Delay, DelayedLinear, DelayState
from .filters import DoubleExponential, DoubleExponentialState, Exponential, ExponentialState
from .integrator import LeakyIntegrator, LeakyIntegratorState
from .izhikevich import Izhikevich, IzhikevichState
from .layer import FiringOptions
from .leaky import IntegrateAndFire, Leaky, LeakyState, lapicque
from .learnable_delays import GaussianWindow, LearnableDelays, TriangularWindow
from .plasticity import PairSTDP, PairSTDPState, TripletSTDP, TripletSTDPState, bounded
from .recurrent import OneToOne, RecurrentLeaky, RecurrentLeakyState, RecurrentSynaptic, RecurrentSynapticState
from .resonate import ResonateAndFire, ResonateAndFireState
from .surrogates import Atan, FastSigmoid, Gaussian, Sigmoid, StraightThrough, SuperSpike, Surrogate, Triangular
from .synaptic import Synaptic, SynapticState

__all__ = [
    "AdaptiveLeaky",
    "AdaptiveLeakyState",
    "Alpha",
    "AlphaState",
    "Atan",
    "Delay",
    "DelayState",
    "DelayedLinear",
    "DoubleExponential",
    "DoubleExponentialState",
    "Exponential",
    "ExponentialState",
    "FastSigmoid",
    "FiringOptions",
    "Gaussian",
    "GaussianWindow",
    "IntegrateAndFire",
    "Izhikevich",
    "IzhikevichState",
    "Leaky",
    "LeakyIntegrator",
    "LeakyIntegratorState",
    "LeakyState",
    "LearnableDelays",
    "OneToOne",
    "PairSTDP",
    "PairSTDPState",
    "RecurrentLeaky",
    "RecurrentLeakyState",
    "RecurrentSynaptic",
    "RecurrentSynapticState",
    "ResonateAndFire",
    "ResonateAndFireState",
    "Sigmoid",
    "StraightThrough",
    "SuperSpike",
    "Surrogate",
    "Synaptic",
    "SynapticState",
    "Triangular",
    "TriangularWindow",
    "TripletSTDP",
    "TripletSTDPState",
    "bounded",
    "lapicque",
]
