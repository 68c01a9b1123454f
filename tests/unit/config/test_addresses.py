"""Addresses in the configuration: where they may stand, and no credentials in them."""

from pathlib import Path

import pytest

from tests.unit.storage.test_backends import SECRETS
from unet.config.inputs import source_addresses, source_files
from unet.config.root import ConfigError, load_config
from unet.storage.address import checked_address


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIATESTOFUNETEM0000:kept-secret-by-everybody@bucket/raw.zarr",
        "https://kept-secret-by-everybody@host/raw.zarr",
        "https://host/raw.zarr?X-Amz-Signature=kept-secret-by-everybody",
        "abfs://box:kept-secret-by-everybody@account.dfs.core.windows.net/raw.zarr",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(address: str) -> None:
    volume = {"raw": "a.tif", "labels": "b.tif"}
    for changes in (
        {"volumes": {"train": {**volume, "raw": address}}},
        {"volumes": {"train": {**volume, "raw": ["a.tif", address]}}},
        {"volumes": {"train": {**volume, "labels": address}}},
        {"volumes": {"train": {**volume, "compare": {"peer": address}}}},
        {"storage": {"address": address}},
    ):
        with pytest.raises(ConfigError, match=r"credentials .* do not belong into an address; set") as told:
            load_config({"volumes": {"train": volume}, **changes})
        assert not any(secret in str(told.value) for secret in SECRETS)


@pytest.mark.parametrize(
    "address",
    [
        "https://kept-secret-by-everybody@host/a",
        "s3://b/a?sig=kept-secret-by-everybody",
        "precomputed://https://me:kept-secret-by-everybody@host/a",
    ],
)
def test_credentials_in_a_wrong_place_are_not_repeated(address: str) -> None:
    """Values that are refused for another reason are quoted, as are keys and names that are addresses."""
    volume = {"raw": "a.tif"}
    changes: list[dict[str, object]] = [
        {"volumes": {"train": {**volume, key: value}}}
        for key in ("raw", "labels", "mask", "compare")
        for value in ({"path": [address]}, [[address]], {address: 1}, {"path": "a", "offset": address})
    ]
    changes += [{"volumes": {"train": {**volume, address: 1}}}, {"volumes": {address: volume}}]
    changes += [{"storage": address}, {"storage": {"address": [address]}}, {"predict": {"volumes": [address]}}]
    changes += [{"predict": {"volumes": ["train"], "scheduler": address}}]
    for change in changes:
        with pytest.raises(ConfigError) as told:
            load_config({"volumes": {"train": volume}, **change})
        assert not any(secret in str(told.value) for secret in SECRETS)


def test_addresses_without_credentials_pass() -> None:
    for address in ("s3://bucket/a:/raw", "abfs://box@account.dfs.core.windows.net/a", "https://host:9000/a.zarr"):
        assert checked_address(address) == address
    values = {"volumes": {"train": {"raw": ["s3://b/a.zarr", "a.h5:/raw"], "labels": "gs://b/l.zarr:/ids"}}}
    config = load_config({**values, "storage": {"address": "s3://b/run/"}})
    assert config.storage.address == "s3://b/run"
    assert source_files(config) == {"volumes.train.raw.1": Path("a.h5")}
    expected = {"volumes.train.raw.0": "s3://b/a.zarr", "volumes.train.labels": "gs://b/l.zarr:/ids"}
    assert source_addresses(config) == expected


def test_what_has_to_lie_on_a_file_system_is_no_address_and_not_repeated() -> None:
    volumes, address = {"train": {"raw": "a.tif", "labels": "b.tif"}}, f"s3://{SECRETS[0]}:{SECRETS[1]}@bucket/x"
    for changes in ({"results": address}, {"model": {"checkpoint": address}}):
        with pytest.raises(ConfigError, match="is an address, but has to lie on a file system") as told:
            load_config({"volumes": volumes, **changes})
        assert not any(secret in str(told.value) for secret in SECRETS)


def test_a_path_is_no_address_of_the_storage() -> None:
    with pytest.raises(ConfigError, match=r"storage.address: got 'here'; an address begins with s3://"):
        load_config({"volumes": {"train": {"raw": "a.tif", "labels": "b.tif"}}, "storage": {"address": "here"}})
