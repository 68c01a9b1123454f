"""The core of unet-em: every algorithm, no Snakemake.

Each package answers one question. A package imports from those above it in this table, never from those below.
All may import `unet.extras`, which names the optional packages and how to install them.

```
geometry      Where do voxels, blocks, block ranges and tiles lie?
storage       How are stores and small files written so that each is there whole, or not at all?
config        What did the user ask for?
jobs          How does one job run, report, resume, and share devices with others?
volumes       What does a volume consist of: which files of the user, which stores, which intensities?
network       What is the U-Net, and how does a volume of any size go through it?
segmentation  How do probabilities become objects?
evaluation    How good are the objects?
measurement   What are the objects: how large, of what shape, in contact with which, and what lies inside them?
training      How are the weights learnt?
run           What does a whole run cost, what did it do, and can it be repeated?
```
"""

__version__ = "0.1.0"
