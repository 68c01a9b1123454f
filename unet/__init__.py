"""The core of unet-em: every algorithm, no Snakemake."""

__version__ = "0.1.0"
