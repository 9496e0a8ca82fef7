"""How often data without any difference are called different at some look, by a t-test and by the anytime-valid one."""

from __future__ import annotations

import numpy as np

from evaluation.statistics import anytime_test, t_test

DATA_SETS, EXAMPLES, FIRST, EVERY = 2000, 2000, 100, 50
rng = np.random.default_rng(0)
shape = (DATA_SETS, EXAMPLES)
NULLS = {
    "normal": lambda: rng.normal(size=shape),
    "exponential": lambda: rng.exponential(size=shape) - 1,
    "80 % zero, else +1 or -1": lambda: rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=shape),
    "Student's t, 3 degrees of freedom": lambda: rng.standard_t(3, size=shape),
    "log-normal": lambda: rng.lognormal(size=shape) - np.exp(0.5),
    "one in 10 is not zero": lambda: (rng.uniform(size=shape) < 0.1) - 0.1,
    "one in 33 is not zero": lambda: (rng.uniform(size=shape) < 1 / 33) - 1 / 33,
}


def main() -> None:
    """Print the table of docs/statistics.md."""
    looks = np.arange(FIRST, EXAMPLES + 1, EVERY)
    for name, draw in NULLS.items():
        values = draw()
        total, square = (values**power for power in (1, 2))
        total, square = total.cumsum(1)[:, looks - 1], square.cumsum(1)[:, looks - 1]
        spread = np.maximum(square - total**2 / looks, 0) / (looks - 1)
        alike = np.where(total == 0, 0.0, np.copysign(np.inf, total))
        t = np.divide(total, np.sqrt(looks * spread), out=alike, where=spread > 1e-12)
        fixed, anytime = ((test(t, looks) <= 0.05).any(1).mean() for test in (t_test, anytime_test))
        print(f"| {name} | {fixed:.1%} | {anytime:.1%} |", flush=True)


if __name__ == "__main__":
    main()
