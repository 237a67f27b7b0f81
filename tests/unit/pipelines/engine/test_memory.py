import numpy as np
import pytest
import torch

from pipelines.engine.memory import MemoryBackoff, is_out_of_memory


class Small:
    """Holds ``most`` numbers, doubles them, and writes down what it was asked."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        self.most, self.asked = most, []
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    def __call__(self, batch):
        self.asked.append(len(batch))
        if len(batch) > self.most:
            raise self.error
        return [2 * number for number in batch]


@pytest.mark.parametrize("most", range(1, 12))
@pytest.mark.parametrize("count", [0, 1, 2, 7, 10])
def test_every_example_is_computed_once_and_in_order(most, count):
    pieces = list(MemoryBackoff()(Small(most), list(range(count))))
    assert [number for piece, _ in pieces for number in piece] == list(range(count))
    assert [number for _, result in pieces for number in result] == [2 * number for number in range(count)]


def test_what_was_too_large_is_not_tried_again():
    halving, network = MemoryBackoff(), Small(3)
    for _ in range(2):
        list(halving(network, np.arange(10)))
    assert network.asked == [10, 5, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    assert halving.most == 2


def test_one_example_that_is_too_much():
    with pytest.raises(torch.OutOfMemoryError):
        list(MemoryBackoff()(Small(0), [1, 2, 3]))


def test_other_errors_are_none_of_its_business():
    network = Small(0, ValueError("shapes"))
    with pytest.raises(ValueError, match="shapes"):
        list(MemoryBackoff()(network, [1, 2]))
    assert network.asked == [2]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
    ids=str,
)
def test_signs(error, expected):
    assert is_out_of_memory(error) is expected


def test_the_allocators_own_error():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
