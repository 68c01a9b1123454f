"""Section `storage`: chunks and blocks of the Zarr stores, and where the stores lie."""

from pydantic import Field, field_validator, model_validator

from unet.config.section import Section, Triple
from unet.storage.address import checked_address, is_address


class StorageConfig(Section):
    """Chunks and blocks of the Zarr stores, and where the stores lie."""

    chunk: Triple = Field(
        (8, 128, 128),
        description="Shape (z, y, x) in voxels of a chunk, which is compressed and decompressed as a whole.",
    )
    block: Triple = Field(
        (16, 1024, 1024),
        description="Shape (z, y, x) in voxels of a block: one file of a store (a Zarr shard), and the unit in which a "
        "job reads, computes and writes. It is a whole multiple of the chunk along each axis.",
    )
    address: str | None = Field(
        None,
        description="Address of the object store where the Zarr stores are written, such as `s3://bucket/run`. All "
        "other files, locks included, stay in `results`. With null the Zarr stores are written there as well.",
    )

    @field_validator("address")
    @classmethod
    def _an_address(cls, address: str | None) -> str | None:
        if address is not None and not is_address(address):
            raise ValueError(f"got {address!r}; an address begins with s3:// or the like; for a folder set `results`")
        return address and checked_address(address).rstrip("/")

    @model_validator(mode="after")
    def _whole_chunks(self) -> "StorageConfig":
        if any(b % c for b, c in zip(self.block, self.chunk, strict=True)):
            raise ValueError(f"block {list(self.block)} is not a whole multiple of chunk {list(self.chunk)}")
        return self
