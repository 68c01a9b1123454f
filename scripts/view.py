"""Show a volume of a run in neuroglancer, in a browser, straight from the stores.

Inputs: those of the following that exist: raw, probability, labels and segmentation, the files of `compare`,
`evaluation.json`.

Outputs: a link on the terminal; with `view.state` a file instead, for a neuroglancer of one's own.

1. Collect the layers, and the position that section `view` names.
2. Serve the stores and neuroglancer itself on this machine, until Ctrl-C. Nothing is copied, and nothing is fetched
   from the network.
"""

import json
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

from unet.config.root import Config
from unet.extras import needs
from unet.jobs.script import Terminated, run_script
from unet.run.view.layers import ViewError, view_of
from unet.run.view.server import CLIENT, Content, ViewServer, client_mount
from unet.run.view.state import page_that_opens
from unet.storage.files import write_json

STATE, OPEN = "state.json", "open.html"
"""Where the state is, and the page that opens neuroglancer with it."""
log = logging.getLogger(__name__)


def main(config: Config) -> None:
    """Serve what section `view` of the configuration asks for until Ctrl-C, or write its state to a file."""
    if config.view.state is not None:
        write_state(config, Path(config.view.state))
        return
    client = client_folder()
    server = ViewServer(config.view.port)
    try:
        view = view_of(config, server.url)
        pages = {STATE: json.dumps(view.state).encode(), OPEN: page_that_opens(view.state, CLIENT)}
        server.mounts |= {**view.mounts, CLIENT: client_mount(client)}
        server.mounts |= {name: {"": Content.of_bytes(content)}.get for name, content in pages.items()}
        sys.stderr.write(f"\nOpen {server.url}{OPEN}\nStop with Ctrl-C.\n\n")
        sys.stderr.flush()
        server.serve()
    except (KeyboardInterrupt, Terminated):
        log.info("stopped; the link no longer works")
    finally:
        server.close()


def write_state(config: Config, path: Path) -> None:
    """Write a state for a neuroglancer whose server has the folder of results."""
    address = config.view.address
    if address is None:
        raise ViewError("view.state needs view.address: the address at which your server has the folder of results")
    view = view_of(config, f"{address.rstrip('/')}/", static=True)
    write_json(path, view.state)
    if view.left_out:
        log.info("not in %s, since only `snakemake view` serves them: %s", path, ", ".join(view.left_out))
    log.info("%s is written; open it in neuroglancer, as https://HOST/#!ADDRESS-OF-THE-FILE", path)


def client_folder() -> Path:
    """Return the folder of neuroglancer's client, which the package brings; the package itself is not loaded."""
    found = find_spec("neuroglancer")
    if found is None or not found.submodule_search_locations:
        raise ViewError(f"`snakemake view` {needs('neuroglancer')}")
    return Path(found.submodule_search_locations[0]) / "static" / "client"


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
