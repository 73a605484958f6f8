from __future__ import annotations

import pytest
import torch

from macekit.config import TrainingConfig
from macekit.errors import ConfigError
from macekit.training.schedule import Schedule


def rates(config: dict, epochs: int, steps: int = 4, metric=lambda epoch: 1.0, stop: int | None = None):
    """Learning rate of every step; with a stop, by a schedule that is restored in between."""
    config = TrainingConfig.from_dict({"max_epochs": epochs, **config})

    def fresh():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        return optimizer, Schedule(config, optimizer, num_steps=lambda: epochs * steps)

    optimizer, schedule = fresh()
    found, began = [], []
    for epoch in range(1, epochs + 1):
        if schedule.begin_epoch(epoch):
            began.append(epoch)
        for _ in range(steps):
            if stop is not None and len(found) == stop:
                states = optimizer.state_dict(), schedule.state_dict()
                optimizer, schedule = fresh()
                optimizer.load_state_dict(states[0])
                schedule.load_state_dict(states[1])
            expected = schedule.rate
            schedule.step(lambda chosen=optimizer: (chosen.step(), found.append(chosen.param_groups[0]["lr"])))
            assert found[-1] == pytest.approx(expected)
        schedule.end_epoch(
            {"loss": metric(epoch)}, "loss" if config.scheduler and "Plateau" in config.scheduler.name else None
        )
    return found, began


def test_the_rate_rises_in_the_first_steps_and_is_the_schedulers_afterwards():
    step = {"name": "ExponentialLR", "config": {"gamma": 0.5}, "interval": "step"}
    plain, _ = rates({"scheduler": step}, 3)
    warm, _ = rates({"scheduler": step, "warmup_steps": 5}, 3)
    assert warm[:5] == pytest.approx([rate * (n + 1) / 5 for n, rate in enumerate(plain[:5])])
    assert warm[5:] == plain[5:]
    assert rates({"scheduler": None, "warmup_steps": 2}, 1)[0] == pytest.approx([0.05, 0.1, 0.1, 0.1])


def test_plateaus_and_warm_up_do_not_disturb_each_other():
    plateau = {"name": "ReduceLROnPlateau", "config": {"factor": 0.5, "patience": 0}}
    found, _ = rates({"scheduler": plateau, "warmup_steps": 8}, 4)
    assert found[0] == pytest.approx(0.1 / 8)
    assert found[8:12] == pytest.approx([0.05] * 4)
    assert found[12:] == pytest.approx([0.025] * 4)


def test_stage_two_has_a_rate_of_its_own():
    step = {"name": "StepLR", "config": {"step_size": 1, "gamma": 0.5}}
    found, began = rates({"scheduler": step, "stage_two": {"start_epoch": 3, "lr": 0.001}}, 5, steps=1)
    assert found == pytest.approx([0.1, 0.05, 0.001, 0.001, 0.001])
    assert began == [3]
    found, _ = rates({"scheduler": step, "stage_two": {"start_epoch": 3}}, 4, steps=1)
    assert found == pytest.approx([0.1, 0.05, 0.025, 0.0125])


ONE_CYCLE = {"name": "OneCycleLR", "config": {"max_lr": 0.3, "total_steps": "num_steps"}, "interval": "step"}
COSINE = {"name": "CosineAnnealingLR", "config": {"T_max": "num_epochs"}}


@pytest.mark.parametrize("stop", range(0, 16, 3))
@pytest.mark.parametrize(
    "config",
    [
        {"scheduler": ONE_CYCLE},
        {"scheduler": {"name": "StepLR", "config": {"step_size": 1}}, "warmup_steps": 6},
        {"scheduler": COSINE, "stage_two": {"start_epoch": 3, "lr": 0.002}},
    ],
)
def test_a_restored_schedule_goes_on(config, stop):
    assert rates(config, 4, stop=stop)[0] == rates(config, 4)[0]


def test_stage_two_after_the_end_is_refused():
    with pytest.raises(ConfigError, match=r"stage_two.start_epoch: 9 is after the last epoch, max_epochs: 5"):
        TrainingConfig.from_dict({"max_epochs": 5, "stage_two": {"start_epoch": 9}})
