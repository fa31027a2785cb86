"""What the whole suite sets in its environment, and so in its child processes, before anything imports torch."""

import os

# Tests' models are tiny: more threads only wait for each other, and while they wait they take the other tests' core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
