"""What each process of `test_parallel.py` runs: `pege train`, one config after another, in one group of processes.

accelerate shares weights out among GPUs only and, on CPUs, trains as if `fsdp` were not there (pege refuses that). All
that follows, in accelerate and in torch, works on CPUs too; so it is told here that they are allowed.
"""

from __future__ import annotations

import sys

from accelerate.state import AcceleratorState, DistributedType, PartialState
from torch.distributed.tensor import DTensor

from pege.cli import main
from pege.training.trainer import PegeTrainer

begin, train = AcceleratorState.__init__, PegeTrainer.train


def begin_on_cpus(self, *args, fsdp_plugin=None, **kwargs):
    begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin


def train_and_look(self, *args, **kwargs):
    found = train(self, *args, **kwargs)
    assert {isinstance(p, DTensor) for p in self.model.parameters()} == {bool(self.args.fsdp)}
    return found


if __name__ == "__main__":
    AcceleratorState.__init__, PegeTrainer.train = begin_on_cpus, train_and_look
    for config in sys.argv[1:]:
        main(["train", "--config", config, "--output_dir", config.removesuffix(".yaml")])
    AcceleratorState.__init__ = begin  # and as it stands: FSDP on CPUs, the last config, is refused
    main(["train", "--config", sys.argv[-1], "--output_dir", f"{sys.argv[-1]}.refused"])
