"""One example per section of the configuration, for the reference. Together with the sample each is valid."""

EXAMPLES = {
    "results": """
results: /scratch/me/cortex           # every file of the run lies below this folder
""",
    "sample": """
sample: {sections: 24, size: 512, seed: 1}
""",
    "volumes": """
volumes:
  train:
    raw: data/cortex.h5:/volumes/raw      # a dataset inside an HDF5 file
    labels: data/cortex.h5:/volumes/labels
    voxel_size_nm: [40, 4, 4]             # z, y, x
    sections: [0, 100]
  test:
    raw: data/sections                    # a folder of TIFF or PNG sections
    labels: data/membranes.tif
    label_kind: classes
    class_values: {membrane: 0, interior: 255, ignore: 128}
    voxel_size_nm: [40, 4, 4]
""",
    "storage": """
storage:
  chunk: [8, 128, 128]
  block: [16, 1024, 1024]                 # 16.8 million voxels per block
""",
    "normalisation": """
normalisation: {percentiles: [1, 99]}     # instead of mean and standard deviation
""",
    "model": """
model:
  dimensions: 3
  depth: 4
  base_channels: 24
  normalisation: batch
  pooling: [[1, 2, 2], [1, 2, 2], [2, 2, 2]]     # sections are thick: no pooling along z at first
""",
    "weights": """
weights: {w0: 10, sigma: 5, class_balance: true}       # the paper
""",
    "train": """
train:
  volumes: [train]
  validation: [choice]
  steps: 20000
  tile: 572
  optimizer: adamw
  learning_rate: 0.0003
  augment: {rotation: right, missing_section: 0}
""",
    "predict": """
predict:
  volumes: [train, test]
  test_time_augmentation: symmetries      # 8 times the work
""",
    "slurm": """
predict: {volumes: [train, test], workers: slurm}
slurm: {workers: 16, partition: gpu, gpus: 1, cores: 8, memory_mb: 32000}
""",
    "plan": """
plan: {gpus: 4, gpu_flops: 4.0e+13, gpu_memory_gb: 80, price_per_gpu_hour: 2.5, currency: EUR}
""",
    "segment": """
segment:
  method: watershed
  threshold: 0.3
  connectivity: section
  agglomerate: {method: mean, threshold: auto}
  min_size: 100
""",
    "objects": """
objects: {in_every_run: true}        # objects.csv and contacts.csv of every predicted volume
""",
    "meshes": """
meshes: {ids: {test: [3, 17]}, formats: [obj], reduction: 0.8}
""",
    "skeletons": """
skeletons: {largest: 50, radius_nm: 500}
""",
    "evaluate": """
evaluate:
  volumes: [train, test]
  threshold_volumes: [train]
""",
    "verify": """
verify: {crops: 16, crop_px: 128}
""",
    "export": """
export: {authors: [Ada Lovelace], license: CC-BY-4.0}
""",
    "export_tiff": """
export_tiff: {store: segmentation, box: [[0, 6], [100, 300], [50, 250]]}
""",
    "export_precomputed": """
export_precomputed: {volume: test, stores: [segmentation]}
""",
    "export_webknossos": """
export_webknossos: {volume: test, stores: [raw, segmentation]}
""",
    "report": """
report: {budget_mb: 100}                               # MB of all the viewer's pictures together
""",
    "view": """
view: {volume: test, position: [3, 200, 310]}          # z, y, x in voxels
""",
}
"""YAML by the name of the section."""
