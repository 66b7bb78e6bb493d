"""Which array libraries this run has tested: a skip here is one whose tests were left out everywhere."""

import pytest

from tests.conftest import VARIANTS, why_unusable
from xpnet import backend


@pytest.mark.parametrize("name", VARIANTS)
def test_a_library_is_there(name):
    if why_unusable(VARIANTS[name]):
        pytest.skip(f"{name}: {why_unusable(VARIANTS[name])}")
    with backend.using(VARIANTS[name]) as chosen:
        assert float(chosen.xp.sum(backend.asarray([1.0, 2.0]))) == 3.0
