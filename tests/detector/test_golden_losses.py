"""Two steps of training on record for every head: a refactoring changes nothing."""

import pytest
from golden_losses import WITHOUT_CHANCE, two_losses
from tiny_models import ARMS, tiny_model

GOLDEN: dict[str, list[float]] = {
    "faster": [2.59528, 2.41206],
    "stacked": [3.70393, 3.46732],
    "printed": [3.68991, 3.45455],
    "released": [3.60242, 3.34840],
    "working": [3.65379, 3.44034],
    "sgrn": [3.66616, 3.38276],
    "sgrn_working": [3.63502, 3.33460],
}


@pytest.mark.parametrize("name", ARMS)
def test_two_steps_of_training_give_the_losses_on_record(name: str) -> None:
    assert two_losses(tiny_model(*ARMS[name], **WITHOUT_CHANCE)) == pytest.approx(GOLDEN[name], rel=1e-3)
