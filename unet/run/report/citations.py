"""Works that a methods paragraph cites, and a text that collects those it has cited."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Work(NamedTuple):
    """A work: how a sentence names it, and its entry in the list of references."""

    short: str
    entry: str


WORKS: Mapping[str, Work] = {
    "unet": Work(
        "Ronneberger et al., 2015",
        "Ronneberger O, Fischer P, Brox T (2015). U-Net: convolutional networks for biomedical image segmentation. "
        "MICCAI, LNCS 9351, 234-241. doi:10.1007/978-3-319-24574-4_28",
    ),
    "fcn8s": Work(
        "Long et al., 2015",
        "Long J, Shelhamer E, Darrell T (2015). Fully convolutional networks for semantic segmentation. CVPR. "
        "doi:10.1109/CVPR.2015.7298965",
    ),
    "residual": Work(
        "He et al., 2016",
        "He K, Zhang X, Ren S, Sun J (2016). Deep residual learning for image recognition. CVPR. "
        "doi:10.1109/CVPR.2016.90",
    ),
    "batch_normalisation": Work(
        "Ioffe and Szegedy, 2015",
        "Ioffe S, Szegedy C (2015). Batch normalization: accelerating deep network training by reducing internal "
        "covariate shift. ICML. doi:10.48550/arXiv.1502.03167",
    ),
    "adamw": Work(
        "Loshchilov and Hutter, 2019",
        "Loshchilov I, Hutter F (2019). Decoupled weight decay regularization. ICLR. doi:10.48550/arXiv.1711.05101",
    ),
    "weight_average": Work(
        "Polyak and Juditsky, 1992",
        "Polyak BT, Juditsky AB (1992). Acceleration of stochastic approximation by averaging. SIAM J Control Optim "
        "30, 838-855. doi:10.1137/0330046",
    ),
    "affinities": Work(
        "Lee et al., 2017",
        "Lee K, Zung J, Li P, Jain V, Seung HS (2017). Superhuman accuracy on the SNEMI3D connectomics challenge. "
        "doi:10.48550/arXiv.1706.00120",
    ),
    "shape_descriptors": Work(
        "Sheridan et al., 2022",
        "Sheridan A et al. (2022). Local shape descriptors for neuron segmentation. Nature Methods. "
        "doi:10.1038/s41592-022-01711-z",
    ),
    "gasp": Work(
        "Bailoni et al., 2022",
        "Bailoni A et al. (2022). GASP, a generalized framework for agglomerative clustering of signed graphs and its "
        "application to instance segmentation. CVPR. doi:10.1109/CVPR52688.2022.01136",
    ),
    "mutex_watershed": Work(
        "Wolf et al., 2018",
        "Wolf S et al. (2018). The mutex watershed: efficient, parameter-free image partitioning. ECCV. "
        "doi:10.1007/978-3-030-01225-0_34",
    ),
    "multicut": Work(
        "Keuper et al., 2015",
        "Keuper M et al. (2015). Efficient decomposition of image and mesh graphs by lifted multicuts. ICCV. "
        "doi:10.1109/ICCV.2015.204",
    ),
    "rand": Work(
        "Arganda-Carreras et al., 2015",
        "Arganda-Carreras I et al. (2015). Crowdsourcing the creation of image segmentation algorithms for "
        "connectomics. Front Neuroanat 9, 142. doi:10.3389/fnana.2015.00142",
    ),
    "voi": Work(
        "Meila, 2007",
        "Meila M (2007). Comparing clusterings: an information based distance. J Multivariate Anal 98, 873-895. "
        "doi:10.1016/j.jmva.2006.11.013",
    ),
    "average_precision": Work(
        "Caicedo et al., 2019",
        "Caicedo JC et al. (2019). Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl. "
        "Nature Methods 16, 1247-1253. doi:10.1038/s41592-019-0612-7",
    ),
    "run_length": Work(
        "Januszewski et al., 2018",
        "Januszewski M et al. (2018). High-precision automated reconstruction of neurons with flood-filling networks. "
        "Nature Methods 15, 605-610. doi:10.1038/s41592-018-0049-4",
    ),
    "snakemake": Work(
        "Mölder et al., 2021",
        "Mölder F et al. (2021). Sustainable data analysis with Snakemake. F1000Research 10, 33. "
        "doi:10.12688/f1000research.29032.2",
    ),
    "pytorch": Work(
        "Paszke et al., 2019",
        "Paszke A et al. (2019). PyTorch: an imperative style, high-performance deep learning library. NeurIPS 32. "
        "doi:10.48550/arXiv.1912.01703",
    ),
}
"""All works that may be cited."""


@dataclass
class CitingText:
    """Sentences of a text, and the works that they cite, in the order of their first citation."""

    sentences: list[str] = field(default_factory=list)
    cited: list[str] = field(default_factory=list)

    def cite(self, *names: str) -> str:
        """Return a citation in brackets, and note the works.

        >>> CitingText().cite("voi", "rand")
        '(Meila, 2007; Arganda-Carreras et al., 2015)'
        """
        self.cited += [name for name in names if name not in self.cited]
        return f"({'; '.join(WORKS[name].short for name in names)})"

    def add(self, sentence: str) -> None:
        """Add a sentence; an empty one is left out."""
        if sentence:
            self.sentences.append(sentence)

    @property
    def text(self) -> str:
        """Return the sentences as one paragraph."""
        return " ".join(self.sentences)

    @property
    def references(self) -> list[str]:
        """Return the entries of the works that were cited, by their names."""
        return sorted(WORKS[name].entry for name in self.cited)
