"""Addresses of stores, and what is wrong with some."""

from __future__ import annotations

import pytest

from feature_store import Store, StoreError


def test_an_unknown_scheme_is_refused():
    with pytest.raises(StoreError, match="no file system for this address"):
        Store("nosuchscheme://bucket/store")


@pytest.mark.parametrize("address", ["s3://bucket/s?region=eu-west-1&nonsense=1", "s3:///s", "s3://a b/s"])
def test_what_is_wrong_with_an_address_is_told(address):
    with pytest.raises(StoreError, match="s3://") as raised:
        Store(address)
    assert "Install" not in str(raised.value)


def test_a_password_in_an_address_is_refused_without_repeating_it():
    """A summary prints the address, and a log keeps it."""
    with pytest.raises(StoreError, match=r"AWS_SECRET_ACCESS_KEY.* as s3://bucket$") as raised:
        Store("s3://KEY:SECRET@bucket/store?region=eu-west-1")
    assert "SECRET@" not in str(raised.value) and "KEY:" not in str(raised.value)
