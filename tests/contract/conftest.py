import pytest
import torch

pytest.register_assert_rewrite("laws")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Products this small gain nothing from threads, and wait for one another on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
