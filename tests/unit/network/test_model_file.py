"""The model file: the same network comes back, no code is run, and what does not fit is refused."""

import pickle
import subprocess
import sys

import pytest
import torch

from unet.config.model import ModelConfig
from unet.network.model import build_model
from unet.network.model_file import load_model, save_model
from unet.network.model_header import ModelFileError, read_header

READERS = pytest.mark.parametrize("read", [load_model, read_header])
MODEL = ModelConfig(depth=2, base_channels=4)


def saved(path, classes=("membrane", "interior"), **keys):
    model = build_model(MODEL, classes=len(classes)).eval()
    save_model(path, model, MODEL, classes, normalisation={"mean": 1.5, "std": 2.0}, **keys)
    return model


def test_a_model_file_gives_the_same_network_and_its_header(tmp_path):
    path = tmp_path / "model.pt"
    model = saved(path, ("membrane", "interior", "glia"), voxel_size_nm=(50, 4, 4), extra={"steps": 7})
    loaded, header = load_model(path)
    image = torch.randn(1, 1, 44, 44)
    assert torch.equal(loaded(image), model(image))
    assert header == read_header(path)
    assert header["model"]["depth"] == 2
    assert header["classes"] == ["membrane", "interior", "glia"]
    assert (header["voxel_size_nm"], header["steps"]) == ([50.0, 4.0, 4.0], 7)
    assert header["normalisation"] == {"mean": 1.5, "std": 2.0}
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_the_header_is_read_without_torch(tmp_path):
    path = tmp_path / "model.pt"
    saved(path, extra={"steps": 7})
    ask = "import sys; from pathlib import Path; from unet.network.model_header import read_header; " + (
        "print(read_header(Path(sys.argv[1]))['steps'], 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", ask, path], capture_output=True, text=True, check=True).stdout
    assert said == "7 False\n"


def test_weights_that_do_not_fit_the_header_are_refused_with_both_shapes(tmp_path):
    path = tmp_path / "model.pt"
    saved(path)
    content = torch.load(path, weights_only=True)
    content["header"]["model"]["base_channels"] = 8
    torch.save(content, path)
    with pytest.raises(ModelFileError, match=r"(?s)weights do not fit.*\[4, 1, 3, 3\].*\[8, 1, 3, 3\]"):
        load_model(path)


@READERS
def test_another_format_is_refused_with_both_values(tmp_path, read):
    path = tmp_path / "model.pt"
    saved(path)
    content = torch.load(path, weights_only=True)
    content["header"]["format"] = "unet-em model 9"
    torch.save(content, path)
    with pytest.raises(ModelFileError, match=r"'unet-em model 9'.*'unet-em model 3'"):
        read(path)


class Evil:
    """Unpickled, it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@READERS
def test_a_file_with_code_in_it_is_refused_and_the_code_not_run(tmp_path, read):
    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    torch.save({"header": Evil(trace), "weights": {}}, path)
    with pytest.raises(ModelFileError, match="not a model file"):
        read(path)
    assert not trace.exists()
    path.write_bytes(pickle.dumps(Evil(trace)))
    with pytest.raises(ModelFileError, match="not a model file"):
        read(path)
    assert not trace.exists()


def write_torchscript(path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)


def write_cut_short(path):
    saved(path)
    path.write_bytes(path.read_bytes()[:2000])


def write_damaged(path):
    """Weights of which a part is overwritten, as a bad disk or copy does."""
    saved(path)
    spoilt = bytearray(path.read_bytes())
    middle = len(spoilt) // 2
    spoilt[middle : middle + 2000] = bytes(byte ^ 255 for byte in spoilt[middle : middle + 2000])
    path.write_bytes(spoilt)


OTHERS = {
    "weights alone": (lambda path: torch.save(torch.nn.Linear(2, 2).state_dict(), path), "weights without an archit"),
    "a network as an object": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "objects of another program"),
    "a tensor": (lambda path: torch.save(torch.zeros(2), path), "a Tensor"),
    "TorchScript": (write_torchscript, "TorchScript"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({1, 2})), "objects of another program"),
    "Keras": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "HDF5, as Keras writes it"),
    "cut short": (write_cut_short, "cut short: copy it again"),
    "text": (lambda path: path.write_bytes(b"not a model"), "a file that PyTorch does not know"),
    "empty": (lambda path: path.touch(), "an empty file"),
}


def test_damaged_weights_are_told_where_they_are_read(tmp_path):
    path = tmp_path / "model.pt"
    write_damaged(path)
    with pytest.raises(ModelFileError, match="a file that is damaged: copy it again"):
        load_model(path)


@READERS
@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_of_another_program_is_named_for_what_it_is(tmp_path, kind, read):
    write, what = OTHERS[kind]
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(ModelFileError, match=what) as refused:
        read(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: not a model file of this workflow, but ")
    assert message.endswith("or leave model.checkpoint out to train one")
    assert "weights_only" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held["header"].pop("classes"), r"its header has no classes; give a model\.pt"),
        (lambda held: held["header"]["model"].update(depth=99), r"model of its header: depth: got 99; .* at most 6"),
        (lambda held: held["weights"]["classifier.bias"].fill_(float("nan")), r"not finite \(classifier\.bias, 1 of"),
    ],
)
def test_a_model_file_that_somebody_has_changed_says_what_is_wrong(tmp_path, change, message):
    path = tmp_path / "model.pt"
    saved(path)
    held = torch.load(path, weights_only=True)
    change(held)
    torch.save(held, path)
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


@READERS
def test_a_model_file_that_cannot_be_read_says_why(tmp_path, read):
    with pytest.raises(ModelFileError, match="no such model"):
        read(tmp_path / "other.pt")
    with pytest.raises(ModelFileError, match=r"cannot be read \(Is a directory\)"):
        read(tmp_path)
