"""Marks that several files share."""

import pytest

# networks with random weights, on which moments and masks may miss any part of the total
MAY_MISS_THE_TOTAL = pytest.mark.filterwarnings("ignore:The values of .* miss more than a quarter:RuntimeWarning")
