"""Section `storage`: how volumes are cut, and where they lie."""

from pydantic import Field, field_validator, model_validator

from unet.config.section import Section, Triple
from unet.storage.address import checked_address, is_address


class StorageConfig(Section):
    """How volumes are cut, and where they lie."""

    chunk: Triple = Field((8, 128, 128), description="z, y, x of a compressed chunk")
    block: Triple = Field(
        (16, 1024, 1024),
        description="z, y, x of a block: one file, what is computed at once; whole multiples of the chunk",
    )
    address: str | None = Field(
        None,
        description="where the Zarr stores are written, e.g. `s3://bucket/run`; all else, the locks too, stays in "
        "`results`; null: they lie there as well",
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
